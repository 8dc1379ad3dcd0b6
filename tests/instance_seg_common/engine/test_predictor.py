import numpy as np
import pytest
import torch

from instance_seg_common.engine.predictor import build_predictor, model_input, predict
from instance_seg_common.errors import UserError


def test_input_follows_the_config(stock_cfg):
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[..., 0] = 200  # red
    bgr = model_input(stock_cfg, image)
    assert bgr["image"].shape == (3, 96, 128) and (bgr["height"], bgr["width"]) == (48, 64)
    assert bgr["image"][2].min() == 200 and bgr["image"][0].max() == 0
    cfg = stock_cfg.clone()
    cfg.INPUT.FORMAT = "RGB"
    assert model_input(cfg, image)["image"][0].min() == 200
    cfg.INPUT.FORMAT = "YUV-BT.601"
    with pytest.raises(UserError, match="INPUT.FORMAT"):
        model_input(cfg, image)


def test_fixed_squash_of_the_config_is_applied(stock_cfg):
    cfg = stock_cfg.clone()
    cfg.INPUT.AUGMENTATIONS = [["Resize", {"shape": [96, 96]}]]
    assert model_input(cfg, np.zeros((48, 64, 3), dtype=np.uint8))["image"].shape == (3, 96, 96)


def test_weights_are_loaded_or_refused(stock_cfg, stock_model, tmp_path):
    with pytest.raises(UserError, match="No weights"):
        build_predictor(stock_cfg)
    cfg = stock_cfg.clone()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    torch.save({"model": stock_model.state_dict()}, cfg.MODEL.WEIGHTS)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    expected = predict(cfg, stock_model, image)
    found = predict(cfg, build_predictor(cfg), image)
    assert len(expected) > 0 and expected.pred_masks.shape[1:] == (48, 64)
    assert torch.equal(found.scores, expected.scores)


def test_model_without_masks_is_a_sentence(stock_cfg, stock_model, monkeypatch):
    monkeypatch.setattr(stock_model.roi_heads, "mask_on", False)
    with pytest.raises(UserError, match="predicts no masks for a.png"):
        predict(stock_cfg, stock_model, np.zeros((48, 64, 3), dtype=np.uint8), file_name="a.png")
