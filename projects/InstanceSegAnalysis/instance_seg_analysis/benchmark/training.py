"""One training step of a recurrent model, whose cost depends on the number of its steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from detectron2.config import CfgNode

from instance_seg_common.engine.optimizer import build_optimizer
from recurrent_instance_seg.arch import RecurrentInstanceSeg

from .reference_models import loss_of_steps


def training_step(
    cfg: CfgNode,
    model: RecurrentInstanceSeg,
    batch: Sequence[Mapping[str, Any]],
    *,
    num_steps: Optional[int] = None,
) -> Callable[[], float]:
    """One iteration of a trainer: losses, gradients, and a step of the optimiser.

    Args:
        cfg (CfgNode), model (RecurrentInstanceSeg): of ``models.plain_model``.
        batch (list[dict])
        num_steps (int or None): of the sequence, whatever the batch needs; None: one more than its
            objects, as the model decides.

    Returns:
        callable: () -> float, the sum of the losses.
    """
    optimizer = build_optimizer(cfg, model.train())

    def step() -> float:
        if num_steps is None:
            loss = sum(model(batch).values())
        else:
            loss = loss_of_steps(model, batch, num_steps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # now, so that gradients count as memory that a step takes
        return float(loss.detach())

    return step
