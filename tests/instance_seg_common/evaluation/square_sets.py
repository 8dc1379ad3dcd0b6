"""Small data sets made of squares, and predictions for them."""

import numpy as np
import torch
from detectron2.structures import BitMasks, BoxMode, Instances
from pycocotools import mask as mask_util


def annotation(mask, category_id=0, iscrowd=0):
    """A mask (H, W) as an annotation of a data set dict."""
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "bbox": mask_util.toBbox(rle).tolist(),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category_id,
        "iscrowd": iscrowd,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def grid_masks(count, size=(120, 120), side=6, pitch=9, shift=0):
    """(count, H, W) bool: squares on a grid, moved right by shift pixels."""
    masks = np.zeros((count, *size), dtype=bool)
    per_row = size[1] // pitch
    for index in range(count):
        row, column = divmod(index, per_row)
        left = column * pitch + shift
        masks[index, row * pitch : row * pitch + side, left : left + side] = True
    return masks


def make_record(image_id, masks, classes=None, crowd=()):
    """A data set dict with an annotation for each mask; crowd: indices of crowd regions."""
    classes = [0] * len(masks) if classes is None else classes
    annotations = [
        annotation(mask, category, int(index in crowd))
        for index, (mask, category) in enumerate(zip(masks, classes))
    ]
    return {
        "file_name": f"image_{image_id}.png",
        "height": masks.shape[1],
        "width": masks.shape[2],
        "image_id": image_id,
        "annotations": annotations,
    }


def make_instances(masks, scores=None, classes=None):
    """Predictions with the given (N, H, W) masks."""
    masks = torch.as_tensor(np.asarray(masks))
    instances = Instances(tuple(masks.shape[1:]))
    instances.pred_masks = masks
    instances.pred_boxes = BitMasks(masks.bool()).get_bounding_boxes()
    scores = torch.ones(len(masks)) if scores is None else torch.as_tensor(scores)
    instances.scores = scores.float()
    classes = [0] * len(masks) if classes is None else classes
    instances.pred_classes = torch.as_tensor(classes, dtype=torch.int64)
    return instances


def run(evaluator, records, predictions):
    """Evaluate predictions (list of Instances) on records, one image at a time."""
    evaluator.reset()
    for record, instances in zip(records, predictions):
        inputs = {k: record[k] for k in ("file_name", "height", "width", "image_id")}
        evaluator.process([inputs], [{"instances": instances}])
    return evaluator.evaluate()
