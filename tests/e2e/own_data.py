"""A user's own data set, small: bright discs as label maps and as COCO JSON."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

SIZE = 96
CENTRES = [(20, 20), (60, 30), (40, 70), (75, 75)]


def disc_labels(shift):
    """(96, 96) uint16 label map of four discs that do not touch."""
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    for index, (cx, cy) in enumerate(CENTRES):
        labels[(x - cx - shift) ** 2 + (y - cy) ** 2 < 81] = 10 * index + 3
    return labels


def write_cells(folder):
    """Write cells/train as label maps and cells/val with val.json below ``folder``."""
    for name in ("cells/train/images", "cells/train/labels", "cells/val"):
        (folder / name).mkdir(parents=True)
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    for index in range(3):
        labels = disc_labels(index)
        image = np.where(labels > 0, 200, 30).astype(np.uint8)
        Image.fromarray(image).convert("RGB").save(folder / f"cells/train/images/{index}.png")
        Image.fromarray(labels).save(folder / f"cells/train/labels/{index}.png")
        Image.fromarray(image).convert("RGB").save(folder / f"cells/val/{index}.png")
        facts = {"id": index, "file_name": f"{index}.png", "height": SIZE, "width": SIZE}
        coco["images"].append(facts)
        for label in np.unique(labels)[1:]:
            coco["annotations"].append(annotation(labels == label, index, len(coco["annotations"])))
    (folder / "cells/val.json").write_text(json.dumps(coco))


def annotation(mask, image_id, annotation_id):
    """COCO annotation of one mask, compressed RLE."""
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    x, y, w, h = mask_util.toBbox(rle).tolist()
    rle["counts"] = rle["counts"].decode()
    return {
        "id": annotation_id + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
        "bbox": [x, y, w, h], "area": float(mask.sum()), "segmentation": rle,
    }  # fmt: skip
