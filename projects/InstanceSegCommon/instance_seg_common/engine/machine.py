"""Fit a config to the machine it runs on."""

import logging

import torch

logger = logging.getLogger(__name__)


def fit_to_machine(cfg):
    """Use the CPU where the config asks for a GPU that is not there, with one warning.

    Mixed precision needs CUDA and SyncBN has no CPU kernel, so both give way as well.

    Args:
        cfg (CfgNode): not frozen; changed in place.
    """
    if torch.device(cfg.MODEL.DEVICE).type != "cuda" or torch.cuda.is_available():
        return
    changed = [f"MODEL.DEVICE {cfg.MODEL.DEVICE} -> cpu"]
    cfg.MODEL.DEVICE = "cpu"
    if cfg.SOLVER.AMP.ENABLED:
        cfg.SOLVER.AMP.ENABLED = False
        changed.append("SOLVER.AMP.ENABLED -> False")
    changed += [f"{name} SyncBN -> BN" for name in _replace_sync_bn(cfg, "")]
    logger.warning(
        "No CUDA device is available: %s. Write MODEL.DEVICE cpu to silence this.",
        ", ".join(changed),
    )


def _replace_sync_bn(node, prefix):
    names = []
    for key, value in node.items():
        if hasattr(value, "items"):
            names += _replace_sync_bn(value, f"{prefix}{key}.")
        elif value == "SyncBN":
            node[key] = "BN"
            names.append(f"{prefix}{key}")
    return names
