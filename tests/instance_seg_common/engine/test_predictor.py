import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image

from instance_seg_common.data.mapper import build_test_mapper
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
    cfg.INPUT.FORMAT = "HSL"
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
    with pytest.raises(UserError, match="predicts no masks for the image"):
        predict(stock_cfg, stock_model, np.zeros((48, 64, 3), dtype=np.uint8))


def test_a_record_and_its_pixels_give_the_same_input(stock_cfg, squares):
    pixels = read_image(squares["file_name"], "RGB")
    of_record, of_pixels = (model_input(stock_cfg, image) for image in (squares, pixels))
    assert torch.equal(of_record["image"], of_pixels["image"])
    assert (of_record["height"], of_record["width"]) == pixels.shape[:2]
    alone = model_input(stock_cfg, {"file_name": squares["file_name"]})
    assert torch.equal(alone["image"], of_pixels["image"])
    assert (alone["height"], alone["width"]) == pixels.shape[:2]


def test_a_record_is_what_the_evaluation_sees(stock_cfg, squares):
    cfg = stock_cfg.clone()
    cfg.INPUT.NORMALIZATION = "percentile"
    mapped, item = build_test_mapper(cfg)(squares), model_input(cfg, squares)
    assert set(mapped) == set(item) and torch.equal(mapped["image"], item["image"])
    assert item["image"].dtype == torch.float32


def test_a_record_of_another_size_than_its_file_is_a_sentence(stock_cfg, squares):
    with pytest.raises(UserError, match=r"squares\.png .*50x64|squares\.png .*96x64"):
        model_input(stock_cfg, {**squares, "width": 50})


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_pixels_are_predicted_as_their_8_bit_original(stock_cfg, stock_model, dtype):
    cfg = stock_cfg.clone()
    cfg.INPUT.NORMALIZATION = "percentile"
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    found = [predict(cfg, stock_model, x) for x in (image, image.astype(dtype) * 257)]
    assert len(found[0]) > 0 and len(found[0]) == len(found[1])
    assert torch.equal(found[0].pred_masks, found[1].pred_masks)
