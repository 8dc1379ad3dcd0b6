"""Predictions as files: label maps and COCO results."""

import json
from pathlib import Path

import numpy as np
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from PIL import Image

from ..data.cache import atomic_path

LARGEST_16_BIT = 65535


def save_label_map(labels, path):
    """Write instance ids as a 16 bit PNG, or as a 32 bit TIFF when they do not fit.

    Args:
        labels (ndarray): (H, W) int, 0 is background.
        path (str or Path): without or with a suffix; the suffix becomes ``.png`` or ``.tif``.

    Returns:
        Path: the file written.
    """
    labels = np.asarray(labels)
    fits = labels.max(initial=0) <= LARGEST_16_BIT
    # A stem may hold dots: only the suffixes of images are replaced.
    path = Path(path)
    stem = path.stem if path.suffix.lower() in {".png", ".tif", ".tiff"} else path.name
    path = path.with_name(stem + (".png" if fits else ".tif"))
    image = Image.fromarray(labels.astype(np.uint16 if fits else np.int32))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG" if fits else "TIFF")
    return path


def coco_results(instances, image_id, metadata=None):
    """Detections of one image in COCO's result format, with the category ids of the data set.

    Args:
        instances (Instances): ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``.
        image_id (int or str): as in the data set; the file name for plain images.
        metadata (Metadata or None): its ``thing_dataset_id_to_contiguous_id`` maps classes back;
            without it, categories stay the 0-based classes, as in Detectron2's own evaluator.

    Returns:
        list[dict]: image_id, category_id, bbox XYWH in pixels, score, segmentation RLE.
    """
    results = instances_to_coco_json(instances.to("cpu"), image_id)
    mapping = getattr(metadata, "thing_dataset_id_to_contiguous_id", None)
    if mapping:
        original = {contiguous: dataset_id for dataset_id, contiguous in mapping.items()}
        for result in results:
            result["category_id"] = original[result["category_id"]]
    return results


def save_coco_results(results, path):
    """Write a list of COCO results as JSON; returns the Path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps(results))
    return path
