"""Scores by which the worst predictions come first."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from PIL import Image
from pycocotools import mask as mask_util

from instance_seg_common.config import add_common_config
from instance_seg_common.data.reading import Reading
from instance_seg_common.engine import picture_run
from instance_seg_common.masks import instances_from_masks


def box(top, bottom, left, right):
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture
def score(tmp_path, monkeypatch):
    """score(true masks, predicted masks, **record) -> (accuracy, SBD)."""
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")

    def measure(true, predicted, foreground_given=False, **more):
        cfg = get_cfg()
        add_common_config(cfg)
        cfg.TEST.FOREGROUND_GIVEN = foreground_given
        record = {
            "file_name": str(tmp_path / "a.png"), "image_id": 1, "height": 32, "width": 32,
            "annotations": [
                {"segmentation": mask_util.encode(np.asfortranarray(m)), "category_id": 0}
                for m in true
            ],
            **more,
        }  # fmt: skip
        masks = torch.as_tensor(np.stack(predicted)).float()
        ones, size = torch.ones(len(masks)), (32, 32)
        instances = instances_from_masks(masks, ones, 0 * ones, input_size=size, output_size=size)
        monkeypatch.setattr(picture_run, "predict", lambda *_, **__: instances)
        pictures = SimpleNamespace(
            cfg=cfg, model=None, label_map_options={"score_threshold": 0.5, "min_area": 0}
        )
        return picture_run.PredictionPictures.score(pictures, record)

    return measure


def test_an_object_that_others_hide_is_none_to_find(score):
    halves = [box(4, 14, 4, 9), box(4, 14, 9, 14)]
    assert score([box(4, 14, 4, 14), *halves], halves) == (1, pytest.approx(1))


def test_what_lies_outside_the_supplied_foreground_is_not_scored(score, tmp_path):
    true = box(4, 14, 4, 14)
    Image.fromarray(true * np.uint8(255)).save(tmp_path / "foreground.png")
    supplied = {"foreground_file_name": str(tmp_path / "foreground.png")}
    far_beyond = [box(0, 20, 0, 20)]
    assert score([true], far_beyond, **supplied)[0] == 0
    assert score([true], far_beyond, foreground_given=True, **supplied) == (1, pytest.approx(1))


def test_each_plane_and_each_folder_has_a_picture_of_its_own(tmp_path):
    writer = picture_run.PictureWriter(tmp_path)
    planes = [
        {"file_name": "in/a.tif", "reading": Reading(planes="each", plane=number)}
        for number in range(2)
    ]
    records = [*planes, {"file_name": "in/b.png"}, {"file_name": "other/b.png"}]
    assert [writer.name(record) for record in records] == ["a_plane0", "a_plane1", "b", "b_2"]
