import numpy as np
import pytest
import torch
from detectron2.data import detection_utils
from detectron2.structures import BitMasks, Instances
from PIL import Image

from instance_seg_common.errors import UserError
from instance_seg_common.visualization import panels
from instance_seg_common.visualization.colors import instance_color


def test_truth_leaves_out_crowds(squares):
    truth = panels.truth_of(squares)
    assert (truth.labels == squares["labels"]).all()
    assert truth.classes == {1: 1, 2: 0, 3: 1, 4: 0}
    assert truth.ignore[:, 70:].all() and not truth.ignore[:, :70].any()


def test_truth_reads_ignored_regions(squares, tmp_path):
    semantic = np.zeros((64, 96), dtype=np.uint8)
    semantic[:5] = 255
    Image.fromarray(semantic).save(tmp_path / "semantic.png")
    squares["sem_seg_file_name"] = str(tmp_path / "semantic.png")
    assert panels.truth_of(squares).ignore[:5].all()


def test_prediction_keeps_class_and_score_of_each_id(squares, make_instances):
    scores = {1: 0.6, 2: 0.9, 3: 0.2, 4: 0.8}
    instances = make_instances(squares["labels"], {1: 1, 2: 0, 3: 1, 4: 1}, scores)
    prediction = panels.prediction_of(instances, score_threshold=0.5)
    assert prediction.classes == {1: 0, 2: 1, 3: 1}
    assert prediction.scores == pytest.approx({1: 0.9, 2: 0.8, 3: 0.6})
    assert prediction.labels[5, 40] == 1


def test_object_and_prediction_share_their_color(squares, make_instances):
    scores = {1: 0.6, 2: 0.9, 3: 0.7, 4: 0.8}
    picture = panels.prediction_panel(squares, make_instances(squares["labels"], None, scores))
    third = (picture.shape[1] - 2 * panels.drawing.GAP) // 3
    first, second = picture[:, :third], picture[:, third + panels.drawing.GAP :][:, :third]
    for label in range(1, 5):
        color = instance_color(label)
        where = [np.argwhere((part == color).all(axis=2))[20:-20] for part in (first, second)]
        # Texts of the prediction hide some of its contours.
        assert np.abs(np.median(where[0], axis=0) - np.median(where[1], axis=0)).max() < 20


def test_prediction_of_nothing_has_a_color_of_its_own(squares):
    pred = squares["labels"].copy()
    pred[pred == 1] = 0
    pred[25:30, 20:30] = 1
    table = panels._prediction_colors(squares["labels"], pred)
    assert tuple(table[1]) == instance_color(5) and tuple(table[3]) == instance_color(3)


def colors_in(picture, columns, index):
    """The colours of whole pixels in one of several panels of equal width."""
    width = (picture.shape[1] - (columns - 1) * panels.drawing.GAP) // columns
    left = index * (width + panels.drawing.GAP)
    pixels = picture[50:, left : left + width].reshape(-1, 3)
    return {tuple(color) for color in np.unique(pixels, axis=0).tolist()}


def prediction(labels):
    """Of one class, without doubt."""
    ids = [int(i) for i in np.unique(labels) if i]
    return panels.Prediction(labels, dict.fromkeys(ids, 0), dict.fromkeys(ids, 1.0))


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


def test_what_several_models_invent_has_one_color(squares):
    labels = squares["labels"]
    maps = [labels.copy() for _ in range(3)]
    maps[0][25:35, 20:30] = 5
    maps[1][58:63, 55:65] = 5
    maps[1][25:35, 21:30] = 6
    maps[2][58:63, 56:65] = 7
    numbers = panels._shared_ids(labels, maps)
    assert [n[i] for n, i in zip(numbers, (5, 6, 7))] == [5, 5, 6] and numbers[1][5] == 6
    assert all(n[i] == i for n in numbers for i in range(1, 5))


def test_one_color_is_not_given_twice_in_a_map(squares):
    """Two pieces of what an earlier model invented in one: the larger has its colour."""
    nothing = np.zeros_like(squares["labels"])
    whole, halves = nothing.copy(), nothing.copy()
    whole[10:30, 10:50] = 1
    halves[10:30, 10:35], halves[10:30, 35:50] = 1, 2
    numbers = panels._shared_ids(nothing, [whole, halves, halves])
    assert numbers == [{1: 1}, {1: 1, 2: 2}, {1: 1, 2: 2}]
    empty = panels._color_tables(nothing, [nothing])
    assert len(empty) == 1 and empty[0].shape == (1, 3)


def test_prediction_panel_colors_each_kind(squares, make_instances):
    labels = squares["labels"].copy()
    labels[4:20, 4:52] = 1  # merges 1 and 2
    labels[40:56, 12:20] = 9  # splits 3
    labels[labels == 4] = 0  # misses 4
    labels[25:35, 25:35] = 11  # invents one
    picture = panels.prediction_panel(squares, make_instances(labels))
    errors = picture[20:-40, 2 * picture.shape[1] // 3 :]
    for kind in ("missed", "invented", "merged", "split"):
        assert (errors == panels.ERROR_COLORS[kind]).all(axis=2).sum() > 20, kind
    assert not (errors == panels.ERROR_COLORS["poor"]).all(axis=2).any()


def test_what_is_predicted_in_a_crowd_is_not_invented(squares, make_instances):
    labels = squares["labels"].copy()
    labels[10:30, 75:90] = 5
    picture = panels.prediction_panel(squares, make_instances(labels))
    errors = picture[20:-40, 2 * picture.shape[1] // 3 :]
    assert not (errors == panels.ERROR_COLORS["invented"]).all(axis=2).any()


def test_ignored_regions_of_a_wrong_file_are_a_sentence(squares, tmp_path):
    squares["sem_seg_file_name"] = str(tmp_path / "semantic.png")
    for image, words in ((Image.new("RGB", (96, 64)), "mode RGB"), (Image.new("L", (9, 4)), "9x4")):
        image.save(tmp_path / "semantic.png")
        with pytest.raises(UserError, match=words):
            panels.truth_of(squares)


def test_what_lies_mostly_in_a_crowd_is_dropped_as_in_the_evaluation(squares, make_instances):
    labels = squares["labels"].copy()
    labels[10:30, 60:90] = 5  # 10 of 30 columns are outside the crowd
    truth = panels.truth_of(squares)
    judged = panels.judged_prediction(make_instances(labels), truth)
    assert len(judged.classes) == 4 and not judged.labels[10:30, 60:].any()
    labels[10:30, 50:90] = 5  # 20 of 40
    squares["annotations"] = squares["annotations"][-1:]
    labels[10:30, 49:90] = 5  # 21 of 41
    judged = panels.judged_prediction(make_instances(labels), panels.truth_of(squares))
    assert judged.labels[20, 60] and not judged.labels[20, 75]


def test_a_deep_image_is_a_sentence(tmp_path):
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="deep.png has more than 8 bits"):
        panels.load_image(tmp_path / "deep.png")


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


def test_crowded_pictures_carry_no_text():
    many = dict.fromkeys(range(1, 61), 0)
    assert panels._tag_texts(many, None, ("a", "b")) == {}
    assert panels._tag_texts({1: 1}, {1: 0.956}, ("a", "b")) == {1: "b 96%"}
    assert panels._tag_texts({1: 7}, None, ("a", "b")) == {1: "class 7"}


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


def test_unreadable_image_is_a_sentence(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for name in ("broken.png", "absent.png"):
        with pytest.raises(UserError, match=name):
            panels.load_image(tmp_path / name)


def test_real_images_with_sixty_nuclei(shared_data):
    """Contours of touching nuclei stay apart: every nucleus keeps a visible inside."""
    path = sorted((shared_data / "dsb2018" / "val" / "labels").glob("*.png"))[20]
    labels = np.asarray(Image.open(path)).astype(np.int64)
    scale = panels.drawing.display_scale(*labels.shape)
    large = panels.drawing.resize_labels(labels, scale)
    inside = large[~panels.drawing.boundaries(large)]
    big = [i for i in np.unique(labels) if i and (labels == i).sum() >= 30]
    assert len(big) > 30 and set(big) <= set(np.unique(inside))
