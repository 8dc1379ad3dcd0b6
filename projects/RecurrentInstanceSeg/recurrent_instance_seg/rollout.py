"""A decoder step after step.

Shape shorthand in this module:
    B: images in the batch   T: steps   h, w: grid of the masks
"""

from collections.abc import Sequence
from typing import Callable, Optional

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .decoders.parts import Decoder, Prepared, State, Step

# Makes one step, as Decoder.forward does.
Stepper = Callable[[Prepared, Optional[State], Optional[Tensor]], tuple[Step, State]]


def unroll(
    decoder: Decoder,
    prepared: Prepared,
    num_steps: int,
    *,
    memory: Optional[Tensor] = None,
    teacher: Optional[Callable[[Step], Tensor]] = None,
    checkpointing: bool = False,
) -> Step:
    """A fixed number of steps, for training.

    Args:
        decoder (Decoder)
        prepared (Prepared): of its ``prepare``.
        num_steps (int): T, at least 1.
        memory (Tensor or None): (B, h, w) float, what counts as found before the first step.
        teacher (callable or None): step -> (B, h, w) float, what is remembered as found at it;
            None: the predictions.
        checkpointing (bool): keep only the states of a step for the backward pass and compute the
            rest again.

    Returns:
        Step: all steps, stacked along dimension 1.
    """
    state, steps = None, []
    for _ in range(num_steps):
        if checkpointing:
            step, state = checkpoint(decoder, prepared, state, memory, use_reentrant=False)
        else:
            step, state = decoder(prepared, state, memory)
        steps.append(step)
        memory = remember(memory, teacher(step) if teacher else torch.sigmoid(step.masks.detach()))
    return stack_steps(steps)


@torch.no_grad()
def unroll_until_stop(
    decoder: Stepper, prepared: Prepared, *, max_steps: int, stop_threshold: float
) -> Step:
    """As many steps as the image of the batch with most objects needs, for inference.

    Args:
        decoder (Stepper): a decoder, or what stands in for it.
        prepared (Prepared): of its ``prepare``.
        max_steps (int): at least 1.
        stop_threshold (float): an image's sequence ends at the first step with a lower objectness.

    Returns:
        Step: all steps, stacked along dimension 1.
    """
    state = memory = None
    steps, running = [], True
    while len(steps) < max_steps:
        step, state = decoder(prepared, state, memory)
        memory = remember(memory, torch.sigmoid(step.masks))
        steps.append(step)
        running = (torch.sigmoid(step.stop.float()) >= stop_threshold) & running
        if not running.any():
            break
    return stack_steps(steps)


def remember(memory: Optional[Tensor], found: Tensor) -> Tensor:
    """The union of the masks so far, (B, h, w) float in [0, 1]; ``memory`` None is empty."""
    return found if memory is None else torch.maximum(memory, found)


def stack_steps(steps: Sequence[Step]) -> Step:
    """A list of T steps as one, each field with T as dimension 1."""
    attention = [step.attention for step in steps if step.attention is not None]
    return Step(
        torch.stack([step.masks for step in steps], dim=1),
        torch.stack([step.classes for step in steps], dim=1),
        torch.stack([step.stop for step in steps], dim=1),
        torch.stack(attention, dim=1) if attention else None,
    )
