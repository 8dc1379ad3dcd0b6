"""Encoders as they were before training, and what the blocks of an encoder give.

Shape shorthand in this module:
    H, W: padded network input   C: channels   H', W': grid of features
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from torch import Tensor, nn

from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.checkpoint import AtomicCheckpointer
from instance_seg_common.errors import UserError


class EarlierEncoder(NamedTuple):
    """backbone: before training; bottom_up_only: there are no weights from before training for what
    follows the bottom-up network, such as a feature pyramid."""

    backbone: Backbone
    bottom_up_only: bool


def encoders_before(cfg: CfgNode, path: str, count: int) -> "dict[str, EarlierEncoder]":
    """Encoders as they were before training.

    Args:
        cfg (CfgNode)
        path (str): weights; "" for fresh ones, and those that a backbone brings.
        count (int): how many fresh ones, of seeds that follow SEED.

    Returns:
        dict[str, EarlierEncoder]: by name.

    Raises:
        UserError: weights that do not fit the encoder.
    """
    if path:
        return {path: _loaded(cfg, path)}
    # Without weights a backbone takes those that it brings, as it did when training began.
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    encoders = {}
    for seed in range(max(cfg.SEED, 0), max(cfg.SEED, 0) + count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            backbone = build_model_quietly(cfg).backbone.eval()
            encoders[f"fresh, seed {seed}"] = EarlierEncoder(backbone, bottom_up_only=False)
    return encoders


def _loaded(cfg: CfgNode, path: str) -> EarlierEncoder:
    model = build_model_quietly(cfg)
    checkpointer = AtomicCheckpointer(model)
    checkpointer.load(path)
    absent = [misfit for misfit in checkpointer.misfits if misfit.startswith("backbone.")]
    prefix = "backbone.bottom_up." if hasattr(model.backbone, "bottom_up") else "backbone."
    wrong = next((misfit for misfit in absent if misfit.startswith(prefix)), None)
    if wrong is not None:
        raise UserError(
            f"The weights {path} of --before do not fit the encoder ({wrong}). Give those with "
            'which its training began, or --before "" for fresh ones.'
        )
    return EarlierEncoder(model.backbone.eval(), bottom_up_only=bool(absent))


def block_features(backbone: Backbone, x: Tensor, levels: Sequence[str]) -> "dict[str, Tensor]":
    """What the blocks of an encoder give, deepest first, then levels of its feature pyramid.

    Args:
        backbone (Backbone)
        x (Tensor): (1, 3, H, W) float.
        levels (list[str]): names, coarsest first; of a backbone without a pyramid they are blocks
            and not repeated.

    Returns:
        dict[str, Tensor]: (C, H', W') by names such as "f0 res5" and "p5".
    """
    bottom_up = getattr(backbone, "bottom_up", backbone)
    blocks: list[tuple[str, Any]] = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            blocks.append((name, output))

        return hook

    handles = [
        child.register_forward_hook(keep(name)) for name, child in bottom_up.named_children()
    ]
    try:
        pyramid = backbone(x)
    finally:
        for handle in handles:
            handle.remove()
    maps = [(name, out) for name, out in blocks if torch.is_tensor(out) and out.dim() == 4]
    features = {f"f{i} {name}": out[0] for i, (name, out) in enumerate(reversed(maps))}
    if bottom_up is not backbone:
        features.update({name: pyramid[name][0] for name in levels})
    return features
