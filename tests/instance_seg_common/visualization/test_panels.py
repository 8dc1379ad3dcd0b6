import numpy as np
import pytest
import torch
from detectron2.data import detection_utils
from detectron2.structures import BitMasks, Instances

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.image_report import Prediction
from instance_seg_common.visualization import drawing, panels
from instance_seg_common.visualization.colors import instance_color
from instance_seg_common.visualization.errors_overlay import ERROR_COLORS


def test_object_and_prediction_share_their_color(squares, make_instances):
    scores = {1: 0.6, 2: 0.9, 3: 0.7, 4: 0.8}
    picture = panels.prediction_panel(squares, make_instances(squares["labels"], None, scores))
    third = (picture.shape[1] - 2 * drawing.GAP) // 3
    first, second = picture[:, :third], picture[:, third + drawing.GAP :][:, :third]
    for label in range(1, 5):
        color = instance_color(label)
        where = [np.argwhere((part == color).all(axis=2))[20:-20] for part in (first, second)]
        # Texts of the prediction hide some of its contours.
        assert np.abs(np.median(where[0], axis=0) - np.median(where[1], axis=0)).max() < 20


def colors_in(picture, columns, index):
    """The colours of whole pixels in one of several panels of equal width."""
    width = (picture.shape[1] - (columns - 1) * drawing.GAP) // columns
    left = index * (width + drawing.GAP)
    pixels = picture[50:, left : left + width].reshape(-1, 3)
    return {tuple(color) for color in np.unique(pixels, axis=0).tolist()}


def prediction(labels):
    """Of one class, without doubt."""
    ids = [int(i) for i in np.unique(labels) if i]
    return Prediction(labels, dict.fromkeys(ids, 0), dict.fromkeys(ids, 1.0))


def test_without_annotations_the_first_prediction_gives_the_colors(squares):
    first = squares["labels"]
    second = np.where(first == 2, 0, first)
    second = np.where(second > 0, 5 - second, 0)  # ids 1, 2, 4 are the first's 4, 3, 1
    record = {"file_name": squares["file_name"]}
    predictions = [("one", prediction(first)), ("two", prediction(second))]
    picture = panels.comparison_panel(record, predictions)
    everywhere = [colors_in(picture, 3, index) for index in range(3)]
    assert not everywhere[0] & {instance_color(i) for i in range(1, 9)}
    assert {instance_color(i) for i in range(1, 5)} <= everywhere[1]
    assert {instance_color(i) for i in (1, 3, 4)} <= everywhere[2]
    assert instance_color(2) not in everywhere[2]
    with_truth = panels.comparison_panel(squares, predictions)
    assert instance_color(2) in colors_in(with_truth, 3, 0)


def test_prediction_panel_colors_each_kind(squares, make_instances):
    labels = squares["labels"].copy()
    labels[4:20, 4:52] = 1  # merges 1 and 2
    labels[40:56, 12:20] = 9  # splits 3
    labels[labels == 4] = 0  # misses 4
    labels[25:35, 25:35] = 11  # invents one
    picture = panels.prediction_panel(squares, make_instances(labels))
    errors = picture[20:-40, 2 * picture.shape[1] // 3 :]
    for kind in ("missed", "invented", "merged", "split"):
        assert (errors == ERROR_COLORS[kind]).all(axis=2).sum() > 20, kind
    assert not (errors == ERROR_COLORS["poor"]).all(axis=2).any()


def test_what_is_predicted_in_a_crowd_is_not_invented(squares, make_instances):
    labels = squares["labels"].copy()
    labels[10:30, 75:90] = 5
    picture = panels.prediction_panel(squares, make_instances(labels))
    errors = picture[20:-40, 2 * picture.shape[1] // 3 :]
    assert not (errors == ERROR_COLORS["invented"]).all(axis=2).any()


def test_nothing_predicted_and_nothing_annotated(squares, make_instances):
    empty = make_instances(np.zeros((64, 96), dtype=np.int64))
    full = panels.prediction_panel(squares, empty)
    squares["annotations"] = []
    blank = panels.prediction_panel(squares, empty, class_names=("a", "b"))
    assert full.shape == blank.shape[:0] + (full.shape[0], blank.shape[1], 3)
    assert full.dtype == blank.dtype == np.uint8


def test_annotation_panel_names_classes_only_where_they_differ(squares):
    one = panels.annotation_panel(squares, ("cell",))
    two = panels.annotation_panel(squares, ("cell", "debris"))
    assert one.shape == two.shape and (one != two).any()


def test_dataloader_panel_shows_the_mapped_targets(squares):
    image = detection_utils.read_image(squares["file_name"], "BGR")
    instances = Instances(image.shape[:2])
    masks = np.stack([squares["labels"] == i for i in range(1, 5)])
    instances.gt_masks = BitMasks(torch.as_tensor(masks))
    instances.gt_classes = torch.tensor([0, 1, 0, 1])
    mapped = {**squares, "image": torch.as_tensor(image.transpose(2, 0, 1).copy())}
    picture = panels.dataloader_panel({**mapped, "instances": instances}, "BGR", ("a", "b"))
    right = picture[:, picture.shape[1] // 2 :]
    for label in range(1, 5):
        assert (right == instance_color(label)).all(axis=2).any()


def test_size_that_differs_from_the_annotation_is_a_sentence(squares, make_instances):
    squares["height"] = 60
    with pytest.raises(UserError, match="96x64 pixels, its annotation says 96x60"):
        panels.annotation_panel(squares)
