"""Names in saved weights stay: files of earlier versions load."""

import json

import pytest
import torch
from detectron2.modeling import build_model
from tiny_recurrent import GUIDED, RIS, RSIS_DETAIL, build_tiny

from instance_seg_common.engine.setup import load_cfg

CELLS = ("step.weight", "step.bias", "constant.weight")
BUFFERS = ("iteration", "objects", "since_added", "since_best", "stalled", "running", "best")
HEADS = {
    f"decoder.{name}" for head in ("classes", "stop") for name in (f"{head}.weight", f"{head}.bias")
}
MASK = {"decoder.mask.weight", "decoder.mask.bias"}
GUIDE = {
    *(f"decoder.guide.hidden.{name}" for name in ("weight", "norm.weight", "norm.bias")),
    *(f"decoder.guide.last.{name}" for name in ("weight", "bias")),
    *(f"decoder.attention.{name}" for name in ("handicap", "log_bandwidth", "logits")),
    *(f"decoder.attention.score.{name}" for name in ("weight", "bias")),
}


def pyramid(levels):
    """Projections and cells of a pyramid, with a norm."""
    projections = {
        f"decoder.project.{level}.{name}"
        for level in range(levels)
        for name in ("weight", "norm.weight", "norm.bias")
    }
    return projections | {f"decoder.cells.{n}.{name}" for n in range(levels) for name in CELLS}


RIS_NAMES = {
    *(f"decoder.project.{name}" for name in ("weight", "norm.weight", "norm.bias")),
    *(f"decoder.cells.0.{name}" for name in CELLS),
    *(f"decoder.cells.1.{name}" for name in CELLS[:2]),
    "decoder.inhibition.bias",
}
DETAIL = {f"detail.{name}" for name in ("weight", "norm.weight", "norm.bias")}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ({}, pyramid(2)),
        (RSIS_DETAIL, pyramid(3) | DETAIL),
        (GUIDED, pyramid(2) | GUIDE),
        (RIS, RIS_NAMES),
    ],
)
def test_names(kind, names):
    state = {name for name in build_tiny(**kind).state_dict() if not name.startswith("backbone.")}
    assert state == names | HEADS | MASK | {f"schedule.{name}" for name in BUFFERS}


@pytest.mark.parametrize(
    "name", ["recurrent_R18_shapes", "recurrent_R18_sticks", "recurrent_R18_dsb2018_upto20"]
)
def test_published_weights_fit_their_config(name, repository_root):
    folder = repository_root / "weights"
    config = json.loads((folder / f"{name}.json").read_text())["config"]
    cfg = load_cfg(repository_root / config, ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    saved = torch.load(folder / f"{name}.pth", weights_only=True)
    model.load_state_dict(saved.get("model", saved), strict=True)
    assert (
        int(model.schedule.iteration)
        == json.loads((folder / f"{name}.json").read_text())["training"]["iteration"]
    )
