"""From a sequence of steps to instances.

Shape shorthand in this module:
    B: images in the batch   T: steps   C: classes   N: instances   H, W: padded network input
    h, w: network input of one image, without padding
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from instance_seg_common.masks import instances_from_masks
from instance_seg_common.meta_arch import note_limit

from .attention import points_of
from .decoders.parts import Step

SCORE_PARTS = ("class", "objectness", "mask")
OVERLAP_RULES = ("", "first")


@dataclass(frozen=True)
class InferenceSettings:
    """How sequences end and become instances; the config has each under the same name.

    ``max_steps``: of a sequence; ``stop_threshold``: it ends at the first step with a lower
    objectness; ``mask_threshold``: a pixel belongs to a mask above this probability; ``min_area``:
    pixels of the output, smaller instances are dropped; ``overlap``: of OVERLAP_RULES;
    ``score``: of SCORE_PARTS, multiplied; ``all_classes``: every mask once for each class;
    ``max_instances``: of an image, those with the highest scores, or None: all.
    """

    max_steps: int
    stop_threshold: float
    mask_threshold: float
    min_area: int
    overlap: str
    score: "tuple[str, ...]"
    all_classes: bool
    max_instances: Optional[int]


@dataclass(frozen=True)
class StepSequence:
    """The steps of one image, all float.

    ``masks`` (T, h, w) in [0, 1]; ``class_probabilities`` (T, C); ``objectness`` (T,) in [0, 1];
    ``points`` (T, 2) or None: x and y at which the steps look, in pixels of the network input.
    """

    masks: Tensor
    class_probabilities: Tensor
    objectness: Tensor
    points: Optional[Tensor] = None

    def first(self, count: int) -> "StepSequence":
        """The first ``count`` steps."""
        points = None if self.points is None else self.points[:count]
        return StepSequence(
            self.masks[:count], self.class_probabilities[:count], self.objectness[:count], points
        )


def count_steps(objectness: Tensor, inference: InferenceSettings) -> int:
    """How many steps come before the end of a sequence.

    Args:
        objectness (Tensor): (T,) float in [0, 1].
        inference (InferenceSettings): its ``stop_threshold`` and ``max_steps``.
    """
    going_on = objectness[: inference.max_steps] >= inference.stop_threshold
    return int(going_on.long().cumprod(dim=0).sum())


def sequences_of(
    steps: Step,
    image_sizes: Sequence[tuple[int, int]],
    padded_size: tuple[int, int],
    *,
    inference: InferenceSettings,
) -> "list[StepSequence]":
    """The sequences of the images of a batch, each up to its own end.

    Args:
        steps (Step): stacked, T steps.
        image_sizes (list[tuple[int, int]]): (h, w) of each image.
        padded_size (tuple[int, int]): (H, W).
        inference (InferenceSettings): its ``stop_threshold`` and ``max_steps``.

    Returns:
        list[StepSequence]: the steps before the end and, if there is one, that which says stop.
    """
    sequences = []
    for index, (h, w) in enumerate(image_sizes):
        objectness = torch.sigmoid(steps.stop[index].float())
        length = count_steps(objectness, inference) + 1
        logits = steps.masks[index, :length].float()[None]
        logits = F.interpolate(logits, padded_size, mode="bilinear", align_corners=False)[0]
        points = None
        if steps.attention is not None:
            points = points_of(steps.attention[index, :length], padded_size[1])
        classes = steps.classes[index, :length].float().softmax(dim=1)
        masks = torch.sigmoid(logits[:, :h, :w])
        sequences.append(StepSequence(masks, classes, objectness[:length], points))
    return sequences


def instances_of(
    sequence: StepSequence, output_size: tuple[int, int], *, inference: InferenceSettings
) -> Instances:
    """Instances of the steps before the end.

    Args:
        sequence (StepSequence): steps beyond the end take no part.
        output_size (tuple[int, int]): height and width of the image as the user has it.
        inference (InferenceSettings)

    Returns:
        Instances: of ``instance_seg_common.masks.instances_from_masks``, by descending score.
    """
    count = count_steps(sequence.objectness, inference)
    if count == inference.max_steps:
        note_limit("MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS", count)
    steps = sequence.first(count)
    masks = without_overlap(steps.masks, inference.overlap, inference.mask_threshold)
    step, scores, classes = score_instances(
        masks, steps.class_probabilities, steps.objectness,
        parts=inference.score, all_classes=inference.all_classes,
    )  # fmt: skip
    best = torch.argsort(scores, descending=True, stable=True)[: inference.max_instances]
    if len(best) < len(scores):
        note_limit("TEST.DETECTIONS_PER_IMAGE", len(best))
    return instances_from_masks(
        masks[step[best]], scores[best], classes[best],
        input_size=tuple(masks.shape[-2:]), output_size=output_size,
        threshold=inference.mask_threshold, min_area=inference.min_area,
    )  # fmt: skip


def mask_scores(probabilities: Tensor) -> Tensor:
    """How sure the masks are of their own pixels: mean probability where it is above one half.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].

    Returns:
        Tensor: (T,) float; 0 for an empty mask.
    """
    own = (probabilities > 0.5).to(probabilities.dtype)
    return (probabilities * own).flatten(1).sum(1) / own.flatten(1).sum(1).clamp(min=1)


def without_overlap(probabilities: Tensor, rule: str, threshold: float = 0.5) -> Tensor:
    """Masks of which no two have a pixel in common.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].
        rule (str): "first": a pixel stays with the earliest step that claims it, as RIS paints its
            masks; "": masks are left alone.
        threshold (float): above it a step claims a pixel.

    Returns:
        Tensor: (T, h, w) float, 0 where an earlier mask wins.
    """
    if not rule or len(probabilities) == 0:
        return probabilities
    steps = torch.arange(len(probabilities), device=probabilities.device)[:, None, None]
    claims = probabilities > threshold
    lost = claims.any(dim=0) & (steps > claims.to(torch.uint8).argmax(dim=0))
    return probabilities.masked_fill(lost, 0)


def score_instances(
    probabilities: Tensor,
    class_probabilities: Tensor,
    objectness: Tensor,
    *,
    parts: Sequence[str],
    all_classes: bool,
) -> "tuple[Tensor, Tensor, Tensor]":
    """Scores and classes of the masks of one image.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].
        class_probabilities (Tensor): (T, C) float.
        objectness (Tensor): (T,) float in [0, 1].
        parts (sequence[str]): of SCORE_PARTS, multiplied; none gives all 1.
        all_classes (bool): every mask once for each class, as RSIS's released evaluation does;
            otherwise once, with its likeliest class.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (N,) int64 the step of each instance, (N,) float its score,
        (N,) int64 its class.
    """
    steps, num_classes = class_probabilities.shape
    step = torch.arange(steps, device=objectness.device)
    classes = class_probabilities.argmax(dim=1)
    if all_classes:
        step = step.repeat_interleave(num_classes)
        classes = torch.arange(num_classes, device=objectness.device).repeat(steps)
    values = {
        "class": lambda: class_probabilities[step, classes],
        "objectness": lambda: objectness[step],
        "mask": lambda: mask_scores(probabilities)[step],
    }
    scores = torch.ones(len(step), device=objectness.device)
    for part in parts:
        scores = scores * values[part]()
    return step, scores, classes
