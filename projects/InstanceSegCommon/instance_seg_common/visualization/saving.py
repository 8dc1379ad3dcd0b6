"""Predictions as files: label maps and COCO results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image

from ..data.cache import atomic_path
from ..evaluation.coco_matching import coco_detections, with_category_ids

LARGEST_16_BIT = 65535


def save_label_map(labels: np.ndarray, path: Union[str, Path]) -> Path:
    """Write instance ids as a 16 bit PNG, or as a 32 bit TIFF when they do not fit.

    Args:
        labels: (H, W) int, 0 is background.
        path: without or with a suffix; the suffix becomes ``.png`` or ``.tif``.

    Returns:
        The file written.
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


def coco_results(
    instances: Instances, image_id: Union[int, str], metadata: Optional[Metadata] = None
) -> "list[dict[str, Any]]":
    """Detections of one image in COCO's result format, with the category ids of the data set.

    Args:
        instances: ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``.
        image_id: as in the data set; the file name for plain images.
        metadata: of the data set; None: categories stay the 0-based classes.

    Returns:
        Of each: image_id, category_id, bbox XYWH in pixels, score, segmentation RLE.
    """
    return with_category_ids(coco_detections(instances.to("cpu"), image_id), metadata)


def save_coco_results(results: "Sequence[dict[str, Any]]", path: Union[str, Path]) -> Path:
    """Write COCO results as JSON; returns the file written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps(results))
    return path
