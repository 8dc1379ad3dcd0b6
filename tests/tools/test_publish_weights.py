"""Weights for weights/: small, with config and figures, usable as they are."""

import json
import sys

import publish_weights
import pytest
import torch

from instance_seg_common.engine.checkpoint import AtomicCheckpointer, load_weights
from instance_seg_common.errors import UserError


@pytest.fixture
def finished_run(tmp_path):
    model = torch.nn.Linear(3, 2)
    AtomicCheckpointer(model, str(tmp_path)).save_weights("model_final")
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    (tmp_path / "results.json").write_text(json.dumps({"metrics": {"segm": {"AP": 12.5}}}))
    return model, tmp_path


def publish(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["publish_weights.py", *map(str, arguments)])
    publish_weights.main()


def test_half_precision_with_config_and_figures(finished_run, monkeypatch):
    model, folder = finished_run
    target = folder / "weights" / "linear_v1.5"
    publish(monkeypatch, folder, target)
    names = sorted(f.name for f in target.parent.iterdir())
    assert names == ["linear_v1.5.json", "linear_v1.5.pth", "linear_v1.5.yaml"]
    other = torch.nn.Linear(3, 2)
    load_weights(other, str(target) + ".pth")
    assert torch.allclose(other.weight, model.weight, atol=1e-3)


def test_an_unfinished_run_is_refused(finished_run, monkeypatch):
    _, folder = finished_run
    (folder / "results.json").unlink()
    with pytest.raises(UserError, match=r"results\.json"):
        publish(monkeypatch, folder, folder / "w")


def test_a_file_over_the_limit_is_not_left_behind(finished_run, monkeypatch):
    _, folder = finished_run
    monkeypatch.setattr(publish_weights, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="exceed"):
        publish(monkeypatch, folder, folder / "w")
    assert not (folder / "w.pth").exists()
