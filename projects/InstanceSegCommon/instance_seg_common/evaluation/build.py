"""Which evaluators score a data set, by the evaluator_type of its metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..errors import UserError
from .cityscapes import CityscapesEvaluator, check_cityscapes
from .coco import COCO_COUNTS, InstanceCOCOEvaluator
from .label_map import LabelMapEvaluator
from .region_ap import RegionAPEvaluator
from .restriction import restrict_evaluators

Folder = Union[str, Path, None]
# From the config, the name of a data set, and a folder for files (or None).
BuildEvaluators = Callable[[CfgNode, str, Folder], "list[DatasetEvaluator]"]


def coco_and_label_map(
    cfg: CfgNode, dataset_name: str, output_dir: Folder
) -> "list[DatasetEvaluator]":
    """The evaluators of every instance data set: COCO AP, matching scores, SBD, DiC."""
    return restrict_evaluators(cfg, dataset_name, _common(cfg, dataset_name, output_dir))


def counted_detections(dataset_name: str) -> Optional[int]:
    """How many predictions of an image count for AP, by the rules of the data set's benchmark.

    Returns:
        COCO's 100 on COCO's own images; None, all of them, on any other set.
    """
    return COCO_COUNTS if dataset_name.startswith(COCO_SETS) else None


def _common(cfg, dataset_name, output_dir):
    return [
        InstanceCOCOEvaluator(
            dataset_name,
            output_dir=output_dir,
            max_dets_per_image=counted_detections(dataset_name),
        ),
        LabelMapEvaluator(
            dataset_name,
            score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            min_area=cfg.TEST.LABEL_MAP_MIN_AREA,
            output_dir=output_dir,
        ),
    ]


def with_region_ap(cfg: CfgNode, dataset_name: str, output_dir: Folder) -> "list[DatasetEvaluator]":
    """The evaluators of every set, and AP_r and AP_vol, all without the void pixels."""
    evaluators = [*_common(cfg, dataset_name, output_dir), RegionAPEvaluator(dataset_name)]
    return restrict_evaluators(cfg, dataset_name, evaluators)


def with_cityscapes(
    cfg: CfgNode, dataset_name: str, output_dir: Folder
) -> "list[DatasetEvaluator]":
    """The evaluators of every set, and Cityscapes' own score."""
    common = coco_and_label_map(cfg, dataset_name, output_dir)
    return [*common, CityscapesEvaluator(dataset_name)]


# By evaluator_type.
EVALUATORS: "dict[str, BuildEvaluators]" = {
    "coco": coco_and_label_map,
    "cityscapes": with_cityscapes,
    "voc": with_region_ap,
}
# By evaluator_type: takes the name of a data set, raises a sentence if it cannot be scored.
CHECKS: "dict[str, Callable[[str], None]]" = {"cityscapes": check_cityscapes}

# Names of the sets of COCO's images begin so.
COCO_SETS = ("coco_2014_", "coco_2017_", "coco_mini_")

# What the results of an evaluation are grouped by.
RESULT_GROUPS = ("bbox", "segm", "matching", "sbd", "dic", "cityscapes", "voc")


def evaluators_for(dataset_name: str) -> BuildEvaluators:
    """The function of ``EVALUATORS`` for a registered data set.

    Args:
        dataset_name: its metadata's ``evaluator_type`` decides ("coco" if unset).

    Raises:
        UserError: an evaluator_type that is not known.
    """
    kind = _evaluator_type(dataset_name)
    if kind not in EVALUATORS:
        raise UserError(
            f"Data set '{dataset_name}' has evaluator_type '{kind}', which is not supported. "
            f"Set one of: {', '.join(sorted(EVALUATORS))}."
        )
    return EVALUATORS[kind]


def check_evaluator_type(dataset_name: str) -> None:
    """Make sure, before training, that a data set can be scored.

    Args:
        dataset_name: registered.

    Raises:
        UserError: an evaluator_type that is not known, or files that its score needs are not as
            they should be.
    """
    evaluators_for(dataset_name)
    kind = _evaluator_type(dataset_name)
    if kind in CHECKS:
        CHECKS[kind](dataset_name)


def _evaluator_type(dataset_name):
    return MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_dir: Folder = None
) -> DatasetEvaluators:
    """The evaluators of a registered data set.

    Args:
        cfg: with the keys of ``add_common_config``.
        dataset_name: registered; its metadata's ``evaluator_type`` decides ("coco" if unset).
        output_dir: for the predictions and ``per_image.csv``; None: no file.

    Returns:
        Whose ``evaluate()`` gives a nested dict of floats: "bbox" and "segm" in
        percent, "matching", "sbd" and "dic" as :class:`.label_map.LabelMapEvaluator` has them, and
        "cityscapes" or "voc" in percent for a data set of that kind.

    Raises:
        UserError: an evaluator_type that is not known.
    """
    build = evaluators_for(dataset_name)
    return DatasetEvaluators(build(cfg, dataset_name, output_dir))
