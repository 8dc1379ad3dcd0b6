"""RoIAlign against RoIPool: measured misalignment, AP of two trained models, their small masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from PIL import Image
from tabulate import tabulate
from torch import nn

from instance_seg_analysis.pooling.objects import (
    LabelMaps,
    choose_objects,
    compare_objects,
    comparison_picture,
    object_tile,
)
from instance_seg_analysis.pooling.offsets import POOLERS, Offsets, offsets_figure
from instance_seg_common.data.loader import build_test_loader
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor, predict
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.image_report import prediction_of, truth_of
from instance_seg_common.tiling.tiled_model import with_tiles
from instance_seg_common.visualization.false_colors import load_image

NAMES = ("RoIAlign", "RoIPool")
FIGURES = {
    "segm AP": ("segm", "AP"),
    "segm AP75": ("segm", "AP75"),
    "mean IoU of masks matched at 0.5": ("matching", "matched_iou50"),
}
Record = Mapping[str, Any]


class PooledModel(NamedTuple):
    """cfg: with MODEL.WEIGHTS; model: in evaluation mode."""

    cfg: CfgNode
    model: nn.Module


class PoolingResult(NamedTuple):
    """dataset: its name; figures: of ``FIGURES``, by the names of the two; picture: of contours,
    None if no object of at most max_area pixels is found by both; max_area: pixels."""

    dataset: str
    figures: dict[str, dict[str, float]]
    picture: Optional[Path]
    max_area: int


def measure_offsets(folder: Path) -> "dict[str, Offsets]":
    """Measure how far each pooler reads beside the box; writes ``offsets.png``.

    Args:
        folder (Path): is made.

    Returns:
        dict[str, Offsets]: by the type of the pooler.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return offsets_figure(folder / "offsets.png")


def run_models(
    align: CfgNode,
    pool: CfgNode,
    dataset: str,
    *,
    folder: Path,
    objects: int = 6,
    max_area: int = 32**2,
) -> PoolingResult:
    """Compare two trained models, one with each pooling; writes ``misalignment.png``.

    Args:
        align, pool (CfgNode): with MODEL.WEIGHTS.
        dataset (str): registered.
        folder (Path): is made.
        objects (int): drawn, at most: as many with the largest difference as at random.
        max_area (int): pixels; larger objects are not drawn.
    """
    models = [PooledModel(cfg, build_predictor(cfg)) for cfg in (align, pool)]
    records = get_dataset_dicts(dataset)
    figures = {name: evaluate(*model, dataset) for name, model in zip(NAMES, models)}
    tiles = draw_objects(records, models, objects=objects, max_area=max_area)
    picture = None
    if tiles:
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / "misalignment.png"
        Image.fromarray(comparison_picture(tiles)).save(picture)
    return PoolingResult(dataset, figures, picture, max_area)


def evaluate(cfg: CfgNode, model: nn.Module, dataset: str) -> "dict[str, float]":
    """The ``FIGURES`` of one model."""
    evaluator = build_evaluator(cfg, dataset)
    loader = build_test_loader(cfg, dataset, tiled=True)
    results = inference_on_dataset(with_tiles(cfg, model), loader, evaluator)
    return {title: results[group][key] for title, (group, key) in FIGURES.items()}


def draw_objects(
    records: Sequence[Record], models: Sequence[PooledModel], *, objects: int, max_area: int
) -> "list[tuple[str, list[np.ndarray]]]":
    """Choose objects that both models find, and draw their contours.

    Args:
        records (list[dict]): of the data set, with annotations.
        models (list[PooledModel]): with RoIAlign, with RoIPool.
        objects, max_area (int): of :func:`run_models`.

    Returns:
        list[tuple]: heading and tiles; empty if there is no such object.
    """
    compared = []
    for index, record in enumerate(records):
        compared += compare_objects(index, label_maps(record, models))
    chosen = choose_objects(compared, objects, max_area)
    maps = {i: label_maps(records[i], models) for i in {o.image for some in chosen for o in some}}
    images = {index: load_image(records[index]) for index in maps}
    titles = ("largest difference in mask IoU", "drawn at random")
    groups = [
        (
            f"objects of at most {max_area} pixels, {title}",
            [object_tile(images[o.image], maps[o.image], o) for o in some],
        )
        for title, some in zip(titles, chosen)
    ]
    return groups if maps else []


def label_maps(record: Record, models: Sequence[PooledModel]) -> LabelMaps:
    """The truth of an image, and what both models predict."""
    predicted = [
        prediction_of(
            predict(cfg, model, record),
            score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            min_area=cfg.TEST.LABEL_MAP_MIN_AREA,
        ).labels
        for cfg, model in models
    ]
    return LabelMaps(truth_of(record).labels, *predicted)


def text_of_offsets(offsets: Mapping[str, Offsets]) -> str:
    """The offsets to print, a line for each pooler."""
    labels = {name: label for name, label, _ in POOLERS}
    return "\n".join(
        f"{labels[name]} ({name}): reads {value.mean:.1f} +- {value.std:.1f} pixels beside the box "
        "(stride 16)"
        for name, value in offsets.items()
    )


def text(result: PoolingResult) -> str:
    """The figures of both models to print, and where their contours are."""
    rows = [[name, *values.values()] for name, values in result.figures.items()]
    table = tabulate(rows, [result.dataset, *FIGURES], tablefmt="pipe", floatfmt=".3f")
    if result.picture:
        return f"{table}\ncontours: {result.picture}"
    return (
        f"{table}\nno object of at most {result.max_area} pixels is found by both: no contours "
        "drawn"
    )


def to_json(
    offsets: Mapping[str, Offsets], result: Optional[PoolingResult] = None
) -> "dict[str, Any]":
    """The results as plain dicts, for ``json.dump``."""
    facts = {"offset_pixels": {name: value._asdict() for name, value in offsets.items()}}
    return {**facts, "models": result.figures} if result else facts
