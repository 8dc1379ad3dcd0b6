"""The losses of a sequence.

Shape shorthand in this module:
    B: images in the batch   T: steps   h, w: grid of the masks
"""

from typing import Optional

from torch import Tensor, nn
from torch.nn import functional as F

from .decoders.parts import Step
from .losses import class_loss, matched_mean, position_cost, soft_iou_cost, stop_loss
from .matcher import Matches, match_instances
from .targets import Targets


class SequenceCriterion(nn.Module):
    """1 - soft IoU of the matched masks, and weighted beside it the losses of class, stop and
    position.

    Source: Salvador et al. 2018, section 3.2; Romera-Paredes & Torr 2016; position: this project.

    Args:
        class_weight, stop_weight (float): of the cross-entropies.
        position_weight (float): of the loss of the points that steps could look at, for decoders
            with such; else of the masks' logits; 0: none.
        stride (int): of the grid on which masks are compared, pixels of the network input.
    """

    def __init__(
        self,
        *,
        class_weight: float,
        stop_weight: float,
        position_weight: float = 0.0,
        stride: int = 1,
    ):
        super().__init__()
        self.class_weight = class_weight
        self.stop_weight = stop_weight
        self.position_weight = position_weight
        self.stride = stride

    def forward(
        self, steps: Step, targets: Targets, matches: Optional[Matches] = None
    ) -> "dict[str, Tensor]":
        """Compare a sequence with the ground truth.

        Args:
            steps (Step): stacked, T steps.
            targets (Targets): at stride 1.
            matches (list[tuple[Tensor, Tensor]] or None): which instance each step is to show;
                None: the assignment with the least soft IoU cost.

        Returns:
            dict[str, Tensor]: weighted scalars: ``loss_mask`` (of weight 1), ``loss_class``,
            ``loss_stop`` and, with a weight, ``loss_position``.
        """
        compared = targets.at(self.stride)
        logits = _at_size(steps.masks.float(), compared.valid.shape[-2:])
        costs = soft_iou_cost(logits, compared.masks, compared.valid)
        if matches is None:
            matches = match_instances(costs, targets.counts)
        classes = class_loss(steps.classes, targets.classes, matches)
        losses = {
            "loss_mask": matched_mean(costs, matches),
            "loss_class": self.class_weight * classes,
            "loss_stop": self.stop_weight * stop_loss(steps.stop, targets.counts),
        }
        if self.position_weight:
            if steps.attention is not None:
                logits = steps.attention
                compared = targets.at(targets.valid.shape[-1] // logits.shape[-1])
            costs = position_cost(logits, compared.masks, compared.valid)
            losses["loss_position"] = self.position_weight * matched_mean(costs, matches)
        return losses


def _at_size(logits: Tensor, size: "tuple[int, ...]") -> Tensor:
    """(B, T, h, w) logits on another grid, bilinear."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
