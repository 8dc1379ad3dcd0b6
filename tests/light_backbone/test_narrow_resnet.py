"""Narrow ResNets: at Detectron2's widths they are Detectron2's, and values are checked."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone

from instance_seg_common.errors import UserError
from light_backbone import add_light_backbone_config

LEVELS = ["res2", "res3", "res4", "res5"]


def config(name="build_narrow_resnet_backbone", widths=(32, 64, 128, 256), **resnets):
    cfg = get_cfg()
    add_light_backbone_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = name, 0
    cfg.MODEL.NARROW_RESNET.WIDTHS = list(widths)
    node = cfg.MODEL.RESNETS
    node.DEPTH, node.NORM, node.STEM_OUT_CHANNELS, node.OUT_FEATURES = 18, "BN", 32, LEVELS
    node.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = LEVELS, 64
    for key, value in resnets.items():
        node[key] = value
    return cfg


def build(cfg, channels=3):
    return build_backbone(cfg, ShapeSpec(channels=channels))


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.parametrize("kind", ["", "fpn_"])
def test_at_the_usual_widths_it_is_detectron2s_resnet(depth, kind):
    wide = {"STEM_OUT_CHANNELS": 64, "DEPTH": depth}
    narrow = config(f"build_narrow_resnet_{kind}backbone", (64, 128, 256, 512), **wide)
    stock = config(f"build_resnet_{kind}backbone", **wide)
    ours, theirs = build(narrow).eval(), build(stock).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert ours.output_shape() == theirs.output_shape()
    assert ours.size_divisibility == theirs.size_divisibility


def test_half_the_widths_have_a_quarter_of_the_parameters():
    backbone = build(config(), channels=5)
    shapes = {name: (s.channels, s.stride) for name, s in backbone.output_shape().items()}
    assert shapes == {"res2": (32, 4), "res3": (64, 8), "res4": (128, 16), "res5": (256, 32)}
    features = backbone(torch.rand(2, 5, 64, 96))
    assert {name: x.shape[1:] for name, x in features.items()} == {
        name: (channels, 64 // stride, 96 // stride) for name, (channels, stride) in shapes.items()
    }
    parameters = sum(p.numel() for p in backbone.parameters())
    assert 2.7e6 < parameters < 2.9e6


@pytest.mark.parametrize("norm", ["BN", "GN", "SyncBN", "FrozenBN"])
def test_every_norm_of_detectron2_is_one(norm):
    cfg = config("build_narrow_resnet_fpn_backbone", NORM=norm)
    cfg.MODEL.FPN.NORM = "" if norm == "FrozenBN" else norm
    names = {
        type(module).__name__ for module in build(cfg).modules() if "Norm" in str(type(module))
    }
    kinds = {"BN": "BatchNorm2d", "GN": "GroupNorm", "FrozenBN": "FrozenBatchNorm2d"}
    assert names == {kinds.get(norm, "SyncBatchNorm")}


def test_stages_are_frozen_as_in_detectron2():
    cfg = config()
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    backbone = build(cfg)
    learning = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {"res3", "res4", "res5"}
    assert isinstance(backbone.stem.conv1.norm, FrozenBatchNorm2d)
    assert isinstance(backbone.res2[0].conv1.norm, FrozenBatchNorm2d)
    assert not isinstance(backbone.res3[0].conv1.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"DEPTH": 50}, "DEPTH is 50; narrow ResNets have 18 or 34"),
        ({"RES5_DILATION": 2}, "RES5_DILATION is 2"),
        ({"OUT_FEATURES": ["res2", "p3"]}, "OUT_FEATURES has p3"),
        ({"NORM": "GN", "widths": (32, 48, 64, 80)}, r"\[48, 80\] channels are no multiple of 32"),
        ({"widths": (32, 64)}, r"WIDTHS is \[32, 64\]; it has the channels of res2, res3"),
        ({"widths": (32, 64, 0, 8)}, "at least 1 each"),
    ],
)
def test_values_that_do_not_fit_are_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        build(config(**options))
