"""Where a step looks: at one point, and at the pixels whose object has the same centre.

Shape shorthand in this module:
    B: images in the batch   D: hidden channels   C: classes   h, w: grid of the guide
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .guide import foreground_of

MAPS = 3  # channels of what a step sees
MAPS_GAIN = 8.0  # of these channels in the finest cell, to be heard among a hundred
OUTSIDE = -1e4  # score of padding
SCORE_GAIN = 8.0  # small weights make small differences: a larger gain lets one point win early
HANDICAP = 5.0  # before training: taken from the scores where earlier masks are
BANDWIDTH = 0.5  # before training, of the membership, in the guide's unit
MASK_LOGITS = (-4.0, 4.0)  # before training: of membership 0 and 1


class PointAttention(nn.Module):
    """The point with the highest score, and a map of the pixels that belong to its object.

    Exactly one point wins, so that a step cannot hedge between objects that look alike: one of them
    is lit from the first iteration on. Which one is learned by the position loss of the scores.
    Cells of earlier masks start with a learned handicap.

    Source: Ren & Zemel 2017 (End-to-End Instance Segmentation with Recurrent Attention), whose
    steps look at one box; membership as in Neven et al. 2019, Eq. 5, with one learned bandwidth.
    Deviates: a point that wins a competition, in place of a regressed box; the centres are the
    guide's.

    Args:
        channels (int): D, of the hidden state that chooses.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.score = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
        self.handicap = nn.Parameter(torch.tensor(HANDICAP))
        self.log_bandwidth = nn.Parameter(torch.tensor(math.log(BANDWIDTH)))
        self.logits = nn.Parameter(torch.tensor(MASK_LOGITS))

    def prepare(self, guide: Tensor, stride: int, unit: float) -> Tensor:
        """What all steps share.

        Args:
            guide (Tensor): (B, C + 3, h, w) of :class:`guide.Guide`.
            stride (int): of its grid, pixels of the network input.
            unit (float): pixels of an offset of 1.

        Returns:
            Tensor: (B, 5, h, w) float32: probability of an object; position x and y; the own
            object's centre x and y; in units.
        """
        guide = guide.float()
        y, x = (torch.arange(n, device=guide.device).to(guide) for n in guide.shape[-2:])
        here = torch.stack(torch.meshgrid(x, y, indexing="xy")) * (stride / unit)
        here = here.expand(len(guide), -1, -1, -1)
        return torch.cat([foreground_of(guide), here, here + guide[:, -2:]], dim=1)

    def forward(
        self, hidden: Tensor, prepared: Tensor, *, inside: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Choose a point.

        Args:
            hidden (Tensor): (B, D, h', w') float, of a cell coarser than the guide's grid.
            prepared (Tensor): of :meth:`prepare`.
            inside (Tensor): (B, h, w) bool, not padding.
            memory (Tensor): (B, h, w) float in [0, 1], the masks so far.

        Returns:
            tuple[Tensor, Tensor]: (B, h, w) float32 scores, OUTSIDE on padding; (B, MAPS, h, w)
            float32: membership of the chosen point's object, 0 to 1; tanh of the way x and y from
            each cell to the point, in units.
        """
        scores = F.interpolate(
            self.score(hidden).float(), inside.shape[-2:], mode="bilinear", align_corners=False
        )
        scores = SCORE_GAIN * scores[:, 0] - self.handicap * memory
        scores = scores.masked_fill(~inside, OUTSIDE)
        best = scores.flatten(1).argmax(dim=1)
        chosen = prepared.flatten(2)[torch.arange(len(best)), :, best][:, :, None, None]
        foreground, here, centers = prepared.split([1, 2, 2], dim=1)
        distance = (centers - chosen[:, 3:]).square().sum(dim=1, keepdim=True)
        member = foreground * torch.exp(-0.5 * distance * torch.exp(-2 * self.log_bandwidth))
        return scores, torch.cat([member, torch.tanh(chosen[:, 1:3] - here)], dim=1)

    def mask_logits(self, member: Tensor) -> Tensor:
        """Membership (any shape, float) as logits of a mask."""
        outside, inside = self.logits
        return outside + (inside - outside) * member


def points_of(scores: Tensor, width: int) -> Tensor:
    """Where steps look.

    Args:
        scores (Tensor): (T, h, w) float, of :class:`PointAttention`.
        width (int): of the padded network input, pixels.

    Returns:
        Tensor: (T, 2) float: x and y of the middle of the best cell, in pixels of the input.
    """
    best = scores.flatten(1).argmax(dim=1)
    columns = scores.shape[2]
    places = torch.stack([best % columns, best // columns], dim=1)
    return (places + 0.5) * (width / columns)
