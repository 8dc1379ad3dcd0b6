"""Encoders as they were when training began."""

import torch

from instance_seg_analysis.order.encoders import encoders_before
from instance_seg_common.engine.setup import load_cfg
from timm_backbone.networks import package_weights


def test_a_backbone_begins_with_the_weights_that_it_brings(tmp_path, repository_root):
    parts = ("Base-InstanceSeg", "backbones/efficientnet_lite0_fpn", "methods/embedding_light")
    bases = [str(repository_root / "configs" / f"{part}.yaml") for part in parts]
    (tmp_path / "pretrained.yaml").write_text(f"_BASE_: {bases}\n")
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "trained.pth", "SEED", 5]
    cfg = load_cfg(tmp_path / "pretrained.yaml", opts)
    encoders = encoders_before(cfg, "", 2)
    assert list(encoders) == ["fresh, seed 5", "fresh, seed 6"]
    stem = package_weights()["conv_stem.weight"]
    one, two = (encoder.backbone for encoder in encoders.values())
    assert torch.equal(one.bottom_up.net.conv_stem.weight, stem)
    assert torch.equal(two.bottom_up.net.conv_stem.weight, stem)
    assert not torch.equal(one.fpn_lateral2.weight, two.fpn_lateral2.weight)
    assert cfg.MODEL.WEIGHTS == "trained.pth"
