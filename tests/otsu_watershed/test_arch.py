"""The classical row: which pixels, which scores, which errors."""

import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from PIL import Image

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.contingency import contingency_table
from instance_seg_common.evaluation.matching import match_label_maps
from otsu_watershed import add_otsu_watershed_config
from otsu_watershed.arch import OtsuSettings, OtsuWatershed, grey_image, segment

SETTINGS = OtsuSettings(smoothing=0.5, min_distance=6, min_area=20, split=True)


def _discs(*centres, size=(64, 80), radius=10, level=200, background=20):
    """(H, W) float with discs at ``centres`` (x, y)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.full(size, background, float)
    for x, y in centres:
        image[np.hypot(columns - x, rows - y) <= radius] = level
    return image


def _batch(image, **extra):
    planes = np.repeat(image[None], 3, axis=0).astype(np.uint8)
    return [{"image": torch.from_numpy(planes), **extra}]


def _cfg(**changes):
    cfg = get_cfg()
    add_otsu_watershed_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "OtsuWatershed"
    cfg.MODEL.DEVICE = "cpu"
    for key, value in changes.items():
        cfg.MODEL.OTSU_WATERSHED[key] = value
    return cfg


class TestSegment:
    def test_touching_discs_are_split(self):
        image = _discs((25, 30), (43, 30))
        labels, scores = segment(image, SETTINGS)
        assert labels.max() == len(scores) == 2
        assert labels[30, 25] != labels[30, 43]
        assert ((labels > 0) == (image > 100)).mean() > 0.99

    def test_without_split_they_are_one(self):
        labels, _ = segment(_discs((25, 30), (43, 30), (70, 10)), replace(SETTINGS, split=False))
        assert labels.max() == 2 and labels[30, 25] == labels[30, 43] != labels[10, 70]

    def test_dark_objects_on_a_bright_ground(self):
        bright = _discs((25, 30), (60, 40))
        expected, _ = segment(bright, SETTINGS)
        labels, _ = segment(255 - bright, SETTINGS)
        assert ((labels > 0) == (expected > 0)).mean() > 0.99 and labels.max() == 2

    def test_objects_may_cover_most_of_the_image(self):
        labels, _ = segment(_discs((40, 32), radius=30), SETTINGS)
        assert (labels > 0).mean() > 0.5 and labels[0, 0] == 0 and labels[32, 40] > 0

    def test_holes_are_filled(self):
        image = _discs((40, 30), radius=12)
        image[29:32, 39:42] = 20
        labels, _ = segment(image, SETTINGS)
        assert labels.max() == 1 and (labels[29:32, 39:42] == 1).all()

    def test_small_objects_are_dropped_and_ids_stay_consecutive(self):
        image = _discs((20, 20), (60, 40))
        image[2:5, 2:5] = 200
        kept, _ = segment(image, replace(SETTINGS, min_area=1))
        labels, _ = segment(image, SETTINGS)
        assert kept.max() == 3 and np.unique(labels).tolist() == [0, 1, 2]

    def test_distance_between_markers(self):
        peanut = _discs((30, 30), (43, 30))
        assert segment(peanut, replace(SETTINGS, min_distance=4))[0].max() == 2
        assert segment(peanut, replace(SETTINGS, min_distance=20))[0].max() == 1

    def test_scores_rank_by_contrast(self):
        image = _discs((20, 30))
        image[_discs((60, 30)) > 100] = 140
        labels, scores = segment(image, SETTINGS)
        assert scores[labels[30, 20] - 1] > scores[labels[30, 60] - 1]
        assert (scores > 0.5).all() and (scores <= 1).all()

    @pytest.mark.parametrize("level", [0.0, 255.0])
    def test_flat_image_has_no_objects(self, level):
        labels, scores = segment(np.full((20, 30), level), SETTINGS)
        assert labels.shape == (20, 30) and labels.max() == 0 and len(scores) == 0

    def test_missing_scikit_image_is_a_sentence(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage", None)
        with pytest.raises(UserError, match="scikit-image"):
            segment(_discs((20, 20)), SETTINGS)


class TestGrey:
    def test_channel_order(self):
        red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
        assert grey_image(red, "RGB").item() == pytest.approx(0.299 * 255)
        assert grey_image(red.flip(0), "BGR").item() == pytest.approx(0.299 * 255)

    def test_one_channel(self):
        assert (
            grey_image(torch.full((1, 2, 3), 7, dtype=torch.uint8), "L").tolist() == [[7] * 3] * 2
        )

    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_other_numbers_of_channels_have_a_mean(self, channels):
        planes = torch.arange(channels, dtype=torch.float32)[:, None, None].expand(-1, 2, 3)
        assert grey_image(planes * 1000, "BGR").tolist() == [[500 * (channels - 1)] * 3] * 2


class TestModel:
    def test_output_contract(self):
        instances = OtsuWatershed(settings=SETTINGS).eval()(_batch(_discs((20, 30), (60, 40))))[0][
            "instances"
        ]
        assert instances.image_size == (64, 80) and len(instances) == 2
        assert instances.pred_masks.shape == (2, 64, 80)
        assert instances.pred_masks.dtype == torch.bool
        assert instances.pred_classes.tolist() == [0, 0]
        assert instances.scores.dtype == torch.float32
        for mask, box in zip(instances.pred_masks, instances.pred_boxes.tensor.tolist()):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == [float(value) for value in tight]

    @pytest.mark.parametrize("height, width", [(128, 160), (32, 40), (64, 40)])
    def test_output_size(self, height, width):
        batch = _batch(_discs((20, 30), (60, 40)), height=height, width=width)
        instances = OtsuWatershed(settings=SETTINGS).eval()(batch)[0]["instances"]
        assert instances.image_size == (height, width)
        assert instances.pred_masks.shape == (2, height, width)
        assert instances.pred_masks[:, 30 * height // 64, 20 * width // 80].sum() == 1

    def test_scores_stay_with_their_objects_when_one_vanishes(self):
        image = _discs((60, 40), level=255)
        image[_discs((20, 20), radius=10) > 100] = 140
        image[4, 40:44] = 200  # ids run from the top: the line comes first, and shrinks away
        settings = OtsuSettings(min_area=1, smoothing=0.0)
        model = OtsuWatershed(settings=settings).eval()
        full = model(_batch(image))[0]["instances"]
        small = model(_batch(image, height=8, width=10))[0]["instances"]
        assert (len(full), len(small)) == (3, 2)
        brighter = small.scores[small.pred_masks[:, 5, 7]]
        darker = small.scores[small.pred_masks[:, 2, 2]]
        assert brighter.item() > darker.item()
        assert set(small.scores.tolist()) < set(full.scores.tolist())

    def test_no_objects(self):
        instances = OtsuWatershed(settings=SETTINGS).eval()(_batch(np.zeros((8, 9))))[0][
            "instances"
        ]
        assert len(instances) == 0 and instances.pred_masks.shape == (0, 8, 9)
        assert instances.pred_boxes.tensor.shape == (0, 4)

    def test_training_is_refused(self):
        model = OtsuWatershed(settings=SETTINGS)
        assert not list(model.parameters())
        with pytest.raises(UserError, match="--eval-only"):
            model.train()(_batch(_discs((20, 30))))


class TestConfig:
    def test_built_by_detectron2(self):
        assert "OtsuWatershed" in META_ARCH_REGISTRY
        model = build_model(_cfg()).eval()
        assert len(model(_batch(_discs((20, 30), (60, 40))))[0]["instances"]) == 2

    def test_defaults_of_class_and_config_agree(self):
        from_cfg, direct = OtsuWatershed(_cfg()), OtsuWatershed(settings=OtsuSettings())
        assert from_cfg.settings == direct.settings
        assert from_cfg.input_format == direct.input_format
        assert from_cfg.num_classes == direct.num_classes

    def test_every_key_arrives(self):
        changes = {"SMOOTHING": 2.5, "MIN_DISTANCE": 9, "MIN_AREA": 7, "SPLIT": False}
        model = OtsuWatershed(_cfg(**changes, NUM_CLASSES=3))
        assert asdict(model.settings) == {key.lower(): value for key, value in changes.items()}
        assert model.num_classes == 3
        assert set(_cfg().MODEL.OTSU_WATERSHED) == {*changes, "NUM_CLASSES"}


def test_nuclei_reference(shared_data):
    """The figures that a trained model has to beat: about 0.60 pooled, 0.69 a mean, SBD 0.75."""
    counts, accuracies, sbd = np.zeros(3), [], []
    for path in sorted((shared_data / "dsb2018" / "val" / "images").glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1).copy()
        predicted, _ = segment(grey_image(torch.from_numpy(pixels), "RGB"), SETTINGS)
        labels = np.asarray(Image.open(shared_data / "dsb2018" / "val" / "labels" / path.name))
        matching = match_label_maps(labels.astype(np.int64), predicted, 0.5)
        counts += (matching.tp, matching.fp, matching.fn)
        accuracies.append(matching.accuracy)
        sbd.append(contingency_table(labels.astype(np.int64), predicted).symmetric_best_dice())
    assert counts[0] / counts.sum() == pytest.approx(0.635, abs=0.02)
    assert np.mean(accuracies) == pytest.approx(0.71, abs=0.02)
    assert np.mean(sbd) == pytest.approx(0.762, abs=0.02)
