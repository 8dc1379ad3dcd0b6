"""What evaluators expect of a prediction, in sentences instead of silent zeros."""

from collections.abc import Mapping
from typing import Any, Optional

import torch
from detectron2.structures import Instances

from ..errors import UserError


def check_prediction(
    record: Mapping[str, Any], instances: Instances, num_classes: Optional[int] = None
) -> None:
    """Raise unless the instances can be scored against the ground truth of the image.

    Args:
        record: the model's input; ``height`` and ``width`` in pixels, ``image_id``.
        instances: the model's output, on any device.
        num_classes: classes of the data set; None does not check them.

    Raises:
        UserError: masks absent, not bool, or of another size than the image; a class out of range.
    """
    if len(instances) == 0:
        return
    image = f"image {record.get('image_id')!r} ({record.get('file_name', 'no file name')})"
    if not instances.has("pred_masks"):
        raise UserError(
            f"The predictions of {image} have no pred_masks. "
            "Set MODEL.MASK_ON: True, or make the model return masks."
        )
    _check_masks(record, instances.pred_masks, image)
    if num_classes is None:
        return
    lowest, highest = int(instances.pred_classes.min()), int(instances.pred_classes.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise UserError(
            f"The predictions of {image} have class {wrong}, but the data set has {num_classes} "
            "classes, numbered from 0. Make the model's number of classes in the config (such as "
            "MODEL.ROI_HEADS.NUM_CLASSES) equal to the data set's."
        )


def _check_masks(record, masks, image):
    if masks.dtype != torch.bool:
        raise UserError(
            f"The pred_masks of {image} are {masks.dtype}; soft masks would become 0. "
            "Threshold them in the model's inference: masks must be bool."
        )
    size, expected = tuple(masks.shape[1:]), (record.get("height"), record.get("width"))
    if None not in expected and size != expected:
        raise UserError(
            f"The pred_masks of {image} are {size[0]}x{size[1]} (height x width), but the image "
            f"is {expected[0]}x{expected[1]}. Resize masks to the original image in inference."
        )
