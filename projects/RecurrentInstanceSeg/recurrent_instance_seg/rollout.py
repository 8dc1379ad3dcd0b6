"""A decoder step after step.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: ground-truth instances, padded   h, w: grid of the masks
"""

import torch
from torch.utils.checkpoint import checkpoint

from .decoder import Step
from .losses import soft_iou_cost


def unroll(decoder, prepared, num_steps, memory=None, teacher=None, checkpointing=False):
    """A fixed number of steps, for training.

    Args:
        decoder (nn.Module): of :mod:`decoder`.
        prepared (Prepared)
        num_steps (int): T, at least 1.
        memory (Tensor or None): (B, h, w) float, what counts as found before the first step.
        teacher (Teacher or None): what is remembered as found; None: the predictions.
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
def unroll_until_stop(decoder, prepared, max_steps, stop_threshold):
    """As many steps as the image of the batch with most objects needs, for inference.

    Args:
        decoder (nn.Module), prepared (Prepared)
        max_steps (int): at least 1.
        stop_threshold (float): an image's sequence ends at the first step with a lower objectness.

    Returns:
        tuple[Step, list[int]]: steps, stacked along dimension 1, and how many of them come before
        the end of each image's sequence.
    """
    state = memory = None
    steps, running, counts = [], True, 0
    while len(steps) < max_steps:
        step, state = decoder(prepared, state, memory)
        memory = remember(memory, torch.sigmoid(step.masks))
        steps.append(step)
        running = (torch.sigmoid(step.stop) >= stop_threshold) & running
        counts = counts + running.long()
        if not running.any():
            break
    return stack_steps(steps), counts.tolist()


def remember(memory, found):
    """The union of the masks so far, (B, h, w) float in [0, 1]; ``memory`` None is empty."""
    return found if memory is None else torch.maximum(memory, found)


def stack_steps(steps):
    """A list of T steps as one, each field with T as dimension 1."""
    fields = []
    for values in zip(*steps):
        if isinstance(values[0], tuple):
            fields.append(tuple(torch.stack(level, dim=1) for level in zip(*values)))
        else:
            fields.append(None if values[0] is None else torch.stack(values, dim=1))
    return Step(*fields)


class Teacher:
    """Assigns an instance to a step as soon as it is made, and hands it back as found exactly.

    The decoder then sees which objects are left, however poor its masks still are.

    Source: Williams & Zipser 1989 (teacher forcing); greedy assignment of the instance with the
    highest soft IoU among those left.

    Args:
        gt_masks (Tensor): (B, K, h, w) float on the grid of the masks.
        valid (Tensor): (B, h, w) bool.
        num_instances (list[int]): of each image.
        order (Tensor or None): (B, K) int64, the instance of each step; None: greedy.
    """

    def __init__(self, gt_masks, valid, num_instances, order=None):
        self.gt_masks = gt_masks
        self.valid = valid
        self.order = order
        self.num_instances = num_instances
        count = torch.tensor(num_instances, device=gt_masks.device)[:, None]
        self.left = torch.arange(gt_masks.shape[1], device=gt_masks.device) < count
        self.chosen = []

    @torch.no_grad()
    def __call__(self, step):
        """(B, h, w): the instance of this step, empty for an image without any left."""
        images = torch.arange(len(self.left), device=self.left.device)
        if self.left.shape[1] == 0:
            self.chosen.append(torch.zeros_like(images))
            return torch.zeros_like(self.valid, dtype=torch.float32)
        if self.order is None:
            cost = soft_iou_cost(step.masks[:, None], self.gt_masks, self.valid)[:, 0]
            choice = cost.masked_fill(~self.left, torch.inf).argmin(dim=1)
        else:
            choice = self.order[:, min(len(self.chosen), self.order.shape[1] - 1)]
        exists = self.left[images, choice]
        self.left[images, choice] = False
        self.chosen.append(choice)
        return self.gt_masks[images, choice] * exists[:, None, None]

    def matches(self):
        """list[tuple[Tensor, Tensor]]: as :func:`matcher.match_instances`."""
        table = torch.stack(self.chosen, dim=1).cpu()
        return [
            (torch.arange(min(n, table.shape[1])), row[:n])
            for row, n in zip(table, self.num_instances)
        ]
