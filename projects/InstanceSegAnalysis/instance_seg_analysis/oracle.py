"""The oracle ablation: what true semantics or true centres would gain a clustering model.

Shape shorthand in this module:
    C: classes without background   E: embedding channels   K: instances
    H, W: network input without padding
"""

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Instances
from tabulate import tabulate
from torch import Tensor, nn

from embedding_instance_seg.centers import centers_of
from embedding_instance_seg.grouping import Centers, Grouping, InferenceSettings, drop_empty
from embedding_instance_seg.losses import IGNORE, semantic_targets
from embedding_instance_seg.maps import Maps
from embedding_instance_seg.peaks import HALF_WIDTH
from embedding_instance_seg.segments import grid_cells, segment_mean
from instance_seg_common.engine.validation_loss import build_validation_inputs
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.build import evaluators_for
from instance_seg_common.masks import id_maps_from_inputs
from instance_seg_common.meta_arch import wanted_size

STEPS = ("image_maps", "group", "make_instances")
# (true_semantics, true_centers) of the rows, in the order of the paper's table.
ROWS = ((False, False), (False, True), (True, False), (True, True))
FIGURES = {
    "AP": ("segm", "AP"),
    "AP50": ("segm", "AP50"),
    "accuracy@0.5": ("matching", "accuracy50"),
    "SBD": ("sbd", "SBD"),
    "DiC": ("dic", "DiC"),
}


class OracleRow(NamedTuple):
    """true_semantics, true_centers: what was known; figures: by the names of ``FIGURES``."""

    true_semantics: bool
    true_centers: bool
    figures: dict[str, float]


class Truth(NamedTuple):
    """instance_ids, class_ids: (H, W) int64 of one image, of ``masks.id_maps_from_inputs``."""

    instance_ids: Tensor
    class_ids: Tensor


def check_steps(model: nn.Module) -> None:
    """Raise a UserError unless the model has the steps in which the truth can take part.

    Args:
        model (nn.Module): any.
    """
    absent = [name for name in STEPS if not callable(getattr(model, name, None))]
    if absent:
        raise UserError(
            f"The oracle ablation cannot be run with MODEL.META_ARCHITECTURE "
            f"{type(model).__name__}: it has no {' and no '.join(absent)}, between which the truth "
            "takes the place of a part of it. Use a config of an embedding model."
        )


@torch.no_grad()
def ablate_oracle(
    cfg: CfgNode, model: nn.Module, dataset_name: str, *, max_images: Optional[int] = None
) -> "tuple[list[OracleRow], int]":
    """Evaluate a model with its own and with true semantics, its own and true centres.

    Each image is read once, with the test-time transforms, and passes the network once; predictions
    are evaluated at the size of the original image, as in any evaluation.

    Args:
        cfg (CfgNode): with the keys of ``add_common_config``.
        model (nn.Module): in evaluation mode, with the ``STEPS`` of ``EmbeddingInstanceSeg``.
        dataset_name (str): registered.
        max_images (int or None): use this many images, spread evenly over the set.

    Returns:
        tuple[list[OracleRow], int]: the rows of ``ROWS``, and how many images they are of. AP and
        AP50 are in percent, all others as ``evaluation.label_map`` has them.

    Raises:
        UserError: the model has no such steps.

    Source: De Brabandere, Neven, Van Gool 2017, the ablation on Cityscapes (own or true semantic
    segmentation, mean shift or true centres).
    """
    check_steps(model)
    build = evaluators_for(dataset_name)
    evaluators = [build(cfg, dataset_name, None) for _ in ROWS]
    for evaluator in (e for row in evaluators for e in row):
        evaluator.reset()
    image_ids = []
    for read in build_validation_inputs(cfg, dataset_name, max_images or sys.maxsize):
        inputs = [read()]
        image_ids.append(inputs[0]["image_id"])
        for instances, row in zip(predict_rows(model, inputs[0]), evaluators):
            for evaluator in row:
                evaluator.process(inputs, [{"instances": instances}])
    rows = [OracleRow(*flags, _figures(row, image_ids)) for flags, row in zip(ROWS, evaluators)]
    return rows, len(image_ids)


def predict_rows(model: Any, item: Mapping[str, Any]) -> "list[Instances]":
    """The instances of one image, of which each of ``ROWS`` knows a part beforehand.

    Args:
        model (EmbeddingInstanceSeg): in evaluation mode.
        item (dict): ``image`` and ``instances``; ``height`` and ``width`` of the output.

    Returns:
        list[Instances]: in the order of ``ROWS``.
    """
    (own,) = model.image_maps([item])
    size = own.embedding_full.shape[-2:]
    drawn = id_maps_from_inputs([item], size, own.embedding_full.device)
    truth = Truth(drawn.instance_ids[0], drawn.class_ids[0])
    known = {
        False: own,
        True: replace(own, probabilities=true_probabilities(truth, len(own.probabilities) - 1)),
    }
    wanted = wanted_size(item, size)
    results = []
    for semantics, centers in ROWS:
        maps = known[semantics]
        chosen = true_centers(maps, truth, model.inference) if centers else None
        results.append(model.make_instances(model.group(maps, truth=chosen), wanted))
    return results


def true_probabilities(truth: Truth, num_classes: int) -> Tensor:
    """True semantics as probabilities; pixels that do not count are background.

    Args:
        truth (Truth)
        num_classes (int): C.

    Returns:
        Tensor: (C + 1, H, W) float32 of zeros and ones.

    Raises:
        UserError: a class that is not below C.
    """
    targets = semantic_targets(truth.instance_ids, truth.class_ids, num_classes)
    targets = torch.where(targets == IGNORE, num_classes, targets)
    result = torch.zeros(num_classes + 1, *targets.shape, device=targets.device)
    return result.scatter_(0, targets[None], 1)


def true_centers(maps: Maps, truth: Truth, inference: InferenceSettings) -> Centers:
    """The mean embeddings of the true instances, to take the place of those of clusters.

    Args:
        maps (Maps)
        truth (Truth)
        inference (InferenceSettings): of the model, whose bandwidth they have unless it is learned.

    Returns:
        Centers
    """
    grouping = true_grouping(maps, truth)
    radii = torch.full_like(grouping.scores, inference.bandwidth)
    if inference.clustering == "seeded":
        radii = HALF_WIDTH * true_bandwidths(maps, grouping)
    return Centers(grouping.centers, radii, seeds=grouping.scores, classes=grouping.classes)


def true_grouping(maps: Maps, truth: Truth) -> Grouping:
    """The ground truth with the centres that its pixels' embeddings have.

    Args:
        maps (Maps)
        truth (Truth)

    Returns:
        Grouping: all scores 1; instances of which nothing is visible are left out.
    """
    counted = truth.instance_ids.clamp(min=0)
    labels, kept = drop_empty(counted.flatten() - 1, int(counted.max()))
    labels = labels.reshape(counted.shape)
    centers = centers_of(maps.embedding_full.flatten(1).T, labels.flatten())
    classes = truth.class_ids.new_zeros(len(kept))
    classes[labels[labels >= 0]] = truth.class_ids[labels >= 0]
    return Grouping(labels + 1, centers, classes, centers.new_ones(len(kept)))


def true_bandwidths(maps: Maps, truth: Grouping) -> Tensor:
    """Mean bandwidth of each true instance; the image's where it falls between the cells: (K,)."""
    assert maps.bandwidth is not None
    cells = grid_cells(truth.labels, maps.stride).flatten()
    values = maps.bandwidth.flatten()
    count = len(truth.classes) + 1
    seen = torch.bincount(cells, minlength=count)[1:] > 0
    return torch.where(seen, segment_mean(values, cells, count)[1:], values.mean())


def _figures(
    evaluators: Sequence[DatasetEvaluator], image_ids: "list[int | str]"
) -> "dict[str, float]":
    """The ``FIGURES``; what is predicted for these images counts, and no other."""
    results: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints each table
        for evaluator in evaluators:
            chosen = {"img_ids": image_ids} if isinstance(evaluator, COCOEvaluator) else {}
            results.update(evaluator.evaluate(**chosen) or {})
    return {name: float(results[group][key]) for name, (group, key) in FIGURES.items()}


def oracle_table(rows: Sequence[OracleRow]) -> str:
    """The rows as a text table.

    Args:
        rows (list[OracleRow])

    Returns:
        str
    """
    known = {False: "own", True: "true"}
    cells = [[known[r.true_semantics], known[r.true_centers], *r.figures.values()] for r in rows]
    headers = ["semantics", "centres", *FIGURES]
    formats = ("", "", ".1f", ".1f", ".3f", ".3f", ".2f")
    return tabulate(cells, headers, tablefmt="pipe", floatfmt=formats)
