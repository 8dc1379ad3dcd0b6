"""Optimisers from the config: Detectron2's SGD, and AdamW, backbone factor, full-model clipping."""

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping

from ..errors import UserError


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW with the config's weight decays and a factor on the backbone's learning rate.

    Args:
        cfg: ``SOLVER.*``.
        model: parameters whose name starts with ``backbone.`` take
            ``SOLVER.BACKBONE_LR_FACTOR`` times the learning rate.

    Returns:
        It clips the norm of the whole model's gradient to ``SOLVER.FULL_MODEL_CLIP_NORM`` at each
        step if that is above 0.
    """
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    parameters = _scale_backbone_rate(groups, model, cfg.SOLVER.BACKBONE_LR_FACTOR)
    sgd_arguments = {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
    kinds = {"SGD": (torch.optim.SGD, sgd_arguments), "ADAMW": (torch.optim.AdamW, {})}
    if cfg.SOLVER.OPTIMIZER.upper() not in kinds:
        raise UserError(f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; use SGD or AdamW.")
    kind, arguments = kinds[cfg.SOLVER.OPTIMIZER.upper()]
    kind = maybe_add_gradient_clipping(cfg, kind)
    optimizer = kind(
        parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY, **arguments
    )
    if cfg.SOLVER.FULL_MODEL_CLIP_NORM > 0:
        # A hook on the step comes after the loss scaler has unscaled the gradients.
        optimizer.register_step_pre_hook(_clipper(cfg.SOLVER.FULL_MODEL_CLIP_NORM))
    return optimizer


def _scale_backbone_rate(groups, model, factor):
    """Parameter groups in which the backbone has a learning rate of its own.

    Detectron2's ``lr_factor_func`` would do this, but its release 0.6 has none.
    """
    if factor == 1:
        return groups
    backbone = {
        parameter
        for name, parameter in model.named_parameters()
        if name.removeprefix("module.").startswith("backbone.")
    }
    result = []
    for scale, belongs in ((factor, backbone.__contains__), (1.0, lambda p: p not in backbone)):
        for group in groups:
            parameters = [p for p in group["params"] if belongs(p)]
            if parameters:
                result.append({**group, "params": parameters, "lr": group["lr"] * scale})
    return result


def _clipper(max_norm):
    def clip(optimizer, args, kwargs):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    return clip
