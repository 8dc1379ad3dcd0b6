"""Truth and prediction of one image, and what of the prediction is evaluated."""

import numpy as np
import pytest
from PIL import Image

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.image_report import (
    evaluated_prediction,
    prediction_of,
    report_image,
    truth_of,
)


def test_truth_leaves_out_crowds(squares):
    truth = truth_of(squares)
    assert (truth.labels == squares["labels"]).all()
    assert truth.classes == {1: 1, 2: 0, 3: 1, 4: 0}
    assert truth.ignore[:, 70:].all() and not truth.ignore[:, :70].any()


def test_truth_reads_ignored_regions(squares, tmp_path):
    semantic = np.zeros((64, 96), dtype=np.uint8)
    semantic[:5] = 255
    Image.fromarray(semantic).save(tmp_path / "semantic.png")
    squares["sem_seg_file_name"] = str(tmp_path / "semantic.png")
    assert truth_of(squares).ignore[:5].all()


def test_prediction_keeps_class_and_score_of_each_id(squares, make_instances):
    scores = {1: 0.6, 2: 0.9, 3: 0.2, 4: 0.8}
    instances = make_instances(squares["labels"], {1: 1, 2: 0, 3: 1, 4: 1}, scores)
    prediction = prediction_of(instances, score_threshold=0.5)
    assert prediction.classes == {1: 0, 2: 1, 3: 1}
    assert prediction.scores == pytest.approx({1: 0.9, 2: 0.8, 3: 0.6})
    assert prediction.labels[5, 40] == 1


def test_ignored_regions_of_a_wrong_file_are_a_sentence(squares, tmp_path):
    squares["sem_seg_file_name"] = str(tmp_path / "semantic.png")
    for image, words in ((Image.new("RGB", (96, 64)), "mode RGB"), (Image.new("L", (9, 4)), "9x4")):
        image.save(tmp_path / "semantic.png")
        with pytest.raises(UserError, match=words):
            truth_of(squares)


def test_what_lies_mostly_in_a_crowd_is_dropped_as_in_the_evaluation(squares, make_instances):
    labels = squares["labels"].copy()
    labels[10:30, 60:90] = 5  # 10 of 30 columns are outside the crowd
    truth = truth_of(squares)
    evaluated = evaluated_prediction(make_instances(labels), truth)
    assert len(evaluated.classes) == 4 and not evaluated.labels[10:30, 60:].any()
    labels[10:30, 50:90] = 5  # 20 of 40
    squares["annotations"] = squares["annotations"][-1:]
    labels[10:30, 49:90] = 5  # 21 of 41
    evaluated = evaluated_prediction(make_instances(labels), truth_of(squares))
    assert evaluated.labels[20, 60] and not evaluated.labels[20, 75]


def test_a_report_keeps_what_is_shown_apart_from_what_is_evaluated(squares, make_instances):
    labels = squares["labels"].copy()
    labels[labels == 4] = 0
    labels[10:30, 75:90] = 5  # in the crowd
    report = report_image(truth_of(squares), make_instances(labels))
    assert len(report.prediction.classes) == 4 and len(report.evaluated.classes) == 3
    assert report.errors.missed == [4] and report.errors.invented == []
    assert len(report.errors.matched) == 3 and report.errors.wrong_class == []


def test_a_report_compares_classes_on_demand(squares, make_instances):
    truth = truth_of(squares)  # of the classes 1, 0, 1, 0
    instances = make_instances(squares["labels"])
    wrong = report_image(truth, instances, compare_classes=True).errors.wrong_class
    assert [g for g, _ in wrong] == [1, 3]
