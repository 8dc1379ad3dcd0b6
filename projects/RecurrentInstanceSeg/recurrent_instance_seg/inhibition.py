"""Spatial inhibition: the pixels of a mask compete for it.

Shape shorthand in this module:
    B: images in the batch   H, W: grid of the mask
"""

from typing import Optional

import torch
from torch import Tensor, nn


class SpatialInhibition(nn.Module):
    """Log-softmax over all positions plus a learned bias: raising one pixel lowers all others.

    Source: Romera-Paredes & Torr 2016 (Recurrent Instance Segmentation), the spatial
    inhibition module.
    Deviates: padding does not compete; optionally a gain of the logits.

    Args:
        bias (float): before training. A mask whose pixels share the softmax evenly exceeds
            probability 0.5 on up to exp(bias) cells.
        gain (float): of the logits. Small weights make small differences, with which several like
            objects share the softmax for long; a larger gain lets one win.
    """

    def __init__(self, bias: float, *, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, logits: Tensor, inside: Optional[Tensor] = None) -> Tensor:
        """Mask logits after the competition.

        Args:
            logits (Tensor): (B, H, W) float.
            inside (Tensor or None): (B, H, W) bool; cells outside, of the padding, take no part in
                the competition.

        Returns:
            Tensor: (B, H, W) float32.
        """
        logits = self.gain * logits.float()
        rivals = logits if inside is None else logits.masked_fill(~inside, -torch.inf)
        total = torch.logsumexp(rivals.flatten(1), dim=1)
        return logits - total[:, None, None] + self.bias
