import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from square_sets import make_instances, make_record

from instance_seg_analysis.annotations import encoded_iou
from instance_seg_analysis.limits import matching, neighbours
from instance_seg_common.errors import UserError
from instance_seg_common.masks import to_run_lengths


def test_box_iou_with_the_nearest_neighbour():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5], [5, 0, 15, 10], [50, 50, 60, 60]]
    # The first overlaps the second by 50 / 100, the third by 50 / 150.
    found = matching.neighbour_box_iou(boxes)
    np.testing.assert_allclose(found, [0.5, 0.5, 1 / 3, 0])
    np.testing.assert_allclose(matching.neighbour_box_iou(torch.tensor(boxes)), found)


def test_objects_in_one_box_and_alone():
    np.testing.assert_allclose(matching.neighbour_box_iou([[1, 1, 4, 5]] * 3), [1, 1, 1])
    assert matching.neighbour_box_iou([[1, 1, 4, 5]]).tolist() == [0]
    assert matching.neighbour_box_iou(np.zeros((0, 4))).shape == (0,)


def test_recall_by_bin():
    bins = neighbours.recall_by_bin([0, 0.29, 0.3, 0.7, 0.71, 1], [True, False, True, True, 0, 0])
    assert [tuple(b) for b in bins] == [("< 0.3", 2, 1), ("0.3 to 0.7", 2, 2), ("> 0.7", 2, 0)]
    assert [b.recall for b in bins] == [0.5, 1, 0]
    empty = neighbours.recall_by_bin(np.zeros(0), np.zeros(0, dtype=bool))
    assert [b.objects for b in empty] == [0, 0, 0] and math.isnan(empty[0].recall)


def encoded(masks):
    return [to_run_lengths(mask, *mask.shape) for mask in masks]


def mask_iou(masks, others):
    return encoded_iou(encoded(masks), encoded(others))


def test_mask_iou_of_overlapping_masks():
    a, b = np.zeros((2, 8, 8), dtype=bool)
    a[:4], b[2:6] = True, True
    np.testing.assert_allclose(mask_iou([a, b, ~a], [a, a | b]),
                               [[1, 2 / 3], [1 / 3, 2 / 3], [0, 2 / 8]])  # fmt: skip
    assert mask_iou([], [a]).shape == (0, 1)
    assert mask_iou([a], []).shape == (1, 0)


def test_the_best_score_chooses_first():
    iou = np.array([[0.6, 0.9], [0.55, 0.8], [0.5, 0.49]])
    assert matching.match_by_score(iou, [0.9, 0.8, 0.7]).tolist() == [1, 0, -1]
    # The last prediction chooses first: its 0.5 counts, its 0.49 does not.
    assert matching.match_by_score(iou, [0.7, 0.8, 0.9]).tolist() == [-1, 1, 0]
    assert matching.match_by_score(np.zeros((2, 0)), [0.5, 0.6]).tolist() == [-1, -1]


def cross():
    """(3, 64, 64) bool: a cross of two bars with one box, and a square apart from it."""
    rows, columns = np.indices((64, 64))
    down, up = abs(rows - columns) < 4, abs(rows + columns - 40) < 4
    masks = np.stack([down, up & ~down, (rows > 50) & (columns < 10)])
    masks[:2] &= (rows < 41) & (columns < 41)
    return masks


def test_found_objects_of_an_image():
    record = make_record(1, np.concatenate([cross(), np.ones((1, 64, 64), dtype=bool)]), crowd=(3,))
    instances = make_instances(cross()[[1, 1, 2]], [0.9, 0.8, 0.4])
    found, count = matching.found_objects(instances, record, score_threshold=0.5)
    assert found.tolist() == [False, True, False] and count == 2
    assert matching.found_objects(instances, record, score_threshold=0.4)[0].tolist() == [
        False,
        True,
        True,
    ]
    found, count = matching.found_objects(make_instances(cross()[:0]), record, score_threshold=0.5)
    assert found.tolist() == [False] * 3 and count == 0
    with pytest.raises(UserError, match="image 1 "):
        matching.found_objects(make_instances(cross()[:, :32]), record, score_threshold=0.5)


class NonMaximumSuppression(torch.nn.Module):
    """Finds everything but the second of two objects with one box."""

    def forward(self, batched_inputs):
        assert not torch.is_grad_enabled()
        return [{"instances": make_instances(cross()[[0, 2]])} for _ in batched_inputs]


@pytest.fixture
def dicts(tiny_cfg, register_variant):
    """The tiny set's images with the objects of :func:`cross`, the last without any."""
    dicts = DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])
    records = [make_record(d["image_id"], cross()) for d in dicts]
    records[-1]["annotations"] = []
    return [{**r, "file_name": d["file_name"]} for r, d in zip(records, dicts)]


def test_recall_of_a_model(tiny_cfg, dicts, tmp_path):
    result = neighbours.neighbour_recall(tiny_cfg, NonMaximumSuppression(), dicts)
    assert [(b.objects, b.found) for b in result.bins] == [(7, 7), (0, 0), (14, 7)]
    assert result.predictions == 16
    assert result.score_threshold == tiny_cfg.TEST.LABEL_MAP_SCORE_THRESHOLD
    results = {"one": result, "two": result}
    table = neighbours.recall_table(results).splitlines()
    assert "> 0.7 (n = 14)" in table[0] and "all (n = 21)" in table[0]
    first, second = ([c.strip() for c in line.split("|")[2:-1]] for line in table[2:])
    assert first == second == ["0.5", "16", "1.000", "nan", "0.500", "0.667"]
    neighbours.recall_figure(results, tmp_path / "plot.png", title="tiny")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_a_data_set_without_images(tiny_cfg):
    result = neighbours.neighbour_recall(tiny_cfg, torch.nn.Identity(), [])
    assert [b.objects for b in result.bins] == [0, 0, 0]
