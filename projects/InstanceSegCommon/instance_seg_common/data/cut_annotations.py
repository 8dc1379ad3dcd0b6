"""The annotations of an image, transformed as the image was, as a model's ground truth."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Instances


def transformed_instances(
    annotations: "Sequence[Mapping[str, Any]]",
    transforms: T.TransformList,
    image_size: "tuple[int, int]",
    *,
    mask_format: str,
) -> Instances:
    """Ground truth of an image after its augmentations.

    Args:
        annotations: in Detectron2's format, of the image before the transforms; crowds are passed
            over.
        transforms: what was done to the image, in order.
        image_size: height and width after the transforms.
        mask_format: "bitmask" or "polygon", of ``gt_masks``.

    Returns:
        With ``gt_boxes``, ``gt_classes`` and ``gt_masks``; objects that lie outside are left out.
    """
    transformed = [
        utils.transform_instance_annotations(dict(annotation), transforms, image_size)
        for annotation in annotations
        if not annotation.get("iscrowd", 0)
    ]
    instances = utils.annotations_to_instances(transformed, image_size, mask_format=mask_format)
    instances = utils.filter_empty_instances(instances)
    if instances.has("gt_masks"):
        # The boxes of masks that a crop has cut are those of what is left.
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return instances
