"""COCO's evaluation of overlapping pairs alone, against pycocotools' comparison of all with all."""

import contextlib
import io

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets, instances_to_coco_json
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from instance_seg_common.evaluation.coco_matching import CrowdedCOCOeval, coco_detections

SIZE = 120


def rectangle(generator):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    y, x = generator.integers(0, SIZE - 10, 2)
    height, width = generator.integers(2, 50, 2)
    mask[y : y + height, x : x + width] = True
    return mask


def entry(mask, number, **more):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "segmentation": rle,
        "bbox": mask_util.toBbox(rle).tolist(),
        "area": float(mask_util.area(rle)),
        "iscrowd": 0,
        **more,
    }


def random_world(seed):
    """Objects, some of them crowds, and predictions: shifted objects with equal scores, noise."""
    generator = np.random.default_rng(seed)
    truths, results = [], []
    for image in (1, 2, 3):
        for _ in range(generator.integers(0, 25)):
            mask, category = rectangle(generator), int(generator.integers(1, 3))
            common = {"image_id": image, "category_id": category}
            crowd = int(generator.random() < 0.15)
            truths.append(entry(mask, len(truths) + 1, **common, iscrowd=crowd))
            for _ in range(generator.integers(0, 3)):
                moved = np.roll(mask, tuple(generator.integers(-2, 3, 2)), axis=(0, 1))
                score = float(generator.integers(1, 6)) / 5
                results.append(entry(moved, len(results) + 1, **common, score=score))
        for _ in range(generator.integers(0, 8)):
            common = {"image_id": image, "category_id": int(generator.integers(1, 3))}
            results.append(entry(rectangle(generator), len(results) + 1, **common, score=0.5))
    return coco(truths), coco(results)


def coco(annotations):
    api = COCO()
    api.dataset = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def evaluated(kind, worlds, iou_type, limit):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = kind(*worlds, iou_type)
        evaluation.params.maxDets = [1, 3, limit]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("limit", [5, 1000])
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("seed", range(6))
def test_all_figures_are_those_of_pycocotools(seed, iou_type, limit):
    expected = evaluated(COCOevalMaxDets, random_world(seed), iou_type, limit)
    found = evaluated(CrowdedCOCOeval, random_world(seed), iou_type, limit)
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(found.eval[key], expected.eval[key])
    np.testing.assert_array_equal(found.stats, expected.stats)


def test_detections_are_those_of_detectron2():
    generator = np.random.default_rng(3)
    masks = torch.from_numpy(np.stack([rectangle(generator) for _ in range(9)]))
    masks[4] = True
    masks[5] = False
    instances = Instances((SIZE, SIZE))
    instances.pred_masks = masks
    instances.pred_boxes = Boxes(torch.rand(9, 4) * 50)
    instances.scores = torch.rand(9)
    instances.pred_classes = torch.arange(9)
    assert coco_detections(instances, 7) == instances_to_coco_json(instances, 7)
    assert coco_detections(instances[:0], 7) == []
