"""Weights of torchvision give the features of torchvision."""

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from instance_seg_common.engine.checkpoint import AtomicCheckpointer
from instance_seg_common.engine.torchvision_weights import convert_torchvision, converted
from instance_seg_common.errors import UserError

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
LEVELS = ["res2", "res3", "res4", "res5"]


def config(depth=18, norm="FrozenBN", *, order="BGR", std=None, fpn=False):
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.INPUT.FORMAT = "cpu", order
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = f"build_resnet_{'fpn_' if fpn else ''}backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    node = cfg.MODEL.RESNETS
    node.DEPTH, node.NORM, node.STRIDE_IN_1X1, node.OUT_FEATURES = depth, norm, False, LEVELS
    node.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    flip = -1 if order == "BGR" else 1
    cfg.MODEL.PIXEL_MEAN = (255 * MEAN).tolist()[::flip]
    cfg.MODEL.PIXEL_STD = std or (255 * STD).tolist()[::flip]
    return cfg


def theirs(name="resnet18"):
    """A network of torchvision whose batch norms are not those of a new one, for evaluation."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.uniform_(tensor, -0.5, 0.5)
    return network


def features_of(network, image):
    """res2 to res5 of torchvision, of an RGB image of 0 to 255."""
    x = (image / 255 - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    levels = {}
    for number, name in enumerate(LEVELS, start=1):
        levels[name] = x = getattr(network, f"layer{number}")(x)
    return levels


@pytest.mark.parametrize(
    ("depth", "norm", "order", "std"),
    [
        (18, "FrozenBN", "BGR", None),
        (18, "BN", "RGB", None),
        (18, "FrozenBN", "BGR", [1.0, 2.0, 50.0]),
        (50, "FrozenBN", "RGB", [1.0, 1.0, 1.0]),
    ],
)
def test_features_are_those_of_torchvision(depth, norm, order, std):
    network, cfg = theirs(f"resnet{depth}"), config(depth, norm, order=order, std=std)
    weights, sentences = converted(network.state_dict(), cfg)
    assert sentences == ["fc.weight, fc.bias: left out, for the backbone has no such layers."]
    backbone = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    assert not backbone.load_state_dict(weights, strict=False).missing_keys
    image = torch.randint(0, 256, (2, 3, 64, 96)).float()
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    )
    ordered = image.flip(1) if order == "BGR" else image
    with torch.no_grad():
        expected, found = features_of(network, image), backbone((ordered - mean) / std)
    for name in LEVELS:
        scale = expected[name].abs().max()
        assert torch.allclose(found[name], expected[name], atol=1e-4 * float(scale)), name


class Model(torch.nn.Module):
    """What a checkpointer sees of any model."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN), False)


@pytest.mark.parametrize(("wrapped", "channels"), [(False, 3), (True, 4)])
def test_a_model_starts_from_the_file(tmp_path, wrapped, channels):
    state = theirs().state_dict()
    torch.save({"model": state} if wrapped else state, tmp_path / "resnet18.pth")
    cfg = config(fpn=True)
    cfg.MODEL.FPN.IN_FEATURES = LEVELS
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [100.0] * channels
    target = tmp_path / "new" / "start.pth"
    sentences = convert_torchvision(tmp_path / "resnet18.pth", cfg, target)
    assert ("MODEL.PIXEL_MEAN is" in " ".join(sentences)) == (channels == 3)
    model = Model(cfg)
    AtomicCheckpointer(model).resume_or_load(str(target), resume=False)
    own = model.backbone.bottom_up.state_dict()
    assert torch.equal(own["res5.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert torch.equal(
        own["res3.0.shortcut.norm.running_var"], state["layer2.0.downsample.1.running_var"]
    )
    assert own["stem.conv1.weight"].shape[1] == channels
    kernel = state["conv1.weight"] * (100 / (255 * STD)).view(1, 3, 1, 1)
    assert torch.allclose(own["stem.conv1.weight"].sum(1), kernel.sum(1), atol=1e-5)


def test_norms_of_another_kind_start_anew_and_this_is_said():
    weights, sentences = converted(theirs().state_dict(), config(norm="GN"))
    assert "100 tensors of batch norms are left out: MODEL.RESNETS.NORM is GN" in sentences[0]
    assert len(weights) == 20 and not [name for name in weights if "norm" in name]


@pytest.mark.parametrize(
    ("name", "cfg", "words"),
    [
        ("resnet34", config(), "RESNETS.DEPTH 18"),
        ("resnet18", config(34), "RESNETS.DEPTH 34"),
        ("mobilenet_v2", config(), "Give a ResNet of torchvision"),
    ],
)
def test_another_network_is_a_sentence(name, cfg, words):
    state = getattr(torchvision.models, name)(weights=None).state_dict()
    with pytest.raises(UserError, match=words):
        converted(state, cfg)


def test_strides_elsewhere_are_a_sentence():
    cfg = config(50)
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
    with pytest.raises(UserError, match="STRIDE_IN_1X1 is True"):
        converted(torchvision.models.resnet50(weights=None).state_dict(), cfg)


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pth"):
        convert_torchvision(tmp_path / "x.pth", config(), tmp_path / "y.pth")
    assert not (tmp_path / "y.pth").exists()
