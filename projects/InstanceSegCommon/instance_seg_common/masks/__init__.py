"""Masks as a model takes them (targets), as it gives them (predictions), and as label maps."""

from .cut_masks import CutMasks, Masks, Window, is_dense, tight_boxes
from .label_maps import (
    annotations_to_label_map,
    drop_small,
    instances_to_label_map,
    owners_of_pixels,
)
from .predictions import instances_from_labels, instances_from_masks
from .run_lengths import (
    MaskPairs,
    boxes_of,
    counts_of,
    decode_segmentation,
    decode_window,
    encode_window,
    overlapping_pairs,
    to_run_lengths,
)
from .targets import (
    IGNORED,
    IdMaps,
    Targets,
    check_classes,
    id_maps_from_inputs,
    targets_from_inputs,
    targets_from_instances,
)

__all__ = [
    "CutMasks",
    "IGNORED",
    "IdMaps",
    "MaskPairs",
    "Masks",
    "Targets",
    "Window",
    "annotations_to_label_map",
    "boxes_of",
    "check_classes",
    "counts_of",
    "decode_segmentation",
    "decode_window",
    "drop_small",
    "encode_window",
    "id_maps_from_inputs",
    "instances_from_labels",
    "instances_from_masks",
    "instances_to_label_map",
    "is_dense",
    "overlapping_pairs",
    "owners_of_pixels",
    "targets_from_inputs",
    "targets_from_instances",
    "tight_boxes",
    "to_run_lengths",
]
