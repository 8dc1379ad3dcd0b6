import numpy as np
import pytest
import torch

from instance_seg_common.errors import UserError
from instance_seg_common.visualization.predictor import build_predictor, model_input, predict


def test_input_follows_the_config(tiny_cfg):
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[..., 0] = 200  # red
    bgr = model_input(tiny_cfg, image)
    assert bgr["image"].shape == (3, 96, 128) and (bgr["height"], bgr["width"]) == (48, 64)
    assert bgr["image"][2].min() == 200 and bgr["image"][0].max() == 0
    cfg = tiny_cfg.clone()
    cfg.INPUT.FORMAT = "RGB"
    assert model_input(cfg, image)["image"][0].min() == 200
    cfg.INPUT.FORMAT = "YUV-BT.601"
    with pytest.raises(UserError, match="INPUT.FORMAT"):
        model_input(cfg, image)


def test_fixed_squash_of_the_config_is_applied(tiny_cfg):
    cfg = tiny_cfg.clone()
    cfg.INPUT.AUGMENTATIONS = [["Resize", {"shape": [96, 96]}]]
    assert model_input(cfg, np.zeros((48, 64, 3), dtype=np.uint8))["image"].shape == (3, 96, 96)


def test_weights_are_loaded_or_refused(tiny_cfg, tiny_model, tmp_path):
    with pytest.raises(UserError, match="No weights"):
        build_predictor(tiny_cfg)
    cfg = tiny_cfg.clone()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    torch.save({"model": tiny_model.state_dict()}, cfg.MODEL.WEIGHTS)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    expected = predict(cfg, tiny_model, image)
    found = predict(cfg, build_predictor(cfg), image)
    assert len(expected) > 0 and expected.pred_masks.shape[1:] == (48, 64)
    assert torch.equal(found.scores, expected.scores)


def test_model_without_masks_is_a_sentence(tiny_cfg, tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model.roi_heads, "mask_on", False)
    with pytest.raises(UserError, match="predicts no masks for a.png"):
        predict(tiny_cfg, tiny_model, np.zeros((48, 64, 3), dtype=np.uint8), "a.png")
