"""tools/analyze.py limits on tiny models."""

import json

import analyze
import pytest
import torch

from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError

CONFIGS = {name: f"{name}_R18_shapes" for name in ("mask_rcnn", "embedding", "recurrent")}
CONFIGS["classical"] = "classical_shapes"
# Random weights are sure of nothing.
OPTS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.0"]
OPTS += ["MODEL.RPN.POST_NMS_TOPK_TEST", "30", "TEST.DETECTIONS_PER_IMAGE", "20"]


@pytest.fixture
def config_of(repository_root):
    """config_of(name) -> file."""
    return lambda name: str(repository_root / "configs" / "Synthetic" / f"{CONFIGS[name]}.yaml")


def built(cfg, seed=3):
    torch.manual_seed(seed)
    return build_model_quietly(cfg.clone()).eval()


def test_limits(tiny_cfg, config_of, tmp_path, capsys):
    folder = tmp_path / "new" / "out"
    models = []
    for name in CONFIGS:
        weights = ""
        if name != "classical":
            weights = tmp_path / f"{name}.pth"
            torch.save({"model": built(load_cfg(config_of(name), OPTS)).state_dict()}, weights)
        models += ["--model", f"{config_of(name)}:{weights}"]
    arguments = ["limits", *models, "--dataset", tiny_cfg.DATASETS.TEST[0]]
    analyze.main([*arguments, "--max-images", "3", "--output", str(folder), *OPTS])
    result = json.loads((folder / "limits.json").read_text())
    assert result["images"] == 3 and list(result["models"]) == list(CONFIGS.values())
    models = list(result["models"].values())
    assert [len(model["neighbours"]) for model in models] == [4, 1, 1, 1]
    assert [len(model["capacity"]) for model in models] == [1, 1, 1, 0]
    assert len(models[0]["sweep"]["AP"]["all"]) == 9 and models[3]["sweep"] is None
    assert models[1]["claims"]["twice"] == 0 and models[0]["claims"]["twice"] > 0
    assert all(len(list(folder.glob(f"limit{n}*.png"))) == 1 for n in range(1, 5))
    assert len(list(folder.glob("limit*.png"))) == 4
    printed = capsys.readouterr().out
    assert all(f"- Limit {n} (" in printed for n in range(1, 5))
    assert "OtsuWatershed has no knob to sweep" in printed


def test_weights_are_read_before_anything_is_measured(tiny_cfg, config_of, tmp_path, monkeypatch):
    good, broken = tmp_path / "good.pth", tmp_path / "broken.pth"
    torch.save({"model": built(load_cfg(config_of("mask_rcnn"), OPTS)).state_dict()}, good)
    broken.write_bytes(good.read_bytes()[:1000])
    monkeypatch.setattr(analyze.limits, "measure_model", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(UserError, match="broken.pth"):
        analyze.main([
            "limits", "--model", f"{config_of('mask_rcnn')}:{good}",
            "--model", f"{config_of('embedding')}:{broken}",
            "--dataset", tiny_cfg.DATASETS.TEST[0], "--output", str(tmp_path), *OPTS,
        ])  # fmt: skip


def test_wrong_arguments():
    with pytest.raises(UserError, match="--max-images is 0"):
        analyze.main(["limits", "--model", "a.yaml", "--max-images", "0"])
    with pytest.raises(UserError, match="'weights/absent' names no model"):
        analyze.main(["limits", "--model", "weights/absent"])
