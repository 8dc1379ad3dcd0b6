"""The whole analysis of the order: a model and images in, figures, sentences and plots out."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from detectron2.config import CfgNode

from instance_seg_analysis.order.encoders import EarlierEncoder, encoders_before
from instance_seg_analysis.order.objects import FoundObjects
from instance_seg_analysis.order.pairs import MIN_PAIRS, PAIR_EXTENT, PairShares, pair_shares
from instance_seg_analysis.order.places import Place, discovery_places
from instance_seg_analysis.order.plots import discovery_figure, pair_figure, tau_figure
from instance_seg_analysis.order.reader import OrderReader, ReadImage
from instance_seg_analysis.order.sentences import sentences
from instance_seg_analysis.order.tables import activation_table, order_table, pair_table
from instance_seg_analysis.order.tau import (
    ORDERS,
    BlockTaus,
    TauSummary,
    order_keys,
    order_tau,
    summarize_activations,
    summarize_taus,
)
from instance_seg_common.engine.chosen_images import progress
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import load_cfg, load_model_cfg, parse_model
from instance_seg_common.errors import UserError
from recurrent_instance_seg import RecurrentInstanceSeg

Record = Mapping[str, Any]
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
    "pairs": f"consecutive predictions more than {PAIR_EXTENT:.0%} of the image's extent "
    f"apart on an axis; ordered pairs of predicted classes with {MIN_PAIRS} or more",
}


class OrderModel(NamedTuple):
    """A recurrent model: its config, the model in evaluation mode, its encoders before training."""

    cfg: CfgNode
    model: RecurrentInstanceSeg
    before: dict[str, EarlierEncoder]


class OrderFigures(NamedTuple):
    """orders: by the names of ORDERS; activations: by block, deepest first; pairs: all, then by
    classes; discoveries: by rank; sentences: what holds."""

    orders: dict[str, TauSummary]
    activations: dict[str, BlockTaus]
    pairs: list[PairShares]
    discoveries: list[Place]
    sentences: list[str]


class OrderResult(NamedTuple):
    """dataset: its name; model; images: those that were read; class_names; figures: of all images;
    failures: sentences on files that cannot be read; seconds: that it took."""

    dataset: str
    model: OrderModel
    images: list[ReadImage]
    class_names: tuple[str, ...]
    figures: OrderFigures
    failures: list[str]
    seconds: float

    @property
    def steps_left_out(self) -> int:
        """Of all images: steps that are no instance, empty or with too low a score."""
        return sum(image.left_out for image in self.images)


def load_order_model(
    name: str, opts: Sequence[str] = (), *, before: Optional[str] = None, fresh: int = 5
) -> OrderModel:
    """Load a recurrent model and its encoders before training.

    Args:
        name (str): as ``--model`` takes it.
        opts (list[str]): ``KEY VALUE`` pairs.
        before (str or None): of :func:`weights_before`.
        fresh (int): how many fresh encoders, where training began with none.

    Raises:
        UserError: a model that has no order, or weights that do not fit.
    """
    cfg = order_cfg(name, opts)
    encoders = encoders_before(cfg, weights_before(name, opts, given=before), fresh)
    return OrderModel(cfg, build_predictor(cfg), encoders)


def order_cfg(name: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of a model; a UserError unless it finds one object after the other."""
    cfg = load_model_cfg(name, opts)
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        raise UserError(
            f"{name} builds {cfg.MODEL.META_ARCHITECTURE}, which finds all objects at once: only "
            f"{ARCHITECTURE} has an order. Give one of its configs."
        )
    return cfg


def weights_before(name: str, opts: Sequence[str] = (), *, given: Optional[str] = None) -> str:
    """The weights with which training began, "" for fresh ones.

    Args:
        name (str), opts (list[str]): of :func:`load_order_model`.
        given (str or None): by the user; None: MODEL.WEIGHTS of the config alone, if other weights
            are analysed, else fresh ones.
    """
    if given is not None:
        return given
    start = load_cfg(parse_model(name).config, opts).MODEL.WEIGHTS
    return start if start != load_model_cfg(name, opts).MODEL.WEIGHTS else ""


def run(
    model: OrderModel, records: Sequence[Record], *, name: str, class_names: Sequence[str] = ()
) -> OrderResult:
    """Read the order of the objects on all images.

    Args:
        model (OrderModel)
        records (list[dict]): of images; they need no annotations.
        name (str): of the images, for titles.
        class_names (sequence[str])

    Returns:
        OrderResult

    Raises:
        UserError: no file can be read.
    """
    start = time.perf_counter()
    reader = OrderReader(*model)
    images, failures = [], []
    for record in progress(records):
        try:
            images.append(reader.read(record))
        except UserError as error:
            failures.append(str(error))
    if not images:
        raise UserError(f"No image could be read: {' '.join(failures)}")
    activations = summarize_activations([image.activations for image in images])
    figures = analyse([image.found for image in images], activations, class_names)
    seconds = time.perf_counter() - start
    return OrderResult(
        name, model, images, tuple(class_names),
        figures=figures, failures=failures, seconds=seconds,
    )  # fmt: skip


def analyse(
    images: Sequence[FoundObjects],
    activations: "dict[str, BlockTaus]",
    class_names: Sequence[str],
) -> OrderFigures:
    """All figures of all images."""
    keys = [order_keys(found) for found in images]
    orders = {name: summarize_taus([k[name] for k in keys]) for name in ORDERS}
    num_classes = max([len(class_names)] + [int(f.classes.max(initial=0)) + 1 for f in images])
    pairs = pair_shares(images, num_classes)
    lines = sentences(orders, activations, pairs, images=images, class_names=class_names)
    return OrderFigures(orders, activations, pairs, discovery_places(images), sentences=lines)


def text(result: OrderResult) -> str:
    """Tables and sentences, to print."""
    cfg, figures = result.model.cfg, result.figures
    objects = sum(len(image.found.areas) for image in result.images)
    return "\n".join([
        f"{result.dataset}, {len(result.images)} images, {objects} objects in the order in which "
        f"{cfg.MODEL.WEIGHTS} finds them; {result.steps_left_out} steps left out, empty or with "
        f"a score below {cfg.TEST.LABEL_MAP_SCORE_THRESHOLD:g}",
        "\n" + order_table(figures.orders),
        "\nnext object, percent (random orders); *: beyond 99 % of random orders\n",
        pair_table(figures.pairs, result.class_names),
        "\ntau of activations with the order, the most active first\n",
        activation_table(figures.activations),
        "",
        *(f"- {sentence}" for sentence in figures.sentences),
    ])  # fmt: skip


def write(result: OrderResult, folder: Path) -> "list[Path]":
    """Write ``order.json``, ``tau.png``, ``pairs.png`` and ``discoveries.png``.

    Args:
        result (OrderResult)
        folder (Path): is made.

    Returns:
        list[Path]: the four files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("order.json", "tau.png", "pairs.png", "discoveries.png")]
    figures, title = (
        result.figures,
        f"{result.dataset}, {Path(result.model.cfg.MODEL.WEIGHTS).name}",
    )
    paths[0].write_text(json.dumps(to_json(result), indent=1))
    tau_figure(figures.orders, figures.activations, paths[1], title=title)
    pair_figure(figures.pairs, result.class_names, paths[2], title=title)
    discovery_figure([image.found for image in result.images], paths[3], title=title)
    return paths


def to_json(result: OrderResult) -> "dict[str, Any]":
    """The result as plain dicts, for ``json.dump``."""
    cfg = result.model.cfg
    facts = {
        "dataset": result.dataset, "images": len(result.images), "weights": cfg.MODEL.WEIGHTS,
        "before": list(result.model.before),
        "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        "steps_left_out": result.steps_left_out, "class_names": result.class_names,
        "seconds": result.seconds, "definitions": DEFINITIONS,
    }  # fmt: skip
    sequences = [_sequence_json(image.file_name, image.found) for image in result.images]
    return plain({**facts, **result.figures._asdict(), "sequences": sequences})


def _sequence_json(file_name: str, found: FoundObjects) -> "dict[str, Any]":
    """One image's sequence for the JSON."""
    return {
        "file": file_name,
        "centers": found.centers.round(4).tolist(),
        "areas": found.areas.round(6).tolist(),
        "classes": found.classes.tolist(),
        "tau": {name: order_tau(key) for name, key in order_keys(found).items()},
    }


def plain(value: Any) -> Any:
    """NamedTuples as dicts and nan as None, for ``json.dump``."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value
