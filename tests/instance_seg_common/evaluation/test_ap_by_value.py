"""AP by what objects are like, against values known in closed form."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.mask import encode

from instance_seg_common.evaluation.ap_by_value import ap_by_value, nearest_objects
from instance_seg_common.evaluation.coco_matching import CrowdedCOCOeval

SIZE = 40


def rle(top, left, height=10, width=10):
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    return encode(mask)


def annotation(number, segmentation, **more):
    box = [0, 0, 1, 1]
    return {"id": number, "image_id": 1, "category_id": 1, "segmentation": segmentation,
            "area": 100.0, "bbox": box, "iscrowd": 0, **more}  # fmt: skip


def coco(annotations):
    api = COCO()
    api.dataset = {
        "images": [{"id": 1, "height": SIZE, "width": SIZE}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations,
    }
    api.createIndex()
    return api


def evaluated(predictions):
    """Objects 1 (top left) and 2 (bottom right) against predictions (id, mask, score)."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = coco([annotation(1, rle(0, 0)), annotation(2, rle(25, 25))])
        found = coco([annotation(i, mask, score=score) for i, mask, score in predictions])
        evaluation = CrowdedCOCOeval(objects, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


VALUES = {1: 0.0, 2: 5.0}


def precision(evaluation, edges, of_objects, of_predictions):
    return ap_by_value(evaluation, edges, of_objects=of_objects, of_predictions=of_predictions)


def test_objects_of_other_bins_are_neither_detected_nor_missed():
    evaluation = evaluated([(7, rle(0, 0), 0.9)])
    values = {7: VALUES[nearest_objects(evaluation)[7]]}
    assert precision(evaluation, [3], VALUES, values) == [
        pytest.approx(100),
        0,
    ]


def test_a_wrong_prediction_counts_in_its_bin_only():
    wrong = rle(27, 27, 4, 4)  # IoU 0.16 with object 2
    evaluation = evaluated([(7, rle(0, 0), 0.9), (8, rle(25, 25), 0.5), (9, wrong, 0.8)])
    nearest = nearest_objects(evaluation)
    assert nearest == {7: 1, 8: 2, 9: 2}
    values = {i: VALUES[o] for i, o in nearest.items()}
    # Of two predictions in the upper bin the better half is wrong: precision 1/2 at all recalls.
    assert precision(evaluation, [3], VALUES, values) == [
        pytest.approx(100), pytest.approx(50),
    ]  # fmt: skip
    assert precision(evaluation, [3], VALUES, {**values, 9: 0.0}) == [
        pytest.approx(100), pytest.approx(100),
    ]  # fmt: skip


def test_a_prediction_that_overlaps_nothing_is_near_no_object():
    evaluation = evaluated([(7, rle(0, 0), 0.9), (8, rle(0, 30), 0.95)])
    assert nearest_objects(evaluation) == {7: 1}
    assert precision(evaluation, [3], VALUES, {7: 0.0, 8: 0.0})[0] == pytest.approx(50)


def test_a_value_on_an_edge_belongs_above_and_empty_bins_have_no_precision():
    evaluation = evaluated([(7, rle(0, 0), 0.9), (8, rle(25, 25), 0.8)])
    values = {7: 0.0, 8: 5.0}
    result = precision(evaluation, [2, 5, 9], VALUES, values)
    assert result == [pytest.approx(100), None, pytest.approx(100), None]
    assert precision(evaluation, [2], {1: 0.0}, values) == [
        pytest.approx(100),
        None,
    ]
    # An object without a value is not missed in any bin, and a prediction without one is not wrong.
    evaluation = evaluated([(7, rle(0, 0), 0.9), (8, rle(0, 30), 0.95)])
    assert precision(evaluation, [2], {1: 0.0}, {7: 0.0}) == [
        pytest.approx(100),
        None,
    ]


def test_no_prediction_at_all():
    evaluation = evaluated([])
    assert nearest_objects(evaluation) == {}
    assert precision(evaluation, [3], VALUES, {}) == [0, 0]
