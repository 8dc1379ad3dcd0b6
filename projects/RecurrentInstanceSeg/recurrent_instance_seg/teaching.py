"""What a batch is taught: how many of its objects, with which hints, and which losses count.

Shape shorthand in this module:
    B: images in the batch   K: ground-truth instances, padded   h, w: grid of the masks
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from instance_seg_common.meta_arch import put_scalars

from .decoders.parts import Step
from .losses import soft_iou_cost
from .matcher import Matches
from .schedule import Schedule
from .targets import Targets, hide_found

logger = logging.getLogger(__name__)


class Teacher:
    """Assigns an instance to a step as soon as it is made, and hands it back as found exactly.

    The decoder then sees which objects are left, however poor its masks still are. A step is given
    the instance, of those left, with which its mask has the highest soft IoU.

    Source: Williams & Zipser 1989 (teacher forcing); the greedy assignment: RSIS's development
    branch.

    Args:
        gt_masks (Tensor): (B, K, h, w) float on the grid of the masks.
        valid (Tensor): (B, h, w) bool.
        num_instances (list[int]): of each image.
    """

    def __init__(self, gt_masks: Tensor, valid: Tensor, num_instances: Sequence[int]):
        self.gt_masks = gt_masks
        self.valid = valid
        self.num_instances = num_instances
        count = torch.tensor(num_instances, device=gt_masks.device)[:, None]
        self.left = torch.arange(gt_masks.shape[1], device=gt_masks.device) < count
        self.chosen = []

    @torch.no_grad()
    def __call__(self, step: Step) -> Tensor:
        """(B, h, w): the instance of this step, empty for an image without any left."""
        images = torch.arange(len(self.left), device=self.left.device)
        if self.left.shape[1] == 0:
            self.chosen.append(torch.zeros_like(images))
            return torch.zeros_like(self.valid, dtype=torch.float32)
        cost = soft_iou_cost(step.masks[:, None], self.gt_masks, self.valid)[:, 0]
        choice = cost.masked_fill(~self.left, torch.inf).argmin(dim=1)
        exists = self.left[images, choice]
        self.left[images, choice] = False
        self.chosen.append(choice)
        return self.gt_masks[images, choice] * exists[:, None, None]

    def matches(self) -> Matches:
        """As :func:`matcher.match_instances`."""
        table = torch.stack(self.chosen, dim=1).cpu()
        return [
            (torch.arange(min(n, table.shape[1])), row[:n])
            for row, n in zip(table, self.num_instances)
        ]


@dataclass(frozen=True)
class Lesson:
    """What one batch is taught.

    ``targets``: the instances that are asked for; ``num_steps``: of the sequence; ``memory``:
    (B, h, w) float, what counts as found before the first step, or None; ``teacher``: what says
    after each step what it has found, or None.
    """

    targets: Targets
    num_steps: int
    memory: Optional[Tensor] = None
    teacher: Optional[Teacher] = None

    def matches(self) -> Optional[Matches]:
        """After the steps: which instance each was given; None: the criterion decides."""
        return None if self.teacher is None else self.teacher.matches()


class Teaching:
    """Decides for each batch, and learns from its loss how training goes.

    Nothing of it holds without gradients: a validation loss asks for all objects, gets no hints,
    and moves no schedule. Its state is that of ``schedule``, whose buffers the model saves.

    Args:
        schedule (Schedule): curriculum and onsets.
        max_steps (int): of a sequence.
        hints_until (int or None): iterations in which a :class:`Teacher` says what was found, a
            random share of the objects counts as found before the first step, and the curriculum
            limits the steps; short sequences end with the hints that make up for them. None: no
            hints, and a curriculum until it asks for all objects.
        class_after, stop_after (int): iterations (or a stall) before these losses count.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        max_steps: int,
        hints_until: Optional[int] = None,
        class_after: int = 0,
        stop_after: int = 0,
    ):
        self.schedule = schedule
        self.max_steps = max_steps
        self.hints_until = hints_until
        self.onsets = {"loss_class": class_after, "loss_stop": stop_after}
        self.warned = False

    def lesson(self, targets: Targets, mask_stride: int) -> Lesson:
        """What to teach of a batch.

        Args:
            targets (Targets): all instances, at stride 1.
            mask_stride (int): of the grid of the masks, pixels of the network input.
        """
        learning = torch.is_grad_enabled()
        hints_until = self.hints_until or 0
        taught = learning and int(self.schedule.iteration) < hints_until
        limited = taught or (learning and self.hints_until is None)
        limit = self.schedule.limit() if limited else self.max_steps
        memory = teacher = None
        if taught:
            targets, found = hide_found(targets, torch.rand(len(targets.counts)))
            memory = F.avg_pool2d(found[:, None], mask_stride)[:, 0]
            coarse = targets.at(mask_stride)
            teacher = Teacher(coarse.masks, coarse.valid, targets.counts)
        if learning:
            self._warn_of_crowds(targets)
        # The step after the last object is where stopping is learned.
        num_steps = max(min(n + 1, limit) for n in targets.counts)
        return Lesson(targets, num_steps, memory, teacher)

    def _warn_of_crowds(self, targets: Targets) -> None:
        """Say once that images have more objects than a sequence has steps."""
        most = max(targets.counts)
        if most > self.max_steps and not self.warned:
            self.warned = True
            logger.warning(
                "An image has %d objects, but MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS is %d: the "
                "rest is neither learned nor found. Raise it, or crop the images.",
                most,
                self.max_steps,
            )

    def advance(self, lesson: Lesson, loss_mask: Tensor) -> None:
        """Account for an iteration.

        Args:
            lesson (Lesson): of its batch.
            loss_mask (Tensor): scalar, 1 - soft IoU.
        """
        if not torch.is_grad_enabled():
            return
        # Without an object there is no mask: the running loss stays as it is.
        loss = loss_mask if any(lesson.targets.counts) else self.schedule.running
        self.schedule.advance(loss)
        scalars = {
            "recurrent/steps": lesson.num_steps,
            "recurrent/objects_asked_for": self.schedule.limit(),
            "recurrent/soft_iou": 1 - float(loss.detach()),
        }
        put_scalars(scalars)

    def after_onset(self, losses: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """The losses; those that wait for their onset are 0, still in the graph."""
        waiting = {
            name: losses[name] * 0
            for name, onset in self.onsets.items()
            if not self.schedule.started(onset)
        }
        return {**losses, **waiting}
