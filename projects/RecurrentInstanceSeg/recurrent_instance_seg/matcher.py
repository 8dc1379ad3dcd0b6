"""Which step is to show which instance.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: ground-truth instances, padded
"""

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Of each image the steps, ascending, and their instances: (m,) int64 each, on the CPU.
Matches = Sequence[tuple[Tensor, Tensor]]


def match_instances(cost: Tensor, num_instances: Sequence[int]) -> Matches:
    """The assignment of instances to steps with the least sum of costs (Hungarian method).

    Only the first ``min(T, n)`` steps of an image with n instances compete, so that a model learns
    to stop after n steps.

    Source: Romera-Paredes & Torr 2016; Salvador et al. 2018.

    Args:
        cost (Tensor): (B, T, K) float.
        num_instances (list[int]): n of each image, at most K.

    Returns:
        list[tuple[Tensor, Tensor]]: per image the steps, ascending, and their instances, (m,) int64
        each on the CPU, m = min(T, n).
    """
    # One NaN would end the run here; as the worst cost it ends it where the loss is checked.
    table = cost.detach().float().nan_to_num(nan=1e6, posinf=1e6).cpu().numpy()
    matches = []
    for image, n in zip(table, num_instances):
        steps, instances = linear_sum_assignment(image[: min(len(image), n), :n])
        matches.append((torch.as_tensor(steps), torch.as_tensor(instances)))
    return matches
