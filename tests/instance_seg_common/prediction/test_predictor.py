"""From an image, however it is given, to a result, in whatever form it is asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from instance_seg_common.engine.predictor import predict
from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_to_label_map
from instance_seg_common.prediction import load_predictor


def test_label_map_is_that_of_the_instances(classical, image, count):
    result = classical(image)
    instances = predict(classical.cfg, classical.model, image)
    expected = instances_to_label_map(instances, classical.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD)
    assert len(result) == count
    assert result.label_map.dtype == np.int32 and result.label_map.shape == image.shape[:2]
    assert np.array_equal(result.label_map, expected)
    assert result.size == image.shape[:2] and result.tiles == 1


def test_any_form_of_an_image_gives_the_same(classical, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = classical(image).label_map
    grey = image[:, :, 0]
    given = [grey, grey[:, :, None], tmp_path / "a.png", str(tmp_path / "a.png")]
    for one in [*given, {"file_name": str(tmp_path / "a.png")}]:
        assert np.array_equal(classical(one).label_map, expected)
    several = classical([grey, tmp_path / "a.png"])
    assert [np.array_equal(one.label_map, expected) for one in several] == [True, True]
    assert classical([]) == []


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_depths_are_brought_to_one_range(repository_root, image, dtype):
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    opts = ["MODEL.DEVICE", "cpu", "INPUT.NORMALIZATION", "percentile"]
    predictor = load_predictor(str(config), opts)
    deep = (image.astype(np.float64) * 37 + 1000).astype(dtype)
    assert np.array_equal(predictor(deep).label_map, predictor(image).label_map)


def test_tiles_find_the_same_objects(classical, tiled, image, count):
    whole, parts = classical(image), tiled(image)
    assert parts.tiles > 4 and len(parts) == len(whole) == count
    # Each tile has a threshold of its own, by Otsu's rule.
    same = (whole.label_map > 0) == (parts.label_map > 0)
    assert same.mean() > 0.999


def test_scores_classes_boxes_and_table_agree_with_the_label_map(tiled, image):
    result = tiled(image)
    assert len(result.scores) == len(result.classes) == len(result.boxes) == len(result)
    assert (np.diff(result.scores) <= 0).all()
    for number, (x0, y0, x1, y1) in enumerate(result.boxes.tolist(), start=1):
        rows, columns = np.nonzero(result.label_map == number)
        assert (x0, y0, x1, y1) == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1,
        )  # fmt: skip
    assert result.table["area"].tolist() == np.bincount(result.label_map.ravel())[1:].tolist()
    assert set(result.table["class"]) == {"nucleus"}


def test_micrometres_by_hand(classical, image):
    plain, scaled = classical(image), classical(image, pixel_size=0.5)
    np.testing.assert_allclose(scaled.table["area_um2"], plain.table["area"] / 4)


def test_as_detectron2_and_supervision_have_it(tiled, image):
    result = tiled(image)
    instances = result.to_instances()
    assert instances.pred_masks.dtype == torch.bool
    assert np.array_equal(instances_to_label_map(instances) > 0, result.label_map > 0)
    assert np.allclose(instances.pred_boxes.tensor, result.boxes)
    detections = result.to_detections()
    assert len(detections) == len(result)
    assert np.array_equal(detections.xyxy, result.boxes)
    assert np.array_equal(detections.mask[3], result.label_map == 4)
    assert set(detections.data["class_name"]) == {"nucleus"}
    nothing = tiled(np.zeros((70, 70, 3), np.uint8))
    assert len(nothing.to_detections()) == len(nothing.to_instances()) == len(nothing) == 0


def test_masks_of_a_crowd_for_supervision_are_refused_in_a_sentence(classical, image, monkeypatch):
    monkeypatch.setattr("instance_seg_common.prediction.result.LARGEST_DETECTIONS", 1000)
    with pytest.raises(UserError, match="a mask of the whole image for each object"):
        classical(image).to_detections()


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (np.zeros((20, 20, 5), np.uint8), "5 channels"),
        (np.full((20, 20, 3), np.nan, np.float32), "NaN"),
        (np.zeros((4, 20, 20, 3), np.uint8), "shape"),
        (np.zeros((0, 20, 3), np.uint8), "shape"),
        (np.zeros((20, 20), bool), "type bool"),
        (np.array("text"), "type"),
    ],
)
def test_arrays_that_are_no_image_for_the_model(classical, pixels, word):
    with pytest.raises(UserError, match=word):
        classical(pixels)


def test_a_constant_image_has_no_objects(repository_root):
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    opts = ["MODEL.DEVICE", "cpu", "INPUT.NORMALIZATION", "percentile"]
    assert len(load_predictor(str(config), opts)(np.full((50, 50), 7, np.uint16))) == 0


def test_files_that_cannot_be_read_are_sentences(classical, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    for path in (tmp_path / "a.tif", tmp_path / "absent.png"):
        with pytest.raises(UserError, match=path.name):
            classical(path)
