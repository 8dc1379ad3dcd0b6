"""The ground truth of a COCO file for pycocotools: whole, with annotations numbered from 1.

pycocotools takes an annotation id 0 for "no match", keeps one of several annotations with the same
id, and needs the area and iscrowd of each.
"""

from typing import Any

import pycocotools.mask as mask_util

from .coco_annotations import read_box
from .coco_content import CocoContent
from .loose_values import finite_number, whole_number
from .segmentations import clean_mask, encoded

KEYS = ("category_id", "iscrowd", "segmentation", "bbox", "area")


def truth_of(content: CocoContent) -> "dict[str, Any]":
    """The ground truth of a data set that this project loads.

    Returns:
        dict: a COCO file's content, with image and category ids as the loaded records and their
        metadata have them.
    """
    images, annotations = [], []
    for image in content.images:
        height, width = image.size
        images.append(
            {"id": image.id, "file_name": image.file_name, "height": height, "width": width}
        )
        for entry in image.annotations:
            annotation = {key: entry[key] for key in KEYS}
            annotations.append({"id": len(annotations) + 1, "image_id": image.id, **annotation})
    categories = [{"id": key, "name": name} for key, name in content.categories.names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def truth_of_stock(content: "dict[str, Any]") -> "dict[str, Any]":
    """The ground truth of a COCO file that Detectron2's own loader reads, with all ids of images
    and categories as they are; annotations without a usable mask are left out.

    Args:
        content: of the file.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    annotations = []
    for entry in content["annotations"]:
        size = sizes.get(entry["image_id"])
        if size is None:
            continue
        clean = clean_mask(entry.get("segmentation"), size)
        rle = None if clean.problem else encoded(clean.mask, size)
        if rle is None:
            continue
        area, box = finite_number(entry.get("area")), read_box(entry.get("bbox"))
        annotations.append(
            {
                **entry,
                "id": len(annotations) + 1,
                "iscrowd": whole_number(entry.get("iscrowd")) or 0,
                "segmentation": clean.mask,
                "area": float(mask_util.area(rle)) if area is None else area,
                "bbox": box or mask_util.toBbox(rle).tolist(),
            }
        )
    return {**content, "annotations": annotations}
