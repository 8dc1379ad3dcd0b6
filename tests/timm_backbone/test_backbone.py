"""Networks of timm behind Detectron2's interface: levels, freezing, and what cannot be."""

import sys

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from instance_seg_common.errors import UserError
from timm_backbone import add_timm_backbone_config
from timm_backbone.networks import levels_of

PYRAMID = ["res2", "res3", "res4", "res5"]
# A network of each kind of timm's feature extractors: a list of layers, MobileNets of their own
# kind, with TensorFlow's padding, no stride of 2, and channels last.
NETWORKS = {
    "test_resnet": [],
    "tf_efficientnet_lite0": [],
    "mobilenetv3_small_050": [],
    "convnext_atto": [],
    "swin_tiny_patch4_window7_224": [
        ["strict_img_size", False], ["depths", [1, 1, 1, 1]], ["embed_dim", 48],
    ],
}  # fmt: skip


def config(name="test_resnet", *, fpn=False, **node):
    """A stock config with the keys of the plugin."""
    cfg = get_cfg()
    add_timm_backbone_config(cfg)
    cfg.MODEL.BACKBONE.NAME = f"build_timm_{'fpn_' if fpn else ''}backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = PYRAMID
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.TIMM.NAME = name
    for key, value in node.items():
        cfg.MODEL.TIMM[key] = value
    return cfg


def build(cfg, channels=3):
    torch.manual_seed(0)
    return build_backbone(cfg, ShapeSpec(channels=channels))


def shaken(backbone):
    """With statistics of batch norms that are not those of a new one, in evaluation mode."""
    backbone.train()
    for _ in range(3):
        backbone(torch.randn(4, 3, 64, 64) + 1.0)
    return backbone.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_levels_are_those_of_timm_with_the_strides_and_channels_that_are_said(name):
    cfg = config(name, ARGUMENTS=NETWORKS[name])
    backbone = build(cfg, channels=4).eval()
    image = torch.rand(2, 4, 64, 96)
    with torch.no_grad():
        found = backbone(image)
    assert list(found) == PYRAMID and backbone.size_divisibility == 32
    for key, shape in backbone.output_shape().items():
        cells = (64 // shape.stride, 96 // shape.stride)
        assert found[key].shape == (2, shape.channels, *cells)
        assert shape.stride == 2 ** int(key[-1])
    arguments = dict(NETWORKS[name])
    own = timm.create_model(name, features_only=True, in_chans=4, **arguments).eval()
    own.load_state_dict(backbone.net.state_dict(), strict=False)
    for expected, key in zip(own(image)[-4:], PYRAMID):
        if "swin" in name:
            expected = expected.permute(0, 3, 1, 2)
        assert torch.equal(found[key], expected)


def test_the_last_of_several_outputs_of_a_stride_is_taken():
    features = [{"reduction": r, "num_chs": c} for r, c in ((2, 8), (4, 16), (4, 24), (12, 32))]
    levels = levels_of(features)
    assert levels == {"res1": (0, 8, 2), "res2": (2, 24, 4)}


def test_a_pyramid_is_that_of_detectron2():
    backbone = build(config(fpn=True))
    shapes = {name: (s.channels, s.stride) for name, s in backbone.output_shape().items()}
    assert shapes == {f"p{n}": (32, 2**n) for n in range(2, 7)}
    assert backbone.size_divisibility == 32
    features = backbone(torch.rand(1, 3, 64, 96))
    assert {name: x.shape[-2:] for name, x in features.items()} == {
        f"p{n}": (64 // 2**n, 96 // 2**n or 1) for n in range(2, 6)
    } | {"p6": (1, 2)}


def changed_by_training(backbone):
    """Names of the tensors, without counts of batches, that two steps of training change."""
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    learning = [p for p in backbone.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1.0)
    backbone.train()
    for _ in range(2):
        features = backbone(torch.randn(4, 3, 64, 64))
        loss = sum((x * torch.randn_like(x)).mean() for x in features.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = backbone.state_dict()
    counts = {name for name in before if "num_batches" in name}
    assert all(p.grad is not None for p in learning)
    return {n for n in before if not torch.equal(before[n], after[n])} - counts, set(before)


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [
        (0, ()),
        (1, ("conv1.", "bn1.")),
        (2, ("conv1.", "bn1.", "layer1.")),
        (3, ("conv1.", "bn1.", "layer1.", "layer2.")),
    ],
)
def test_what_comes_before_a_level_is_frozen_with_its_statistics(freeze_at, frozen):
    cfg = config()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    changed, everything = changed_by_training(build(cfg))
    expected = {
        name
        for name in everything
        if not name.removeprefix("net.").startswith(frozen or "nothing")
        and "num_batches" not in name
    }
    assert changed == expected


def test_layers_behind_no_level_that_is_read_do_not_learn():
    cfg = config("mobilenetv3_small_050", OUT_FEATURES=["res3"])
    backbone = build(cfg)
    changed, everything = changed_by_training(backbone)
    stages = {name.split(".")[2] for name in changed if ".blocks." in name}
    assert stages == {"0", "1"}  # of six; the second gives stride 8
    assert len(changed) < len(everything) / 2


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0"])
def test_frozen_norms_keep_statistics_and_activations(name):
    learning = shaken(build(config(name)))
    frozen = build(config(name, FREEZE_NORM=True))
    missing = frozen.load_state_dict(learning.state_dict(), strict=False).missing_keys
    assert not missing
    image = torch.randn(2, 3, 64, 64)
    expected = learning(image)
    for mode in (False, True):
        for key, found in frozen.train(mode)(image).items():
            assert torch.allclose(found, expected[key], atol=1e-4), (mode, key)
    changed, everything = changed_by_training(frozen)
    norms = {name.rpartition(".")[0] for name in everything if "running" in name}
    assert changed and norms.isdisjoint(name.rpartition(".")[0] for name in changed)


def with_freeze_at(level, **options):
    cfg = config(**options)
    cfg.MODEL.BACKBONE.FREEZE_AT = level
    return cfg


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (config("resnet81"), r"TIMM\.NAME resnet81 .*near: resnet18"),
        (config(ARGUMENTS=[["depth", 3]]), r"TIMM\.ARGUMENTS .*depth"),
        (config(OUT_FEATURES=["res2", "p3"]), r"OUT_FEATURES is .* no p3 .*res1, res2, res3"),
        (with_freeze_at(1, name="convnext_atto"), r"FREEZE_AT is 1, and convnext_atto has no res1"),
        (
            config("vit_tiny_patch16_224", OUT_FEATURES=["res4"]),
            r"cannot take an image of 32 x 32 .*ARGUMENTS.*dynamic_img_size",
        ),
        (config(PRETRAINED="imagenet"), r"PRETRAINED is 'imagenet'"),
    ],
)
def test_what_cannot_be_is_a_sentence(cfg, words):
    with pytest.raises(UserError, match=words):
        build(cfg)


def test_a_pyramid_names_its_own_key():
    cfg = config(fpn=True)
    cfg.MODEL.FPN.IN_FEATURES = ["c3", "c4"]
    with pytest.raises(UserError, match=r"MODEL\.FPN\.IN_FEATURES is .* no c3 or c4"):
        build(cfg)


def test_without_timm_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        build(config())
