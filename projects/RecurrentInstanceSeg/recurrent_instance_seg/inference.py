"""From a sequence of steps to instances.

Shape shorthand in this module:
    T: steps   h, w: grid of the masks   C: classes   N: instances
"""

import torch

SCORE_PARTS = ("class", "objectness", "mask")


def mask_scores(probabilities):
    """How sure the masks are of their own pixels: mean probability where it is above one half.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].

    Returns:
        Tensor: (T,) float; 0 for an empty mask.
    """
    own = (probabilities > 0.5).to(probabilities.dtype)
    return (probabilities * own).flatten(1).sum(1) / own.flatten(1).sum(1).clamp(min=1)


def without_overlap(probabilities, rule, threshold=0.5):
    """Masks of which no two have a pixel in common.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].
        rule (str): "best": a pixel stays with the highest probability; "first": with the earliest
            step that claims it, as RIS paints its masks; "": masks are left alone.
        threshold (float): above it a step claims a pixel.

    Returns:
        Tensor: (T, h, w) float, 0 where another mask wins.
    """
    if not rule or len(probabilities) == 0:
        return probabilities
    steps = torch.arange(len(probabilities), device=probabilities.device)[:, None, None]
    if rule == "best":
        lost = probabilities.argmax(dim=0) != steps  # of equals the first wins
    else:
        claims = probabilities > threshold
        lost = claims.any(dim=0) & (steps > claims.to(torch.uint8).argmax(dim=0))
    return probabilities.masked_fill(lost, 0)


def score_instances(probabilities, class_probabilities, objectness, parts, all_classes):
    """Scores and classes of the masks of one image.

    Args:
        probabilities (Tensor): (T, h, w) float in [0, 1].
        class_probabilities (Tensor): (T, C) float.
        objectness (Tensor): (T,) float in [0, 1].
        parts (list[str]): of SCORE_PARTS, multiplied; [] gives all 1.
        all_classes (bool): every mask once for each class, as RSIS's released evaluation does;
            otherwise once, with its likeliest class.

    Returns:
        tuple[Tensor, Tensor, Tensor]: (N,) int64 the step of each instance, (N,) float its score,
        (N,) int64 its class.
    """
    steps, classes = class_probabilities.shape
    if all_classes:
        step = torch.arange(steps, device=objectness.device).repeat_interleave(classes)
        found = torch.arange(classes, device=objectness.device).repeat(steps)
    else:
        step = torch.arange(steps, device=objectness.device)
        found = class_probabilities.argmax(dim=1)
    values = {
        "class": lambda: class_probabilities[step, found],
        "objectness": lambda: objectness[step],
        "mask": lambda: mask_scores(probabilities)[step],
    }
    scores = torch.ones(len(step), device=objectness.device)
    for part in parts:
        scores = scores * values[part]()
    return step, scores, found
