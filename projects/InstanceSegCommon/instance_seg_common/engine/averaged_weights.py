"""A moving average of the weights in training, which is the model that is evaluated and kept."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STATISTICS = ("running_mean", "running_var")  # of batch norm


class AveragedWeights(AveragedModel):
    """Exponential moving average of the weights of a model and of its batch-norm statistics.

    The decay of the n-th update after the first is min(decay, (1 + n) / (10 + n)), so that the
    random weights of the start are forgotten in a short training, too. The first update copies.

    Statistics are averaged like the weights: those of the model in training belong to weights that
    are newer by about 1 / (1 - decay) iterations. All other buffers are the model's: counts and
    schedules have a meaning as they are, and no mean.

    Source: Polyak & Juditsky 1992 (Acceleration of Stochastic Approximation by Averaging); the rise
    of the decay is that of TensorFlow's ExponentialMovingAverage.

    Args:
        model: without a wrapper for several processes and without hooks; it is copied.
        decay: in (0, 1).
    """

    module: nn.Module

    def __init__(self, model: nn.Module, decay: float) -> None:
        def average(averaged: Any, current: Any, count: Any) -> None:
            risen = (1 + int(count)) / (10 + int(count))
            get_ema_multi_avg_fn(min(decay, risen))(averaged, current, count)

        super().__init__(model, multi_avg_fn=average, use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights after one more iteration into the average."""
        super().update_parameters(model)
        pairs = zip(self.module.named_buffers(), model.buffers())
        for (name, averaged), current in pairs:
            if name.rpartition(".")[2] not in STATISTICS:
                averaged.copy_(current)
