"""Fit a config to the machine it runs on."""

import logging

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import UserError

logger = logging.getLogger(__name__)


def fit_to_machine(cfg: CfgNode) -> CfgNode:
    """The config for the CPU where it asks for a GPU that is not there, with one warning.

    Mixed precision needs CUDA and SyncBN has no CPU kernel, so both give way as well.

    Args:
        cfg: stays as it is.

    Returns:
        ``cfg`` itself, or a changed copy.

    Raises:
        UserError: ``MODEL.DEVICE`` is no device.
    """
    try:
        kind = torch.device(cfg.MODEL.DEVICE).type
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; use cuda or cpu.") from error
    if kind != "cuda" or torch.cuda.is_available():
        return cfg
    frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    changed = [f"MODEL.DEVICE {cfg.MODEL.DEVICE} -> cpu"]
    cfg.MODEL.DEVICE = "cpu"
    if cfg.SOLVER.AMP.ENABLED:
        cfg.SOLVER.AMP.ENABLED = False
        changed.append("SOLVER.AMP.ENABLED -> False")
    changed += [f"{name} SyncBN -> BN" for name in _replace_sync_bn(cfg, "")]
    if comm.is_main_process():
        logger.warning(
            "No CUDA device is available: %s. Write MODEL.DEVICE cpu to silence this.",
            ", ".join(changed),
        )
    if frozen:
        cfg.freeze()
    return cfg


def _replace_sync_bn(node, prefix):
    names = []
    for key, value in node.items():
        if hasattr(value, "items"):
            names += _replace_sync_bn(value, f"{prefix}{key}.")
        elif value == "SyncBN":
            node[key] = "BN"
            names.append(f"{prefix}{key}")
    return names
