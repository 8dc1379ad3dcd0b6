"""Spatial inhibition: the pixels of a mask compete for it.

Shape shorthand in this module:
    B: images in the batch   H, W: grid of the mask
"""

import torch
from torch import nn


class SpatialInhibition(nn.Module):
    """Log-softmax over all positions plus a learned bias: raising one pixel lowers all others.

    Source: Romera-Paredes & Torr 2016 (Recurrent Instance Segmentation), the spatial
    inhibition module.

    Deviates: optionally, cells of earlier masks start with a handicap (inhibition of return).

    Args:
        bias (float): before training. A mask whose pixels share the softmax evenly exceeds
            probability 0.5 on up to exp(bias) cells.
        handicap (float): taken from the logits of cells of earlier masks, learned from this value
            on; 0: none.
        gain (float): of the logits. Small weights make small differences, with which several like
            objects share the softmax for long; a larger gain lets one win.
    """

    def __init__(self, bias, handicap=0.0, gain=1.0):
        super().__init__()
        self.gain = gain
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.handicap = nn.Parameter(torch.tensor(float(handicap))) if handicap else None

    def forward(self, logits, inside=None, memory=None):
        """
        Args:
            logits (Tensor): (B, H, W) float.
            inside (Tensor or None): (B, H, W) bool; cells outside, of the padding, take no part in
                the competition.
            memory (Tensor or None): (B, H, W) float in [0, 1], the masks so far; None is empty.

        Returns:
            Tensor: (B, H, W) float32 mask logits.
        """
        logits = self.gain * logits.float()
        if self.handicap is not None:
            memory = torch.zeros_like(logits) if memory is None else memory
            logits = logits - self.handicap * memory
        rivals = logits if inside is None else logits.masked_fill(~inside, -torch.inf)
        total = torch.logsumexp(rivals.flatten(1), dim=1)
        return logits - total[:, None, None] + self.bias
