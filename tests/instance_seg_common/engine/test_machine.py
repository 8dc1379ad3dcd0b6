"""The config gives way to a machine without a GPU."""

import logging

import pytest
import torch

from instance_seg_common.engine.machine import fit_to_machine
from instance_seg_common.errors import UserError


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_falls_back_with_one_warning(tiny_cfg, no_gpu, caplog):
    tiny_cfg.MODEL.DEVICE = "cuda"
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.MODEL.FPN.NORM = "SyncBN"
    with caplog.at_level(logging.WARNING):
        fitted = fit_to_machine(tiny_cfg)
    assert fitted.MODEL.DEVICE == "cpu"
    assert not fitted.SOLVER.AMP.ENABLED
    assert fitted.MODEL.FPN.NORM == "BN"
    assert tiny_cfg.MODEL.DEVICE == "cuda"
    assert len(caplog.records) == 1
    assert "MODEL.FPN.NORM" in caplog.text


def test_cpu_is_left_alone(tiny_cfg, no_gpu, caplog):
    tiny_cfg.MODEL.DEVICE = "cpu"
    assert fit_to_machine(tiny_cfg) is tiny_cfg
    assert not caplog.records


def test_a_device_that_does_not_exist(tiny_cfg):
    tiny_cfg.MODEL.DEVICE = "gpu"
    with pytest.raises(UserError, match="gpu"):
        fit_to_machine(tiny_cfg)
