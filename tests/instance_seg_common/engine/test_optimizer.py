"""Optimisers from the config."""

import pytest
import torch

from instance_seg_common.engine.optimizer import build_optimizer
from instance_seg_common.errors import UserError


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(2, 2)
        self.head = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)])
def test_kind_and_backbone_factor(tiny_cfg, name, kind):
    tiny_cfg.SOLVER.OPTIMIZER = name
    tiny_cfg.SOLVER.BASE_LR = 0.5
    tiny_cfg.SOLVER.BACKBONE_LR_FACTOR = 0.1
    model = Model()
    optimizer = build_optimizer(tiny_cfg, model)
    assert isinstance(optimizer, kind)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(model.backbone.weight)] == pytest.approx(0.05)
    assert rates[id(model.head.weight)] == pytest.approx(0.5)


def test_full_model_clipping_bounds_the_norm_of_all_gradients_together(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER = "SGD"
    tiny_cfg.SOLVER.BASE_LR = 1.0
    tiny_cfg.SOLVER.MOMENTUM = tiny_cfg.SOLVER.WEIGHT_DECAY = 0.0
    tiny_cfg.SOLVER.FULL_MODEL_CLIP_NORM = 2.0
    model = Model()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(tiny_cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer.step()
    step = sum((p - b).square().sum() for p, b in zip(model.parameters(), before)).sqrt()
    assert step.item() == pytest.approx(2.0, rel=1e-4)


def test_unknown_optimizer(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER = "Lion"
    with pytest.raises(UserError, match="Lion"):
        build_optimizer(tiny_cfg, Model())
