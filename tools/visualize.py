"""Pictures of a data set, of what training sees, and of predictions; predictions as files.

python tools/visualize.py --config-file F --source annotation|dataloader|prediction [KEY VALUE ...]
"""

import sys
from collections import Counter
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tqdm import tqdm
from ways import check_at_least, config_parser, load_cfg, part_opts_from_images, run_tool

from instance_seg_analysis.methods.base import (
    check_drawable,
    compute_internals,
    internals_panel,
)
from instance_seg_common.data.images import image_header, load_image
from instance_seg_common.data.loader import build_train_mapper
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor, model_input, predict
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.image_report import prediction_of, truth_of
from instance_seg_common.evaluation.label_map import predicted_label_map, score_label_maps
from instance_seg_common.visualization import panels, saving

DEFAULT_IMAGES = 16


def parse_args(argv=None):
    """Arguments of this tool; KEY VALUE pairs after the files are told from them by their form."""
    parser = config_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--source", required=True, choices=("annotation", "dataloader", "prediction")
    )
    parser.add_argument("--dataset", help="default: DATASETS.TEST[0]; dataloader: TRAIN[0]")
    parser.add_argument("--weights", help="a checkpoint; default: MODEL.WEIGHTS")
    parser.add_argument(
        "--images", nargs="+", metavar="PATH", help="predict these files, or all of a folder"
    )
    parser.add_argument("--output", default=None, help="default: OUTPUT_DIR/pictures/SOURCE")
    parser.add_argument("--max-images", type=int, help=f"default: {DEFAULT_IMAGES}; files: all")
    parser.add_argument(
        "--compare", nargs=2, action="append", default=[], metavar=("CONFIG", "WEIGHTS"),
        help="this model's prediction in the same picture; may be given several times",
    )  # fmt: skip
    parser.add_argument("--sort", choices=("worst",), help="lowest accuracy, then SBD, first")
    parser.add_argument("--internals", action="store_true", help="also what happens in the model")
    parser.add_argument("--save", choices=("label-map", "coco-json"), help="predictions as files")
    args = parser.parse_args(argv)
    part_opts_from_images(args)
    return args


def check_args(args):
    """Say which options do not go together."""
    prediction_only = {
        "--images": args.images,
        "--compare": args.compare,
        "--internals": args.internals,
        "--sort": args.sort,
        "--weights": args.weights,
    }
    given = [name for name, value in prediction_only.items() if value]
    if given and args.source != "prediction":
        raise UserError(f"{given[0]} needs --source prediction, not {args.source}.")
    if args.sort and args.images:
        raise UserError("--sort needs a data set with annotations; leave out --images.")
    if args.compare and (args.internals or args.sort or args.save):
        raise UserError("--compare draws predictions only; leave out --internals, --sort, --save.")
    allowed = {"prediction": ("label-map", "coco-json"), "annotation": ("label-map",)}
    if args.save and args.save not in allowed.get(args.source, ()):
        raise UserError(f"--save {args.save} is not possible with --source {args.source}.")
    check_at_least(args, {"max_images": 1})


class Writer:
    """Names and writes the pictures and files of one call.

    Args:
        folder (Path): created if absent.
    """

    def __init__(self, folder):
        self.folder = folder
        self.names = set()
        self.pictures = 0
        self.failures = 0
        self.results = []

    def name(self, file_name, prefix=""):
        """A name for this image; images of one stem from several folders get numbers."""
        stem = prefix + Path(file_name).stem
        name, number = stem, 2
        while name in self.names:
            name, number = f"{stem}_{number}", number + 1
        self.names.add(name)
        return name

    def picture(self, array, name):
        """Write (H, W, 3) uint8 RGB as ``name``.png."""
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(self.folder / f"{name}.png")
        self.pictures += 1

    def label_map(self, labels, name):
        """Write (H, W) ids below ``label_maps``."""
        saving.save_label_map(labels, self.folder / "label_maps" / name)

    def attempt(self, function, *args):
        """Run it; what fails is reported and counted, and the other images are still done."""
        try:
            function(*args)
        except UserError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)  # above the progress bar
            self.failures += 1

    def finish(self, save):
        """Write what was collected and sum up; returns the exit status."""
        if save == "coco-json":
            path = saving.save_coco_results(
                self.results, self.folder / "coco_instances_results.json"
            )
            print(f"detections ({len(self.results)}): {path}")
        elif save:
            print(f"label maps: {self.folder / 'label_maps'}")
        print(f"pictures ({self.pictures}): {self.folder}")
        if self.failures:
            print(f"images that could not be done: {self.failures}, see above", file=sys.stderr)
        return 1 if self.failures else 0


class PredictionDrawer:
    """Predicts, draws and saves one image after the other.

    Args:
        cfg (CfgNode): with MODEL.WEIGHTS set.
        args (Namespace): of :func:`parse_args`.
        writer (Writer): takes the results.
        metadata (Metadata or None): class names and category ids.
    """

    def __init__(self, cfg, args, writer, metadata):
        self.cfg, self.args, self.writer, self.metadata = cfg, args, writer, metadata
        if args.internals:
            check_drawable(cfg.MODEL.META_ARCHITECTURE)
        self.model = build_predictor(cfg)
        self.class_names = metadata.get("thing_classes", ()) if metadata else ()
        self.label_map_options = {
            "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            "min_area": cfg.TEST.LABEL_MAP_MIN_AREA,
        }

    def draw(self, dataset_dict, prefix="", note=""):
        """Predict, draw and save one image; without annotations it is drawn without errors."""
        file_name = dataset_dict["file_name"]
        image = load_image(file_name)
        instances = predict(self.cfg, self.model, image, file_name=file_name)
        name = self.writer.name(file_name, prefix)
        options = {"class_names": self.class_names, **self.label_map_options}
        if "annotations" in dataset_dict:
            picture = panels.prediction_panel(dataset_dict, instances, note=note, **options)
        else:
            title = Path(file_name).name
            picture = panels.plain_prediction_panel(image, instances, title, **options)
        self.writer.picture(picture, name)
        if self.args.internals:
            self.writer.picture(self._internals(image, dataset_dict), f"{name}_internals")
        self._save(instances, dataset_dict, name)

    def _internals(self, image, dataset_dict):
        internals = compute_internals(
            self.cfg.MODEL.META_ARCHITECTURE, self.model, [model_input(self.cfg, image)]
        )[0]
        name = Path(dataset_dict["file_name"]).name
        dataset_dict = {**dataset_dict, "thing_classes": self.class_names}
        architecture = self.cfg.MODEL.META_ARCHITECTURE
        return internals_panel(architecture, image, internals, dataset_dict=dataset_dict, name=name)

    def _save(self, instances, dataset_dict, name):
        if self.args.save == "label-map":
            labels = prediction_of(instances, **self.label_map_options).labels
            self.writer.label_map(labels, name)
        elif self.args.save == "coco-json":
            image_id = dataset_dict["image_id"]
            self.writer.results += saving.coco_results(instances, image_id, self.metadata)

    def score(self, dataset_dict):
        """(accuracy at IoU 0.5, SBD) of one image, as the evaluators have them."""
        image = load_image(dataset_dict["file_name"])
        instances = predict(self.cfg, self.model, image, file_name=dataset_dict["file_name"])
        truth = truth_of(dataset_dict)
        labels = predicted_label_map(
            instances, truth.labels, truth.ignore, **self.label_map_options
        )
        scores = score_label_maps(truth.labels, labels, iou_thresholds=(0.5,))
        return scores.matchings[0].accuracy, scores.sbd


def draw_comparison(cfg, args, writer):
    """--compare: the same images by several models."""
    cfgs = [cfg]
    for config_file, weights in args.compare:
        other = load_cfg(config_file, args.opts)
        other.MODEL.WEIGHTS = weights
        cfgs.append(other)
    titles = model_titles([(args.config_file, cfg.MODEL.WEIGHTS), *args.compare])
    dicts, metadata = images_to_predict(cfg, args)
    class_names = metadata.get("thing_classes", ()) if metadata else ()
    models = [build_predictor(c) for c in cfgs]

    def draw(item):
        image = load_image(item["file_name"])
        predictions = []
        for title, one, model in zip(titles, cfgs, models):
            instances = predict(one, model, image, file_name=item["file_name"])
            limits = one.TEST.LABEL_MAP_SCORE_THRESHOLD, one.TEST.LABEL_MAP_MIN_AREA
            predictions.append((title, prediction_of(instances, *limits)))
        picture = panels.comparison_panel(item, predictions, class_names)
        writer.picture(picture, writer.name(item["file_name"]))

    for item in progress(dicts):
        writer.attempt(draw, item)


def model_titles(models):
    """Names of (config, weights): that of the config, and of the weights where it is not enough."""
    stems = [Path(config).stem for config, _ in models]
    return [
        f"{stem}, {Path(weights).stem}" if stems.count(stem) > 1 and weights else stem
        for stem, (_, weights) in zip(stems, models)
    ]


def draw_predictions(cfg, args, writer):
    """--source prediction, on a data set or on image files."""
    if args.compare:
        draw_comparison(cfg, args, writer)
        return
    dicts, metadata = images_to_predict(cfg, args)
    drawer = PredictionDrawer(cfg, args, writer, metadata)
    if args.sort:
        draw_worst(drawer, dicts, args.max_images or DEFAULT_IMAGES)
        return
    for item in progress(dicts):
        writer.attempt(drawer.draw, item)


def images_to_predict(cfg, args):
    """What to predict: --images, or a data set; as many as --max-images, to sort all of them.

    Args:
        cfg (CfgNode): names the data set if ``args`` do not.
        args (Namespace): of :func:`parse_args`.

    Returns:
        tuple: list[dict] with ``file_name`` and ``image_id``, of a data set also with its
        annotations; Metadata of the data set, or None.
    """
    name = args.dataset or next(iter(cfg.DATASETS.TEST), None)
    if args.images:
        paths = image_paths(args.images)[: args.max_images]
        names = Counter(path.name for path in paths)
        dicts = [
            # The ids of saved detections: names, and paths where names do not tell files apart.
            {"file_name": str(p), "image_id": p.name if names[p.name] == 1 else str(p)}
            for p in paths
        ]
        return dicts, readable_metadata(name)
    dicts = dataset_dicts(name)
    limit = None if args.sort else args.max_images or DEFAULT_IMAGES
    return dicts[:limit], MetadataCatalog.get(name)


def image_paths(paths):
    """The files among some paths as they are, and the images of the folders among them.

    Args:
        paths (list[str]): files and folders.

    Returns:
        list[Path]: of each folder the images directly in it, by name.

    Raises:
        UserError: a folder without images.
    """
    found = []
    for path in map(Path, paths):
        found += images_in(path) if path.is_dir() else [path]
    return found


def images_in(folder):
    """The images of one folder; how many other files it has is said."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(f"The folder {folder} of --images cannot be read: {error}.") from error
    images = [path for path in files if is_image(path)]
    others = len(files) - len(images)
    if not images:
        raise UserError(
            f"The folder {folder} of --images has no image that can be read (other files: "
            f"{others}); give a folder that has images directly in it."
        )
    if others:
        skipped = next(path.name for path in files if path not in images)
        said = f"{folder}: files that are no images, left out: {others}, such as {skipped}"
        print(said, file=sys.stderr)
    return images


def is_image(path):
    """Whether the header of a file is that of an image."""
    try:
        image_header(path)
    except UserError:
        return False
    return True


def progress(items, what="images"):
    """The items, with a bar on stderr if that is a terminal and TQDM_DISABLE is not set."""
    # Saying disable=False would overrule TQDM_DISABLE.
    off = {} if sys.stderr.isatty() else {"disable": True}
    return tqdm(items, desc=what, unit="image", **off)


def readable_metadata(name):
    """Metadata of a data set for naming classes, None where it is not registered or not there."""
    if name not in DatasetCatalog.list():
        return None
    metadata = MetadataCatalog.get(name)
    try:
        metadata.get("thing_classes", ())  # some sets read them from a file
    except UserError as error:
        print(f"Going on without names of classes: {error}", file=sys.stderr)
        return None
    return metadata


def draw_worst(drawer, dicts, limit):
    """Score all images, then draw the ``limit`` worst, numbered from the worst on."""
    scored = []
    for index, item in enumerate(progress(dicts, "scores")):
        drawer.writer.attempt(lambda i, x: scored.append((*drawer.score(x), i)), index, item)
    worst = sorted(scored)[:limit]
    for rank, (accuracy, sbd, index) in enumerate(progress(worst), start=1):
        note = f"number {rank} from the worst: accuracy {accuracy:.2f}, SBD {sbd:.2f}"
        drawer.writer.attempt(drawer.draw, dicts[index], f"{rank:03d}_", note)


def draw_annotations(cfg, args, writer):
    """--source annotation."""
    name = args.dataset or next(iter(cfg.DATASETS.TEST), None)
    dicts = dataset_dicts(name)
    class_names = MetadataCatalog.get(name).get("thing_classes", ())

    def draw(item):
        picture = panels.annotation_panel(item, class_names)
        stem = writer.name(item["file_name"])
        writer.picture(picture, stem)
        if args.save:
            writer.label_map(truth_of(item).labels, stem)

    for item in progress(dicts[: args.max_images or DEFAULT_IMAGES]):
        writer.attempt(draw, item)


def draw_dataloader(cfg, args, writer):
    """--source dataloader: what the training mapper makes of each image."""
    name = args.dataset or next(iter(cfg.DATASETS.TRAIN), None)
    dicts = dataset_dicts(name)
    class_names = MetadataCatalog.get(name).get("thing_classes", ())
    mapper = build_train_mapper(cfg)

    def draw(item):
        picture = panels.dataloader_panel(mapper(item), cfg.INPUT.FORMAT, class_names)
        writer.picture(picture, writer.name(item["file_name"]))

    for item in progress(dicts[: args.max_images or DEFAULT_IMAGES]):
        writer.attempt(draw, item)


def dataset_dicts(name):
    """The dicts of a registered data set; a sentence where the config names none."""
    if name is None:
        raise UserError("The config names no data set. Give --dataset NAME or DATASETS.TEST.")
    return get_dataset_dicts(name)


SOURCES = {
    "annotation": draw_annotations,
    "dataloader": draw_dataloader,
    "prediction": draw_predictions,
}


def main(argv=None):
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    check_args(args)
    cfg = load_cfg(args.config_file, args.opts)
    if args.weights:
        cfg.MODEL.WEIGHTS = args.weights
    cfg.freeze()
    folder = args.output or Path(cfg.OUTPUT_DIR) / "pictures" / args.source
    writer = Writer(Path(folder))
    SOURCES[args.source](cfg, args, writer)
    return writer.finish(args.save)


if __name__ == "__main__":
    run_tool(main)
