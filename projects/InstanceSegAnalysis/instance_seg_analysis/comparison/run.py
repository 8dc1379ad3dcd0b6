"""Several ways of instance segmentation on one data set: scores, time, memory, and what was found.

Every image goes through all ways before the next one does, so that an image that one of them cannot
take is left out for all, and that a busy moment of the machine hits all.

Seconds are split where the maps of the network are complete (``MethodAnalysis.network_parts``): a
proposal-based model's post-processing is decoding and NMS of proposals and of detections, and
pasting masks into the image; an embedding model's is enlarging its maps, clustering, and making
instances of clusters; a recurrent model's is making instances of its masks. Reading
the image is in neither.

Shape shorthand in this module:
    H, W: image   h, w: network input without padding   G: objects   K: components
"""

import contextlib
import io
import multiprocessing
import time
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple, Optional

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from detectron2.modeling.roi_heads import StandardROIHeads
from pycocotools.mask import area as mask_area

from instance_seg_analysis.benchmark.timing import peak_memory
from instance_seg_analysis.methods.base import analysis_of
from instance_seg_common.data.loader import build_test_mapper
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.ap_by_value import ap_by_value, nearest_objects
from instance_seg_common.evaluation.checks import check_prediction
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator
from instance_seg_common.evaluation.contingency import relabel
from instance_seg_common.evaluation.image_report import report_image, truth_of
from instance_seg_common.evaluation.label_map import LabelMapEvaluator, score_label_maps
from instance_seg_common.evaluation.restriction import restrict_evaluators
from instance_seg_common.masks import instances_from_masks

IOU = 0.5
# Objects closer than this touch: annotators often leave a seam of background between two objects.
TOUCHING_PIXELS = 2
# Edges of the bins of crowding and occlusion; a value on an edge belongs to the bin above it.
CROWDING_EDGES = (1, 2, 4)
CROWDING_NAMES = ("0", "1", "2 or 3", "4 or more")
OCCLUSION_EDGES = (1e-9, 0.1, 0.3)
OCCLUSION_NAMES = ("none", "below 10 %", "10 to 30 %", "30 % or more")
SIZE_BINS = 5


class Way(NamedTuple):
    """name: for tables; cfg: its config; model: in evaluation mode; kind: "trained", "classical" or
    "components", of which only the first takes part in how much the ways differ on an image."""

    name: str
    cfg: object
    model: torch.nn.Module
    kind: str = "trained"


class Outcome(NamedTuple):
    """One way on one image.

    prediction: Prediction, what is drawn. judged: Prediction, what is scored. scores: ImageScores
    at IoU 0.5. errors: InstanceErrors of ``judged``. seconds: of the whole model.
    network_seconds: of these, in the network; None where that cannot be told.
    """

    prediction: object
    judged: object
    scores: object
    errors: object
    seconds: float
    network_seconds: Optional[float]


class ImageOutcome(NamedTuple):
    """record: data set dict; truth: Truth; outcomes: {way: Outcome}; found: {way: (G,) bool};
    area, crowding, occlusion: (G,) of :func:`describe_objects`."""

    record: dict
    truth: object
    outcomes: dict
    found: dict
    area: np.ndarray
    crowding: np.ndarray
    occlusion: np.ndarray

    def spread(self, names):
        """How much some ways differ: largest minus smallest matching accuracy, the same of SBD.

        Args:
            names (sequence[str]): of the ways, not empty.

        Returns:
            tuple[float, float]
        """
        scores = [self.outcomes[name].scores for name in names]
        accuracies = [score.matchings[0].accuracy for score in scores]
        sbds = [score.sbd for score in scores]
        return max(accuracies) - min(accuracies), max(sbds) - min(sbds)


class Bin(NamedTuple):
    """name: for an axis; objects: how many there are; found: {way: how many of them it found};
    AP: {way: COCO's mask AP of these objects in percent, None where there is none}."""

    name: str
    objects: int
    found: dict
    AP: dict


@dataclass
class Summary:
    """What is kept of one way.

    Attributes:
        metrics (dict[str, float]): "AP", "AP50", "AP75" in percent; "accuracy", "PQ", "SBD" as
            fractions; "DiC", mean absolute difference in count.
        seconds (float): of the model, mean over images.
        network_seconds, post_seconds (float or None): its two parts.
        peak_bytes (int or None): that a call adds to the process, on the largest image.
        parameters (int)
    """

    name: str
    kind: str
    architecture: str
    weights: str
    metrics: dict
    seconds: float
    network_seconds: Optional[float]
    post_seconds: Optional[float]
    peak_bytes: Optional[int]
    parameters: int


class SemanticComponents(torch.nn.Module):
    """Connected components of a model's own semantic output: objects that touch are one.

    Args:
        model (nn.Module): with ``internals`` that have ``semantic`` and ``foreground``.
        num_classes (int): the value of ``semantic`` that is background.
    """

    def __init__(self, model, num_classes):
        super().__init__()
        self.model, self.num_classes = model, num_classes
        self.min_area = getattr(model, "min_area", 1)

    def forward(self, batched_inputs):
        """As any model; the seconds that ``internals`` takes for clustering are not its own."""
        return [
            {"instances": self.instances(item, internals)}
            for item, internals in zip(batched_inputs, self.model.internals(batched_inputs))
        ]

    def instances(self, item, internals):
        """Instances (height, width) of one image from its internals."""
        semantic = internals["semantic"].cpu().numpy()
        labels, classes = connected_components(semantic, self.num_classes)
        foreground = internals["foreground"].cpu().numpy().ravel()
        counts = np.maximum(np.bincount(labels.ravel(), minlength=len(classes) + 1)[1:], 1)
        sums = np.bincount(labels.ravel(), foreground, minlength=len(classes) + 1)[1:]
        masks = torch.from_numpy(labels)[None] == torch.arange(1, len(classes) + 1)[:, None, None]
        size = tuple(labels.shape)
        return instances_from_masks(
            masks, torch.as_tensor(sums / counts, dtype=torch.float32), torch.as_tensor(classes),
            size, (item.get("height", size[0]), item.get("width", size[1])), min_area=self.min_area,
        )  # fmt: skip


def connected_components(semantic, background):
    """Connected components of each class; pixels are neighbours along rows and columns.

    Args:
        semantic (ndarray): (h, w) int, classes.
        background (int): the class that is not labelled.

    Returns:
        tuple: labels (h, w) int64, 0 is background, 1..K; classes (K,) int64.
    """
    from scipy import ndimage

    labels, classes = np.zeros(semantic.shape, dtype=np.int64), []
    for category in np.unique(semantic):
        if category == background:
            continue
        components, count = ndimage.label(semantic == category)
        labels = np.where(components > 0, components + len(classes), labels)
        classes += [int(category)] * count
    return labels, np.array(classes, dtype=np.int64)


def components_way(way):
    """The baseline of a way that has a semantic output; None for other ways."""
    background = getattr(way.model, "num_classes", None)
    announced = analysis_of(way.cfg.MODEL.META_ARCHITECTURE)
    if not announced.semantic_output or background is None:
        return None
    cfg = way.cfg.clone()
    cfg.defrost()
    # A component's score only ranks it: all that is foreground counts.
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.0
    name = f"connected components of {way.name}"
    return Way(name, cfg, SemanticComponents(way.model, background), "components")


class NetworkClock:
    """Adds up the seconds within some functions of a model while it is entered.

    Args:
        model (nn.Module)
        paths (sequence[str]): such as "backbone.forward"; functions of the model's parts.
    """

    def __init__(self, model, paths):
        self.seconds, self._depth = 0.0, 0
        self._places = [self._place(model, path) for path in paths]

    @staticmethod
    def _place(model, path):
        *owners, name = path.split(".")
        return reduce(getattr, owners, model), name

    def __enter__(self):
        for owner, name in self._places:
            # On the object, where it hides the function of its class.
            owner.__dict__[name] = self._timed(getattr(owner, name))
        return self

    def __exit__(self, *_):
        for owner, name in self._places:
            del owner.__dict__[name]

    def _timed(self, function):
        def timed(*args, **kwargs):
            self._depth += 1
            start = _now()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += _now() - start

        return timed


def _now():
    """Seconds; work that was handed to a GPU before is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def network_parts(way):
    """Paths of a way's network, or None where its seconds cannot be split."""
    architecture = way.cfg.MODEL.META_ARCHITECTURE
    heads = getattr(way.model, "roi_heads", None)
    if heads is not None and type(heads) is not StandardROIHeads:
        return None  # others call other parts, such as a cascade's
    parts = analysis_of(architecture).network_parts
    for path in parts or ():
        try:
            reduce(getattr, path.split("."), way.model)
        except AttributeError:
            return None
    return parts


@torch.no_grad()
def timed_call(way, item):
    """One image through a way.

    Args:
        way (Way)
        item (dict): what the model takes.

    Returns:
        tuple: Instances on the CPU; seconds; seconds of these in the network, or None.
    """
    if way.kind == "components":
        return _timed_components(way, item)
    paths = network_parts(way)
    with NetworkClock(way.model, paths or ()) as clock:
        start = _now()
        instances = way.model([item])[0]["instances"]
        seconds = _now() - start
    return instances.to("cpu"), seconds, None if paths is None else clock.seconds


def _timed_components(way, item):
    """As :func:`timed_call`, without the clustering that ``internals`` does besides."""
    with NetworkClock(
        way.model.model, analysis_of(way.cfg.MODEL.META_ARCHITECTURE).network_parts
    ) as clock:
        internals = way.model.model.internals([item])[0]
    start = _now()
    instances = way.model.instances(item, internals)
    return instances, clock.seconds + _now() - start, clock.seconds


class Contest:
    """Runs ways over images and sums up.

    Args:
        ways (list[Way])
        dataset_name (str): registered; its metadata has ``thing_classes``.
    """

    def __init__(self, ways, dataset_name):
        self.ways = ways
        self._num_classes = len(MetadataCatalog.get(dataset_name).thing_classes)
        self._judges = {way.name: _Judges(way.cfg, dataset_name) for way in ways}
        self._mappers = {way.name: build_test_mapper(way.cfg) for way in ways}
        self.largest = None
        self.images = []
        self._values = {key: {} for key in ("size", "crowding", "occlusion")}

    def warm_up(self, record):
        """Run all ways on an image that is not counted: first calls take longer."""
        for way in self.ways:
            timed_call(way, self._mappers[way.name](record))

    def add(self, record):
        """Run all ways on an image.

        Args:
            record (dict): of the data set, with annotations.

        Returns:
            ImageOutcome

        Raises:
            UserError: the image or a prediction cannot be used; nothing of it is kept.
        """
        truth = truth_of(record)
        runs = {}
        for way in self.ways:
            item = self._mappers[way.name](record)
            runs[way.name] = (item, *timed_call(way, item))
            check_prediction(item, runs[way.name][1], self._num_classes)
        image = _image_outcome(self.ways, record, truth, runs)
        self._describe_annotations(image)
        for name, (item, instances, *_) in runs.items():
            self._judges[name].process(item, instances)
        if self.largest is None or _pixels(record) > _pixels(self.largest):
            self.largest = record
        self.images.append(_without_maps(image))
        return image

    def item(self, way, record):
        """What a way's model takes for an image."""
        return self._mappers[way.name](record)

    def summary(self, way, memory=True):
        """Scores and costs of a way on the images that were added.

        Args:
            way (Way): one of them.
            memory (bool): measure the peak memory, which runs the largest image twice more.

        Returns:
            Summary
        """
        outcomes = [image.outcomes[way.name] for image in self.images]
        seconds = float(np.mean([o.seconds for o in outcomes]))
        network = None
        if all(o.network_seconds is not None for o in outcomes):
            network = float(np.mean([o.network_seconds for o in outcomes]))
        peak = peak_of(way, self.item(way, self.largest)) if memory else None
        return Summary(
            name=way.name, kind=way.kind, architecture=way.cfg.MODEL.META_ARCHITECTURE,
            weights=way.cfg.MODEL.WEIGHTS,
            metrics=self._judges[way.name].metrics([x.record["image_id"] for x in self.images]),
            seconds=seconds, network_seconds=network,
            post_seconds=None if network is None else seconds - network, peak_bytes=peak,
            parameters=sum(p.numel() for p in way.model.parameters()),
        )  # fmt: skip

    def _describe_annotations(self, image):
        """Keep size, crowding and occlusion of COCO's annotations of an image."""
        labels = image.truth.labels
        columns = (image.area, image.crowding, image.occlusion)
        described = dict(zip(np.unique(labels[labels > 0]).tolist(), zip(*columns)))
        annotations = self._judges[self.ways[0].name].coco.coco_api.imgToAnns
        objects = [a for a in annotations[image.record["image_id"]] if not a.get("iscrowd", 0)]
        # The i-th object has id i in the label map; others may hide it.
        for label, annotation in enumerate(objects, start=1):
            for values, value in zip(self._values.values(), described.get(label, ())):
                values[annotation["id"]] = float(value)

    def bins(self):
        """What was found by what an object is like, after ``summary`` of every way.

        Returns:
            dict[str, list[Bin]]: "size", "crowding" and "occlusion".
        """
        size, crowding, occlusion = (
            np.concatenate([getattr(image, key) for image in self.images] or [np.zeros(0)])
            for key in ("area", "crowding", "occlusion")
        )
        found = {
            way.name: np.concatenate([image.found[way.name] for image in self.images])
            for way in self.ways
        }
        edges = size_edges(size)
        kinds = {
            "size": (size, edges, size_names(edges)),
            "crowding": (crowding, CROWDING_EDGES, CROWDING_NAMES),
            "occlusion": (occlusion, OCCLUSION_EDGES, OCCLUSION_NAMES),
        }
        result = {}
        for kind, (values, bounds, names) in kinds.items():
            precisions = {
                name: judges.precision(bounds, self._values[kind], own=kind == "size")
                for name, judges in self._judges.items()
            }
            result[kind] = bins_of(values, bounds, names, found, precisions)
        return result


class _Judges:
    """COCO's AP and the label map scores of one way."""

    def __init__(self, cfg, dataset_name):
        self.coco = InstanceCOCOEvaluator(
            dataset_name, max_dets_per_image=cfg.TEST.DETECTIONS_PER_IMAGE, distributed=False
        )
        self.label_map = LabelMapEvaluator(
            dataset_name, cfg.TEST.LABEL_MAP_SCORE_THRESHOLD, cfg.TEST.LABEL_MAP_MIN_AREA,
            distributed=False,
        )  # fmt: skip
        judges = restrict_evaluators(cfg, dataset_name, [self.coco, self.label_map])
        self._all = DatasetEvaluators(judges)
        self._all.reset()

    def process(self, item, instances):
        self._all.process([item], [{"instances": instances}])

    def metrics(self, image_ids):
        """See :class:`Summary`; AP is of the images that were processed, not of the whole set."""
        with contextlib.redirect_stdout(io.StringIO()):
            segm = self.coco.evaluate(img_ids=image_ids)["segm"]
            rest = self.label_map.evaluate()
        return {
            **{key: float(segm[key]) for key in ("AP", "AP50", "AP75")},
            "accuracy": rest["matching"]["accuracy50"],
            "PQ": rest["matching"]["pq50"],
            "SBD": rest["sbd"]["SBD"],
            "DiC": rest["dic"]["DiC"],
        }

    def precision(self, edges, of_objects, own):
        """AP of each bin, after ``metrics``.

        Args:
            edges, of_objects: as :func:`ap_by_value`.
            own (bool): a prediction's value is its own area; else that of the object it overlaps
                most, 0 without any.
        """
        evaluation = self.coco.evaluations["segm"]
        predictions = evaluation.cocoDt.anns
        if own:
            values = {i: float(mask_area(p["segmentation"])) for i, p in predictions.items()}
        else:
            nearest = nearest_objects(evaluation)
            values = {i: of_objects.get(nearest.get(i), 0.0) for i in predictions}
        return ap_by_value(evaluation, edges, of_objects=of_objects, of_predictions=values)


def _pixels(record):
    return record["height"] * record["width"]


def _image_outcome(ways, record, truth, runs):
    outcomes, found = {}, {}
    ids = np.unique(truth.labels[truth.labels > 0])
    for way in ways:
        _, instances, seconds, network = runs[way.name]
        _, drawn, judged, errors = report_image(
            truth,
            instances,
            score_threshold=way.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            min_area=way.cfg.TEST.LABEL_MAP_MIN_AREA,
            iou_threshold=IOU,
        )
        scores = score_label_maps(relabel(truth.labels), judged.labels, iou_thresholds=(IOU,))
        outcomes[way.name] = Outcome(drawn, judged, scores, errors, seconds, network)
        found[way.name] = np.isin(ids, [g for g, _ in errors.matched])
    return ImageOutcome(record, truth, outcomes, found, *describe_objects(truth.labels))


def _without_maps(image):
    """The same without what fills memory; the pictures are made before."""
    outcomes = {
        name: outcome._replace(prediction=None, judged=None)
        for name, outcome in image.outcomes.items()
    }
    return image._replace(truth=None, outcomes=outcomes)


def describe_objects(labels):
    """Size, crowding and occlusion of each object.

    Args:
        labels (ndarray): (H, W) int, 0 is background.

    Returns:
        tuple: areas (G,) int64 in pixels; crowding (G,) int64, how many other objects are within
        ``TOUCHING_PIXELS``; occlusion (G,) float64, the share of the object's outline that has a
        pixel of another object among its eight neighbours. Ids ascend.
    """
    ids = np.unique(labels[labels > 0])
    slices = _bounding_slices(labels, ids, TOUCHING_PIXELS)
    rows = [_describe_object(labels[s], i) for i, s in zip(ids, slices)]
    areas, crowding, occlusion = zip(*rows) if rows else ((), (), ())
    return np.array(areas, np.int64), np.array(crowding, np.int64), np.array(occlusion, float)


def _bounding_slices(labels, ids, margin):
    from scipy import ndimage

    boxes = ndimage.find_objects(labels.astype(np.int64))
    for i in ids:
        yield tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in boxes[i - 1])


def _describe_object(crop, label):
    """Area, number of neighbours and share of the outline next to them, of one id in its crop."""
    from scipy import ndimage

    mask = crop == label
    others = (crop > 0) & ~mask
    square = np.ones((3, 3), dtype=bool)
    reach = ndimage.binary_dilation(mask, square, iterations=TOUCHING_PIXELS)
    neighbours = len(np.unique(crop[reach & others]))
    # Beyond the rim of the image there is nothing: no pixel there ends the object.
    outline = mask & ~ndimage.binary_erosion(mask, square, border_value=1)
    shared = outline & ndimage.binary_dilation(others, square)
    return int(mask.sum()), neighbours, float(shared.sum() / max(outline.sum(), 1))


def size_edges(areas):
    """Edges between ``SIZE_BINS`` bins of about as many objects each: (n,) ascending, distinct."""
    if len(areas) == 0:
        return np.zeros(0)
    quantiles = np.quantile(areas, np.linspace(0, 1, SIZE_BINS + 1)[1:-1])
    edges = np.unique(np.round(quantiles))
    return edges[edges > np.min(areas)]


def size_names(edges):
    """Texts of the bins between edges, in pixels."""
    if len(edges) == 0:
        return ("all",)
    middle = [f"{a:g} to {b - 1:g}" for a, b in zip(edges[:-1], edges[1:])]
    return (f"below {edges[0]:g}", *middle, f"{edges[-1]:g} or more")


def bins_of(values, edges, names, found, precisions):
    """Objects by the bin of a value.

    Args:
        values (ndarray): (G,) numbers.
        edges (sequence): n ascending; a value on an edge belongs to the bin above it.
        names (sequence[str]): n + 1.
        found (dict[str, ndarray]): way -> (G,) bool.
        precisions (dict[str, list]): way -> AP of each bin, n + 1.

    Returns:
        list[Bin]: n + 1; bins without objects are among them.
    """
    index = np.searchsorted(np.asarray(edges), values, side="right")
    return [
        Bin(
            name,
            int((index == n).sum()),
            {way: int(f[index == n].sum()) for way, f in found.items()},
            {way: of_bins[n] for way, of_bins in precisions.items()},
        )
        for n, name in enumerate(names)
    ]


def peak_of(way, item):
    """Memory that a call adds at its peak.

    On a GPU what torch allocates there; else what the process grows by, measured in a forked copy
    of it that has called the model once before, on one thread.

    Args:
        way (Way)
        item (dict): what the model takes.

    Returns:
        int or None: bytes; None where it cannot be measured (not Linux).
    """

    @torch.no_grad()
    def call():
        way.model([item])

    if way.cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    try:
        return peak_memory(call)
    except (EOFError, OSError):  # the copy ended without an answer: no /proc
        return None


@dataclass
class Failures:
    """Images that could not be done, and why."""

    sentences: list = field(default_factory=list)

    def attempt(self, function, *args):
        """The function's result, or None where it raises a UserError, which is kept."""
        try:
            return function(*args)
        except UserError as error:
            self.sentences.append(str(error))
            return None
