"""The same computations in their plain form, which the benchmark takes as references.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: instances   E: embedding channels   P: pixels
    H, W: an image   D: hidden channels of a cell
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embedding_instance_seg.clustering import scikit_learn_clusters
from recurrent_instance_seg.arch import RecurrentInstanceSeg
from recurrent_instance_seg.conv_lstm import ConvLSTMCell
from recurrent_instance_seg.rollout import unroll
from recurrent_instance_seg.targets import batch_targets


def sbd_over_pairs(gt: np.ndarray, pred: np.ndarray) -> float:
    """SBD of two label maps (H, W): a loop over all pairs of labels, in both directions."""
    return min(_best_dice_over_pairs(gt, pred), _best_dice_over_pairs(pred, gt))


def _best_dice_over_pairs(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.min() + 1, a.max() + 1):
        best = 0.0
        for j in range(b.min() + 1, b.max() + 1):
            mask_a, mask_b = a == i, b == j
            dice = 2 * (mask_a & mask_b).sum() / (mask_a.sum() + mask_b.sum())
            best = max(best, dice)
        total += best
    return total / (a.max() - a.min())


def dense_discriminative_loss(
    embeddings: Tensor, instance_ids: Tensor, *, delta_var: float = 0.5, delta_dist: float = 1.5
) -> Tensor:
    """The loss by autograd over a one-hot (P, K), for one image and class.

    Args:
        embeddings (Tensor): (1, E, H, W) float.
        instance_ids (Tensor): (1, H, W) int64, 0 background, then 1..K, K > 1.
        delta_var, delta_dist (float)

    Returns:
        Tensor: (3,) variance, distance, regularization.
    """
    pixels = embeddings[0].flatten(1).t()
    one_hot = F.one_hot(instance_ids.flatten())[:, 1:].to(pixels.dtype)
    sizes = one_hot.sum(0)
    means = one_hot.t() @ pixels / sizes[:, None]
    distances = torch.linalg.vector_norm(pixels[:, None] - means, dim=2)
    excess = (distances - delta_var).clamp(min=0).square()
    variance = ((excess * one_hot).sum(0) / sizes).mean()
    gaps = torch.linalg.vector_norm(means[:, None] - means, dim=2)
    off_diagonal = 1 - torch.eye(len(means))
    distance = ((2 * delta_dist - gaps).clamp(min=0).square() * off_diagonal).sum()
    distance = distance / off_diagonal.sum()
    return torch.stack([variance, distance, torch.linalg.vector_norm(means, dim=1).mean()])


def nearest_centers(embeddings: Tensor, centers: Tensor, chunk: int = 8192) -> Tensor:
    """(P,) int64: of the centres (K, E) the nearest of every pixel (P, E), in chunks of pixels."""
    parts = embeddings.split(chunk)
    return torch.cat([torch.cdist(part, centers).argmin(dim=1) for part in parts])


def looped_cost(mask_logits: Tensor, gt_masks: Tensor) -> Tensor:
    """The cost matrix a step at a time, the step's logits repeated for every instance.

    As ``soft_iou_cost`` without ``valid``: (B, T, H, W) and (B, K, H, W) float to (B, T, K).

    Source: how RSIS's released training loop goes about it, written from the formula.
    """
    truth = gt_masks.flatten(2)
    costs = []
    for t in range(mask_logits.shape[1]):
        mask = torch.sigmoid(mask_logits[:, t, None].flatten(2).repeat(1, truth.shape[1], 1))
        both = (mask * truth).sum(dim=2)
        union = (mask + truth - mask * truth).sum(dim=2)
        costs.append(1 - both / (union + 1e-6))
    return torch.stack(costs, dim=1)


class WholeCell(nn.Module):
    """A ConvLSTMCell that convolves all of its inputs, the constant one too, at every step.

    Args:
        cell (ConvLSTMCell): with a constant input; its kernels are concatenated.
    """

    def __init__(self, cell: ConvLSTMCell) -> None:
        super().__init__()
        self.hidden_channels = cell.hidden_channels
        self.padding = cell.step.padding
        kernels = torch.cat([cell.constant.weight, cell.step.weight], dim=1)
        self.weight = nn.Parameter(kernels.detach())
        self.bias = nn.Parameter(cell.step.bias.detach())

    def prepare(self, constant: Tensor) -> Tensor:
        """The constant input as it is."""
        return constant

    def forward(
        self,
        constant: Tensor,
        step_inputs: Sequence[Tensor],
        state: Optional[tuple[Tensor, Tensor]] = None,
    ) -> tuple[Tensor, Tensor]:
        """As ``ConvLSTMCell``: the new hidden state and cell, (B, D, H, W) each."""
        if state is None:
            shape = (len(constant), self.hidden_channels, *constant.shape[-2:])
            state = (constant.new_zeros(shape), constant.new_zeros(shape))
        hidden, cell = state
        inputs = torch.cat([constant, *step_inputs, hidden], dim=1)
        gates = F.conv2d(inputs, self.weight, self.bias, padding=self.padding)
        enter, forget, leave, candidate = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


def loss_of_steps(
    model: RecurrentInstanceSeg, batch: Sequence[Mapping[str, Any]], num_steps: int
) -> Tensor:
    """The loss of a sequence that is as long whatever the batch needs, without any schedule.

    Args:
        model (RecurrentInstanceSeg): in training mode.
        batch (list[dict]): as it takes it.
        num_steps (int): T.

    Returns:
        Tensor: scalar, the sum of all losses.
    """
    prepared, images = model.network(batch)
    decoder, size = model.decoder, tuple(images.tensor.shape[-2:])
    targets = batch_targets(batch, size, num_classes=decoder.num_classes, device=model.device)
    steps = unroll(decoder, prepared, num_steps, checkpointing=model.checkpointing)
    losses = {**model.criterion(steps, targets), **decoder.auxiliary_losses(prepared, targets)}
    return torch.stack(list(losses.values())).sum()


def sklearn_mean_shift(embeddings: Tensor, *, bandwidth: float, min_size: int = 1) -> Tensor:
    """Mean shift of scikit-learn with binned seeds: every pixel goes to its nearest mode.

    Args:
        embeddings (Tensor): (P, E) float.
        bandwidth (float): > 0, in units of the embedding.
        min_size (int): smaller clusters are left over.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over.

    Raises:
        UserError: scikit-learn is not installed.
    """
    settings = {"bandwidth": bandwidth, "bin_seeding": True}
    return scikit_learn_clusters("MeanShift", embeddings, min_size=max(min_size, 1), **settings)
