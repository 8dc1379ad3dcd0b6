"""Which objects models find, by how much their box coincides with that of a neighbour.

A detector that removes boxes by NMS cannot keep two objects whose boxes nearly coincide, such as
crossing sticks; a method without boxes does not care.

Shape shorthand in this module:
    G: ground-truth objects
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import nn

from instance_seg_analysis.annotations import ground_truth_boxes
from instance_seg_analysis.limits.matching import IOU, found_objects, neighbour_box_iou
from instance_seg_analysis.methods import analysis_of
from instance_seg_common.data.mapper import build_test_mapper
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import warn_of_choice_on_test_set
from instance_seg_common.tiling.tiled_model import with_tiles
from instance_seg_common.visualization.figures import new_figure

# Box IoU with the nearest neighbour: below the first, from the first to the second, above it.
BIN_EDGES = (0.3, 0.7)
BIN_NAMES = ("< 0.3", "0.3 to 0.7", "> 0.7")


class BinRecall(NamedTuple):
    """name: of ``BIN_NAMES``; objects, found: how many there are, and how many were found."""

    name: str
    objects: int
    found: int

    @property
    def recall(self) -> float:
        """found / objects; nan where there is nothing to find."""
        return self.found / self.objects if self.objects else float("nan")


class NeighbourRecall(NamedTuple):
    """What one model found. score_threshold: the least score that counted; predictions: how many
    had it; bins: in the order of ``BIN_NAMES``; weights: of the model."""

    score_threshold: float
    predictions: int
    bins: list[BinRecall]
    weights: str


class NeighboursResult(NamedTuple):
    """dataset: its name; images: how many; recall: by the name of the model."""

    dataset: str
    images: int
    recall: dict[str, NeighbourRecall]


def with_nms_thresholds(
    cfgs: Mapping[str, CfgNode], thresholds: Sequence[float]
) -> "dict[str, CfgNode]":
    """Add to each model that has NMS one for each further threshold.

    Args:
        cfgs (dict[str, CfgNode]): by the name of the model.
        thresholds (list[float]): of MODEL.ROI_HEADS.NMS_THRESH_TEST.

    Returns:
        dict[str, CfgNode]
    """
    models = {}
    for name, cfg in cfgs.items():
        models[name] = cfg
        for threshold in thresholds if has_nms(cfg) else ():
            variant = models[f"{name}, NMS {threshold:g}"] = cfg.clone()
            variant.MODEL.ROI_HEADS.NMS_THRESH_TEST = threshold
    return models


def has_nms(cfg: CfgNode) -> bool:
    """Whether the model removes boxes by NMS."""
    return analysis_of(cfg.MODEL.META_ARCHITECTURE).proposal_based


def run(
    cfgs: Mapping[str, CfgNode],
    dataset: str,
    *,
    nms_thresholds: Sequence[float] = (),
    max_images: Optional[int] = None,
) -> NeighboursResult:
    """Run all models over a data set.

    Args:
        cfgs (dict[str, CfgNode]): with MODEL.WEIGHTS, by the name of the model.
        dataset (str): registered.
        nms_thresholds (list[float]): of :func:`with_nms_thresholds`.
        max_images (int or None): the first of the data set; None: all.

    Returns:
        NeighboursResult
    """
    records = get_dataset_dicts(dataset)[:max_images]
    if nms_thresholds:
        test_sets = {name for cfg in cfgs.values() if has_nms(cfg) for name in cfg.DATASETS.TEST}
        warn_of_choice_on_test_set(test_sets, dataset, "an NMS threshold")
    recall = {
        name: neighbour_recall(cfg, build_predictor(cfg), records)
        for name, cfg in with_nms_thresholds(cfgs, nms_thresholds).items()
    }
    return NeighboursResult(dataset, len(records), recall)


@torch.no_grad()
def neighbour_recall(
    cfg: CfgNode, model: nn.Module, records: "Sequence[dict[str, Any]]"
) -> NeighbourRecall:
    """Run a model over a data set.

    Args:
        cfg (CfgNode): its ``TEST.LABEL_MAP_SCORE_THRESHOLD`` is the least score that counts.
        model (nn.Module): in evaluation mode.
        records (list[dict]): data set dicts with annotations.
    """
    mapper, threshold = build_test_mapper(cfg, tiled=True), cfg.TEST.LABEL_MAP_SCORE_THRESHOLD
    tiled = with_tiles(cfg, model)
    neighbour_iou, found, predictions = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for record in records:
        instances = tiled([mapper(record)])[0]["instances"]
        found_here, count = found_objects(instances, record, score_threshold=threshold)
        neighbour_iou.append(neighbour_box_iou(ground_truth_boxes(record)))
        found.append(found_here)
        predictions += count
    bins = recall_by_bin(np.concatenate(neighbour_iou), np.concatenate(found))
    return NeighbourRecall(threshold, predictions, bins, cfg.MODEL.WEIGHTS)


def bin_of(neighbour_iou: np.ndarray, *, edges: "tuple[float, float]" = BIN_EDGES) -> np.ndarray:
    """Index of the bin of each object.

    Args:
        neighbour_iou (ndarray): (G,) float in [0, 1].
        edges (tuple[float, float]): both belong to the middle bin.

    Returns:
        ndarray: (G,) int64: 0, 1 or 2.
    """
    low, high = edges
    neighbour_iou = np.asarray(neighbour_iou)
    return (neighbour_iou >= low).astype(np.int64) + (neighbour_iou > high)


def recall_by_bin(neighbour_iou: np.ndarray, found: np.ndarray) -> "list[BinRecall]":
    """Recall of the objects of each bin.

    Args:
        neighbour_iou (ndarray): (G,) float of ``matching.neighbour_box_iou``, of any number of
            images.
        found (ndarray): (G,) bool.

    Returns:
        list[BinRecall]: three, in the order of ``BIN_NAMES``.
    """
    bins = bin_of(neighbour_iou)
    objects = np.bincount(bins, minlength=len(BIN_NAMES))
    hits = np.bincount(bins, weights=np.asarray(found, dtype=float), minlength=len(BIN_NAMES))
    return [BinRecall(name, int(n), int(f)) for name, n, f in zip(BIN_NAMES, objects, hits)]


def text(result: NeighboursResult) -> str:
    """What there is to print."""
    return (
        f"{result.dataset}, {result.images} images: recall at mask IoU {IOU:g}, by box IoU "
        f"with the nearest neighbour\n\n{recall_table(result.recall)}"
    )


def recall_table(recall: Mapping[str, NeighbourRecall]) -> str:
    """Recall by model and bin as a text table.

    Args:
        recall (dict[str, NeighbourRecall]): by the name of the model, not empty, all on the same
            data set.
    """
    bins = next(iter(recall.values())).bins
    headers = ["model", "score >=", "predictions", *(f"{b.name} (n = {b.objects})" for b in bins)]
    headers.append(f"all (n = {sum(b.objects for b in bins)})")
    rows = []
    for name, of_model in recall.items():
        total = _total(of_model.bins)
        recalls = [b.recall for b in (*of_model.bins, total)]
        rows.append([name, f"{of_model.score_threshold:g}", str(of_model.predictions), *recalls])
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", disable_numparse=[0, 1, 2])


def _total(bins: Sequence[BinRecall]) -> BinRecall:
    return BinRecall("all", sum(b.objects for b in bins), sum(b.found for b in bins))


def write(result: NeighboursResult, folder: Path) -> "list[Path]":
    """Write ``neighbours.json`` and ``neighbours.png`` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, plot = folder / "neighbours.json", folder / "neighbours.png"
    figures.write_text(json.dumps(to_json(result), indent=1))
    recall_figure(result.recall, plot, title=result.dataset)
    return [figures, plot]


def to_json(result: NeighboursResult) -> "dict[str, Any]":
    """The result as plain dicts, for ``json.dump``."""
    models = [
        {
            "model": name,
            "weights": recall.weights,
            "score_threshold": recall.score_threshold,
            "predictions": recall.predictions,
            "bins": [
                {**b._asdict(), "recall": b.recall if b.objects else None} for b in recall.bins
            ],
        }
        for name, recall in result.recall.items()
    ]
    return {"dataset": result.dataset, "mask_iou": IOU, "models": models}


def recall_figure(recall: Mapping[str, NeighbourRecall], path: Path, *, title: str = "") -> None:
    """Draw recall by bin, a bar for each model, and write a PNG.

    Args:
        recall (dict[str, NeighbourRecall]): of :func:`recall_table`.
        path (Path): the file.
        title (str): names the data set.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    bins = next(iter(recall.values())).bins
    places, width = np.arange(len(bins)), 0.8 / len(recall)
    for index, (name, of_model) in enumerate(recall.items()):
        shift = (index - (len(recall) - 1) / 2) * width
        bars = axes.bar(places + shift, [b.recall for b in of_model.bins], width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(places, [f"{b.name}\n{b.objects} objects" for b in bins])
    axes.set_xlabel("box IoU with the nearest neighbour")
    axes.set_ylabel(f"recall at mask IoU {IOU:g}")
    axes.set_ylim(0, 1.05)
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
