"""Best model and early stop."""

import json
from types import SimpleNamespace

import pytest
import torch

from instance_seg_common.engine.checkpoint import AtomicCheckpointer
from instance_seg_common.engine.hooks import BestModel, EarlyStop, StopTraining


@pytest.fixture
def model():
    return torch.nn.Linear(1, 1)


def best_model(metric, model, folder):
    return BestModel(metric, AtomicCheckpointer(model, str(folder)))


def set_weight(model, value):
    torch.nn.init.constant_(model.weight, value)


@pytest.mark.parametrize(("metric", "kept"), [("segm/AP", 30.0), ("-segm/AP", 10.0)])
def test_keeps_the_weights_of_the_best_value(tmp_path, model, metric, kept):
    best = best_model(metric, model, tmp_path)
    for iteration, value in enumerate([20.0, 30.0, 10.0, float("nan")]):
        set_weight(model, value)
        best.update({"segm": {"AP": value}}, iteration)
    assert best.read()["value"] == kept
    assert torch.load(tmp_path / "model_best.pth")["model"]["weight"].item() == kept


def test_a_resumed_run_knows_the_best_and_a_new_one_forgets(tmp_path, model):
    best_model("segm/AP", model, tmp_path).update({"segm": {"AP": 50.0}}, 10)
    resumed = best_model("segm/AP", model, tmp_path)
    resumed.update({"segm": {"AP": 40.0}}, 20)
    assert json.loads((tmp_path / "best.json").read_text())["iteration"] == 10
    resumed.forget()
    assert resumed.read() is None


def test_of_several_data_sets_the_first_decides(tmp_path, model):
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    best = BestModel("segm/AP", checkpointer, ["one", "two"])
    best.update({"one": {"segm": {"AP": 10.0}}, "two": {"segm": {"AP": 90.0}}}, 1)
    assert best.read() == {"metric": "one/segm/AP", "value": 10.0, "iteration": 1}


def test_unknown_metric_lists_what_there_is(tmp_path, model, caplog):
    best_model("segm/APx", model, tmp_path).update({"segm": {"AP": 1.0}}, 1)
    assert "They are: segm/AP" in caplog.text
    assert not (tmp_path / "model_best.pth").exists()


@pytest.mark.parametrize(
    ("iteration", "stops"), [(19, False), (29, True), (25, False), (99, False)]
)
def test_stops_when_the_best_is_too_old(tmp_path, model, iteration, stops):
    best = best_model("segm/AP", model, tmp_path)
    best.update({"segm": {"AP": 50.0}}, 10)
    hook = EarlyStop(best, period=10, patience=2)
    hook.trainer = SimpleNamespace(iter=iteration, max_iter=100)
    if stops:
        with pytest.raises(StopTraining):
            hook.after_step()
    else:
        hook.after_step()
