"""What must fit together before iteration 0; what does not is said in a sentence."""

import logging
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from ..data.registration import get_dataset_dicts
from ..errors import UserError
from ..evaluation.build import RESULT_GROUPS, check_evaluator_type
from ..evaluation.restriction import no_foreground_sentence

logger = logging.getLogger(__name__)
Records = Sequence[Mapping[str, Any]]  # dicts of a data set

# Meta-architectures whose class count is not in a config node of their own name.
CLASS_COUNT_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
}


def check_config(cfg: CfgNode, training: bool = True) -> "dict[str, int]":
    """Check that architecture, data sets, classes, masks, evaluator and weights fit together.

    Args:
        cfg: as it will be used.
        training: False for an evaluation, which needs no training set.

    Returns:
        The number of images of each data set.

    Raises:
        UserError: names the config key, its value, and what to write instead.
    """
    check_meta_architecture(cfg)
    needed = "TRAIN" if training else "TEST"
    if not cfg.DATASETS[needed]:
        raise UserError(f"DATASETS.{needed} is empty: name at least one registered data set.")
    names = [*cfg.DATASETS.TEST, *(cfg.DATASETS.TRAIN if training else ())]
    dicts = {name: get_dataset_dicts(name) for name in names}
    for name in names:
        _check_classes(cfg, name)
        _check_masks(cfg, name, dicts[name])
    if training:
        _check_training(cfg, dicts)
    for name in cfg.DATASETS.TEST:
        check_evaluator_type(name)
        _check_foreground(cfg, dicts[name])
        _warn_if_crowded(cfg, name, dicts[name])
    return {name: len(records) for name, records in dicts.items()}


def check_meta_architecture(cfg: CfgNode) -> None:
    """Raise a UserError unless ``MODEL.META_ARCHITECTURE`` is registered."""
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        known = ", ".join(sorted(key for key, _ in META_ARCH_REGISTRY))
        raise UserError(
            f"MODEL.META_ARCHITECTURE {name!r} is not registered. Correct the name, or import the "
            f"plugin that defines it first. Registered: {known}."
        )


def check_augmentation(cfg: CfgNode, model: nn.Module) -> None:
    """Raise a UserError if ``TEST.AUG.ENABLED`` would change nothing.

    Args:
        cfg: of the model.
        model: whose attribute ``augmented`` is True if it augments its images itself.
    """
    if cfg.TEST.AUG.ENABLED and not getattr(model, "augmented", False):
        raise UserError(
            f"TEST.AUG.ENABLED is True, but {cfg.MODEL.META_ARCHITECTURE} augments no images in "
            "evaluation: set it to False. For GeneralizedRCNN, Detectron2's GeneralizedRCNNWithTTA "
            "does it in Python (docs/commands.md, test-time augmentation)."
        )


def class_count_key(cfg: CfgNode) -> str:
    """Config key that holds the number of classes of ``MODEL.META_ARCHITECTURE``.

    Returns:
        ``MODEL.<NAME>.NUM_CLASSES``, NAME in upper snake case unless the method is stock.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
    return CLASS_COUNT_KEYS.get(name, f"MODEL.{snake}.NUM_CLASSES")


def _check_classes(cfg, name):
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is None:
        raise UserError(f"Data set {name!r} has no thing_classes in its metadata: set them.")
    key = class_count_key(cfg)
    node = cfg
    for part in key.split("."):
        if part not in node:
            raise UserError(
                f"The config has no {key}, where the number of classes of "
                f"{cfg.MODEL.META_ARCHITECTURE} is expected: a method's node is its "
                "meta-architecture in upper snake case, each capital after a small letter or digit "
                "begins a word."
            )
        node = node[part]
    if node != len(classes):
        raise UserError(
            f"{key} is {node}, but data set {name!r} has {len(classes)} classes "
            f"({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}). "
            f"Set {key} to {len(classes)}."
        )
    reference = cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else name
    first = MetadataCatalog.get(reference).thing_classes
    if list(first) != list(classes):
        raise UserError(
            f"The data sets {reference!r} and {name!r} name different classes or order them "
            f"differently: {list(first)[:5]} and {list(classes)[:5]}. Use the same list for both."
        )


def _check_masks(cfg: CfgNode, name: str, records: Records):
    if not records:
        raise UserError(f"Data set {name!r} has no images.")
    if not cfg.MODEL.MASK_ON:
        raise UserError("MODEL.MASK_ON is False: no masks would be learned or scored. Set it True.")
    annotations = [(d["file_name"], a) for d in records for a in d.get("annotations", ())]
    if not annotations:
        logger.warning("Data set %r has images but not one annotation.", name)
    bare = [file_name for file_name, a in annotations if "segmentation" not in a]
    if bare:
        raise UserError(
            f"Data set {name!r} has {len(bare)} boxes without segmentation, first in {bare[0]}; "
            "masks are needed."
        )
    rle = any(isinstance(a["segmentation"], dict) for _, a in annotations)
    if rle and cfg.INPUT.MASK_FORMAT != "bitmask":
        raise UserError(
            f"Data set {name!r} holds RLE masks, but INPUT.MASK_FORMAT is "
            f"{cfg.INPUT.MASK_FORMAT!r}. Set it to bitmask."
        )


def _check_polygon_crops(cfg: CfgNode):
    if not cfg.MODEL.KEYPOINT_ON:
        return  # our mapper draws masks before a crop; of keypoints Detectron2's does it
    crops = [name for name, _ in cfg.INPUT.AUGMENTATIONS if "Crop" in name]
    crops += ["INPUT.CROP"] if cfg.INPUT.CROP.ENABLED else []
    if cfg.INPUT.MASK_FORMAT == "polygon" and crops and find_spec("shapely") is None:
        raise UserError(
            f"INPUT.MASK_FORMAT is 'polygon', and {crops[0]} crops images with keypoints: "
            "Detectron2 cuts polygons with the package shapely, which is not installed. Set "
            "INPUT.MASK_FORMAT to bitmask, which reads polygons, too."
        )


def _has_objects(record: Mapping[str, Any]) -> bool:
    return any(not annotation.get("iscrowd", 0) for annotation in record.get("annotations", ()))


def _check_objects(names: Sequence[str], dicts: Mapping[str, Records]):
    """Make sure that the training sets together hold something to learn."""
    empty = [name for name in names if not any(map(_has_objects, dicts[name]))]
    crowds = sum(len(d.get("annotations", ())) for name in empty for d in dicts[name])
    why = (
        f" All {crowds} annotations are crowds (iscrowd: 1), regions to ignore. If each is one "
        "object, write 'crowds: objects' in the data set's entry of DATASETS.REGISTER."
    )
    sentence = f"No image of {empty} has an instance to learn from.{why if crowds else ''}"
    if len(empty) == len(names):
        raise UserError(sentence)
    if empty:
        logger.warning("%s It is learned as background alone.", sentence)


def _check_training(cfg: CfgNode, dicts: Mapping[str, Records]):
    _check_objects(cfg.DATASETS.TRAIN, dicts)
    _check_polygon_crops(cfg)
    _check_best_metric(cfg.TEST.BEST_METRIC)
    _check_average(cfg)
    workers = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % workers:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {workers} processes cannot "
            f"share evenly. Use a multiple of {workers}."
        )
    if not (cfg.MODEL.WEIGHTS or _has_pretrained_backbone(cfg)):
        _warn_of_frozen_layers(cfg)


def _check_best_metric(metric):
    if metric.lstrip("-").split("/")[0] not in RESULT_GROUPS:
        raise UserError(
            f"TEST.BEST_METRIC {metric!r} is no result. It starts with one of "
            f"{', '.join(RESULT_GROUPS)}, such as segm/AP or -dic/DiC (lower is better)."
        )


def _check_average(cfg):
    decay = cfg.SOLVER.EMA_DECAY
    if not 0 <= decay < 1:
        raise UserError(
            f"SOLVER.EMA_DECAY is {decay}; it is at least 0 (no average of the weights) and below "
            "1, such as 0.999."
        )
    if decay and cfg.TEST.PRECISE_BN.ENABLED:
        raise UserError(
            "TEST.PRECISE_BN.ENABLED measures batch-norm statistics of weights in training, but "
            f"SOLVER.EMA_DECAY {decay} evaluates an average of the weights, with averaged "
            "statistics: set TEST.PRECISE_BN.ENABLED to False."
        )


def _has_pretrained_backbone(cfg):
    """Whether a backbone brings weights of its own, which its node then names as PRETRAINED."""
    return any(isinstance(node, CfgNode) and node.get("PRETRAINED") for node in cfg.MODEL.values())


def _warn_of_frozen_layers(cfg):
    """Of a training from scratch, in which random layers would stay as they are."""
    if cfg.MODEL.BACKBONE.FREEZE_AT > 0:
        logger.warning(
            "MODEL.WEIGHTS is empty and MODEL.BACKBONE.FREEZE_AT is %d: frozen random layers never "
            "learn. Set FREEZE_AT to 0 to train from scratch.",
            cfg.MODEL.BACKBONE.FREEZE_AT,
        )
    if "resnet" in cfg.MODEL.BACKBONE.NAME and cfg.MODEL.RESNETS.NORM == "FrozenBN":
        logger.warning(
            "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN, which cannot learn. "
            "Use GN or BN to train from scratch."
        )


def _check_foreground(cfg: CfgNode, records: Records):
    bare = [d["file_name"] for d in records if "foreground_file_name" not in d]
    if cfg.TEST.FOREGROUND_GIVEN and bare:
        raise UserError(no_foreground_sentence(bare[0]))


def _warn_if_crowded(cfg: CfgNode, name: str, records: Records):
    most = max(len(d.get("annotations", ())) for d in records)
    if 0 <= cfg.TEST.DETECTIONS_PER_IMAGE < most:
        logger.warning(
            "An image of %r has %d instances, but TEST.DETECTIONS_PER_IMAGE is %d: "
            "the rest cannot be found.",
            name,
            most,
            cfg.TEST.DETECTIONS_PER_IMAGE,
        )
