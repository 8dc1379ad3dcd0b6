"""How fast a recurrent model begins to tell objects apart, by decoder and by what it is taught.

At first every step paints all objects at once, and 1 - soft IoU stays near 0.8. A lever is measured
by the CPU time, one thread, until the running mean of the training loss is below 0.6.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from tabulate import tabulate

from instance_seg_common.data.loader import build_train_loader
from instance_seg_common.engine.optimizer import build_optimizer
from instance_seg_common.engine.setup import load_model_cfg
from recurrent_instance_seg.config import DEFAULTS

from .models import ROOT

NODE = "MODEL.RECURRENT_INSTANCE_SEG."
CONFIG = str(ROOT / "configs" / "Synthetic" / "recurrent_R18_shapes.yaml")
BROKEN = 0.6
# A key of one decoder cannot be set for another.
NOT_GUIDED = {f"GUIDED.{key}": value for key, value in DEFAULTS["GUIDED"].items()}
# RSIS's decoder and losses, nothing else.
RSIS = {"DECODER": "rsis", "CURRICULUM_START": 0, **NOT_GUIDED}
# What each changes of the config, whose decoder is the guided one.
LEVERS: "dict[str, dict[str, Any]]" = {
    "rsis": RSIS,
    "rsis_curriculum": {**RSIS, "CURRICULUM_START": 4, "CURRICULUM_LOSS": 0.5},
    "ris": {
        **NOT_GUIDED,
        "DECODER": "ris",
        "IN_FEATURES": ["p2"],
        "HIDDEN_CHANNELS": [32, 32],
        "CURRICULUM_START": 0,
        # As configs/Synthetic/ris_R18_shapes.yaml has them for shapes of about 90 cells.
        "RIS.INHIBITION_BIAS": 4.5,
        "RIS.INHIBITION_GAIN": 8.0,
        "RIS.POSITION_WEIGHT": 0.3,
    },
    "guided_without_teacher": {"GUIDED.TEACHER_UNTIL": 0},
    "guided": {},
}


@dataclass(frozen=True)
class LeverFigures:
    """iterations and seconds of CPU time until the loss is low or the time is over; loss: running
    1 - soft IoU at that moment; broke: whether it is low."""

    iterations: int
    seconds: float
    loss: float
    broke: bool


def lever_cfg(model: str, changes: Mapping[str, Any], opts: Sequence[Any] = ()) -> CfgNode:
    """A config with one lever.

    Args:
        model (str): as ``--model`` takes it; its weights are not used.
        changes (dict): of LEVERS.
        opts (sequence): keys and values in turn.
    """
    pairs = [part for key, value in changes.items() for part in (NODE + key, value)]
    return load_model_cfg(model, [*pairs, "DATALOADER.NUM_WORKERS", 0, *opts])


def time_to_break(cfg: CfgNode, seconds: float) -> LeverFigures:
    """Train until the running loss says that steps tell objects apart.

    Args:
        cfg (CfgNode): of a recurrent model.
        seconds (float): CPU time of this process, at most.
    """
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    batches = iter(build_train_loader(cfg))
    start, spent, iterations, loss = time.process_time(), 0.0, 0, 1.0
    while spent < seconds and loss >= BROKEN:
        optimizer.zero_grad()
        sum(model(next(batches)).values()).backward()
        optimizer.step()
        scheduler.step()
        loss, iterations = float(model.schedule.running), iterations + 1
        spent = time.process_time() - start
    return LeverFigures(iterations, spent, loss=loss, broke=loss < BROKEN)


def levers_table(figures: Mapping[str, LeverFigures]) -> str:
    """Text of the figures of each lever."""
    rows = [
        [
            name,
            f.iterations if f.broke else f"not in {f.iterations}",
            f"{f.seconds / 60:.1f}",
            f"{f.loss:.3f}",
        ]
        for name, f in figures.items()
    ]
    headers = ["lever", f"iterations until {BROKEN}", "CPU min", "1 - soft IoU"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
