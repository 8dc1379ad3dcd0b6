"""In which order a recurrent model finds objects: by place, by size, by encoder activation.

python tools/analyze_order.py --config-file F --weights W [--dataset D | --images DIR]
The sequence: the predicted instances in the order of their steps, overlap resolved as the config
says, without those whose score is below TEST.LABEL_MAP_SCORE_THRESHOLD. Needs no annotations.
"""

import json
import sys
import time
from pathlib import Path

import torch
from detectron2.utils.logger import setup_logger
from visualize import dataset_dicts, image_paths, progress, readable_metadata
from ways import check_at_least, config_parser, load_cfg, part_opts_from_images, run_tool

from instance_seg_analysis.order import measure as order
from instance_seg_analysis.order import plots as order_plots
from instance_seg_common.data.images import load_image
from instance_seg_common.engine.checkpoint import AtomicCheckpointer
from instance_seg_common.engine.predictor import build_predictor, model_input
from instance_seg_common.engine.trainer import build_model_quietly
from instance_seg_common.errors import UserError
from recurrent_instance_seg.inference import score_instances, without_overlap

ARCHITECTURE = "RecurrentInstanceSeg"
DEFINITIONS = {
    "sequence": "predicted instances in the order of their steps; overlap, mask threshold, least "
    "area as in the config; score at least score_threshold, of a mask's likeliest class",
    "location": "centre of mass of the mask, as shares of width and height",
    "tau": "Kendall's tau-b, of each image with two or more objects that the order tells apart; "
    "mean over images; positive: in this order, negative: in the opposite",
    "low, high": "95 % bootstrap interval of the mean over images",
    "null": "99 % of random orders of the same objects have a mean within +- this",
    "spread": "mean of squared tau over its variance in random orders: 1 if orders are random",
    "activation": "mean over the mask's area and all channels, of the block's output as it is; "
    "positive tau: the most active objects are found first",
    "discoveries": "objects found first, second, third; expected and null: in random orders",
    "pairs": f"consecutive predictions more than {order.PAIR_EXTENT:.0%} of the image's extent "
    f"apart on an axis; ordered pairs of predicted classes with {order.MIN_PAIRS} or more",
}


def parse_args(argv=None):
    """Arguments of this tool; KEY VALUE pairs after the files are told from them by their form."""
    first, _, *rest = __doc__.splitlines()
    parser = config_parser(first)
    parser.epilog = " ".join(rest[1:])
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint; default: MODEL.WEIGHTS")
    parser.add_argument(
        "--before", metavar="FILE",
        help="weights with which training began; default: MODEL.WEIGHTS of the config if --weights "
        'names others, else fresh ones, as with ""',
    )  # fmt: skip
    parser.add_argument(
        "--fresh", type=int, default=5, metavar="N", help="how many fresh encoders; default: 5"
    )
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="files, or folders of images")
    parser.add_argument("--max-images", type=int, metavar="N", help="default: all")
    parser.add_argument("--output", default="output/order", help="folder for JSON and plots")
    args = parser.parse_args(argv)
    check_at_least(args, {"max_images": 1, "fresh": 0})
    part_opts_from_images(args)
    return args


def load_configs(args):
    """The config with the weights to analyse; the weights from before training, "" for fresh ones.

    Raises:
        UserError: a model that has no order.
    """
    cfg = load_cfg(args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        raise UserError(
            f"{args.config_file} builds {cfg.MODEL.META_ARCHITECTURE}, which finds all objects at "
            f"once: only {ARCHITECTURE} has an order. Give one of its configs."
        )
    before = args.before
    if before is None:
        named = cfg.MODEL.WEIGHTS
        before = named if args.weights and args.weights != named else ""
    cfg.MODEL.WEIGHTS = args.weights or cfg.MODEL.WEIGHTS
    return cfg, before


def input_files(cfg, args):
    """Files of the images; a name for them; the names of the classes."""
    dataset = args.dataset or next(iter(cfg.DATASETS.TEST), None)
    if args.images:
        files = [str(path) for path in image_paths(args.images)]
        name = f"{args.images[0]} and others" if len(args.images) > 1 else args.images[0]
    else:
        files = [record["file_name"] for record in dataset_dicts(dataset)]
        name = dataset
    metadata = readable_metadata(dataset)
    names = metadata.get("thing_classes", ()) if metadata else ()
    return files[: args.max_images], name, tuple(names)


def encoders_before(cfg, path, count):
    """Encoders as they were before training.

    Args:
        cfg (CfgNode)
        path (str): weights; "" for fresh ones.
        count (int): how many fresh ones, of seeds that follow SEED.

    Returns:
        tuple: {name: backbone}; whether ``path`` has no weights for what follows the bottom-up
        network, such as a feature pyramid.

    Raises:
        UserError: weights that do not fit the encoder.
    """
    if path:
        model = build_model_quietly(cfg)
        checkpointer = AtomicCheckpointer(model)
        checkpointer.load(path)
        absent = [m for m in checkpointer.misfits if m.startswith("backbone.")]
        prefix = "backbone.bottom_up." if hasattr(model.backbone, "bottom_up") else "backbone."
        if any(m.startswith(prefix) for m in absent):
            wrong = next(m for m in absent if m.startswith(prefix))
            raise UserError(
                f"The weights {path} of --before do not fit the encoder ({wrong}). Give those with "
                'which its training began, or --before "" for fresh ones.'
            )
        return {path: model.backbone.eval()}, bool(absent)
    encoders = {}
    for seed in range(max(cfg.SEED, 0), max(cfg.SEED, 0) + count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoders[f"fresh, seed {seed}"] = build_model_quietly(cfg).backbone.eval()
    return encoders, False


class OrderReader:
    """Runs a recurrent model and reads what it found in which order.

    Args:
        cfg (CfgNode): with MODEL.WEIGHTS.
        before (dict[str, nn.Module]): backbones before training.
    """

    def __init__(self, cfg, before):
        self.cfg, self.before = cfg, before
        self.model = build_predictor(cfg)
        # The encoders before training see exactly what the trained one sees.
        self.model.backbone.register_forward_pre_hook(self._keep_input)
        self.left_out = 0

    def _keep_input(self, module, inputs):
        self.encoder_input = inputs[0]

    @torch.no_grad()
    def read(self, file_name):
        """One image.

        Args:
            file_name (str)

        Returns:
            tuple: FoundObjects; {"after" or a name of ``before``: {block: (N,) ndarray}}.
        """
        item = model_input(self.cfg, load_image(file_name))
        masks, classes = self._sequence(item)
        encoders, x = {"after": self.model.backbone, **self.before}, self.encoder_input
        shares, activations = {}, {name: {} for name in encoders}
        for name, encoder in encoders.items():
            for block, features in block_features(encoder, x, self.model.in_features).items():
                grid = tuple(features.shape[-2:])
                if grid not in shares:
                    shares[grid] = order.covered_shares(masks, tuple(x.shape[-2:]), grid)
                activations[name][block] = order.mask_activations(features, shares[grid])
        return order.describe_masks(masks, classes), activations

    def _sequence(self, item):
        """(N, h, w) bool and (N,) int64 of the instances in the order of their steps."""
        sequence, options = self.model.internals([item])[0], self.model.inference
        count = int(sequence["count"])
        masks, threshold = sequence["masks"][:count], options["mask_threshold"]
        masks = without_overlap(masks, options["overlap"], threshold)
        _, scores, classes = score_instances(
            masks, sequence["class_probabilities"][:count], sequence["objectness"][:count],
            options["score"], all_classes=False,
        )  # fmt: skip
        masks = masks > threshold
        # The least area is one of the image, not of the network input.
        scale = item["image"].shape[1] * item["image"].shape[2] / (item["height"] * item["width"])
        least = max(options["min_area"] * scale, 1)
        kept = scores >= self.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD
        kept &= masks.flatten(1).sum(dim=1) >= least
        self.left_out += int((~kept).sum())
        return masks[kept], classes[kept]


def block_features(backbone, x, in_features):
    """What the blocks of an encoder give, deepest first, then the levels that the decoder reads.

    Args:
        backbone (nn.Module): of one image.
        x (Tensor): (1, 3, H, W) float.
        in_features (list[str]): levels, coarsest first.

    Returns:
        dict[str, Tensor]: (C, H', W') by names such as "f0 res5" and "p5".
    """
    bottom_up = getattr(backbone, "bottom_up", backbone)
    blocks, handles = [], []
    for name, child in bottom_up.named_children():
        hook = child.register_forward_hook(lambda _, __, out, name=name: blocks.append((name, out)))
        handles.append(hook)
    try:
        levels = backbone(x)
    finally:
        for handle in handles:
            handle.remove()
    maps = [(name, out) for name, out in blocks if torch.is_tensor(out) and out.dim() == 4]
    found = {f"f{i} {name}": out[0] for i, (name, out) in enumerate(reversed(maps))}
    if bottom_up is not backbone:
        found.update({name: levels[name][0] for name in in_features})
    return found


def read_all(reader, files):
    """All images that can be read; which cannot is said at once.

    Args:
        reader (OrderReader), files (list[str])

    Returns:
        list: file names, FoundObjects, activations, lists of one length.

    Raises:
        UserError: none can be read.
    """
    results = []
    for file_name in progress(files):
        try:
            results.append((file_name, *reader.read(file_name)))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
    if not results:
        raise UserError("No image could be read; the sentences above say why.")
    return [list(column) for column in zip(*results)]


def summarize_activations(activations, before, bottom_up_only):
    """Tau of activations by block, as ``order_plots`` takes them.

    Args:
        activations (list[dict]): of each image, by encoder and block.
        before (list[str]): names of the encoders before training.
        bottom_up_only (bool): only "f" blocks of these are known.
    """

    def summary(encoder, block):
        # The most active come first: keys ascend.
        return order.summarize_taus([-image[encoder][block] for image in activations])

    return {
        block: {
            "after": summary("after", block),
            "before": [
                summary(name, block) for name in before if not bottom_up_only or block[0] == "f"
            ],
        }
        for block in activations[0]["after"]
    }


def plain(value):
    """NamedTuples as dicts and nan as None, for ``json.dump``."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def image_record(file_name, found):
    """One image's sequence for the JSON."""
    return {
        "file": file_name,
        "centers": found.centers.round(4).tolist(),
        "areas": found.areas.round(6).tolist(),
        "classes": found.classes.tolist(),
        "tau": {name: order.order_tau(key) for name, key in order.order_keys(found).items()},
    }


def analyse(images, activations, before, bottom_up_only, class_names):
    """All figures of all images, by name."""
    keys = [order.order_keys(found) for found in images]
    orders = {name: order.summarize_taus([k[name] for k in keys]) for name in order.ORDERS}
    blocks = summarize_activations(activations, before, bottom_up_only)
    num_classes = max([len(class_names)] + [int(f.classes.max(initial=0)) + 1 for f in images])
    pairs = order.pair_shares(images, num_classes)
    return {
        "orders": orders,
        "activations": blocks,
        "pairs": pairs,
        "discoveries": order.discovery_places(images),
        "sentences": order_plots.sentences(orders, blocks, pairs, images, class_names),
    }


def show(results, class_names, note):
    """Print tables and sentences."""
    print(note)
    print("\n" + order_plots.order_table(results["orders"]))
    print("\nnext object, percent (random orders); *: beyond 99 % of random orders\n")
    print(order_plots.pair_table(results["pairs"], class_names))
    print("\ntau of activations with the order, the most active first\n")
    print(order_plots.activation_table(results["activations"]))
    print("\n" + "\n".join(f"- {sentence}" for sentence in results["sentences"]))


def draw(results, images, class_names, folder, title):
    """Write the three plots."""
    order_plots.tau_figure(results["orders"], results["activations"], folder / "tau.png", title)
    order_plots.pair_figure(results["pairs"], class_names, folder / "pairs.png", title)
    order_plots.discovery_figure(images, folder / "discoveries.png", title)


def main(argv=None):
    """Run the model; print tables and sentences, write JSON and plots."""
    args = parse_args(argv)
    setup_logger(name="instance_seg_common")
    cfg, before_weights = load_configs(args)
    files, name, class_names = input_files(cfg, args)
    before, bottom_up_only = encoders_before(cfg, before_weights, args.fresh)
    reader, start = OrderReader(cfg, before), time.perf_counter()
    read, images, activations = read_all(reader, files)
    results = analyse(images, activations, list(before), bottom_up_only, class_names)
    note = (
        f"{name}, {len(images)} images, {sum(len(f.areas) for f in images)} objects in the order "
        f"in which {cfg.MODEL.WEIGHTS} finds them; {reader.left_out} steps left out, empty or with "
        f"a score below {cfg.TEST.LABEL_MAP_SCORE_THRESHOLD:g}"
    )
    show(results, class_names, note)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "dataset": name, "images": len(images), "weights": cfg.MODEL.WEIGHTS,
        "before": list(before), "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        "steps_left_out": reader.left_out, "class_names": class_names,
        "seconds": time.perf_counter() - start, "definitions": DEFINITIONS,
    }  # fmt: skip
    records = [image_record(*pair) for pair in zip(read, images)]
    text = json.dumps(plain({**facts, **results, "sequences": records}), indent=1)
    (folder / "order.json").write_text(text)
    draw(results, images, class_names, folder, f"{name}, {Path(cfg.MODEL.WEIGHTS).name}")
    print(f"figures: {folder / 'order.json'}\nplots: {folder}/tau.png, pairs.png, discoveries.png")
    return 1 if len(read) < len(files) else 0


if __name__ == "__main__":
    run_tool(main)
