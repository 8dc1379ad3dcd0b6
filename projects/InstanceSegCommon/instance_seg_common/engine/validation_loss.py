"""The training loss on held-out images, without a trace on the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..data.mapper import build_augmentations, build_train_mapper

# Reads one input of a model when it is called.
ReadInput = Callable[[], "dict[str, Any]"]


@contextmanager
def untouched(model: nn.Module) -> "Iterator[None]":
    """Restores buffers (batch-norm statistics, schedules), mode and random state afterwards."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    numpy_state = np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            model.train(training)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])


def build_validation_inputs(cfg: CfgNode, dataset_name: str, max_images: int) -> "list[ReadInput]":
    """This rank's share of the validation images, with annotations and test-time transforms.

    Args:
        cfg: with the transforms.
        dataset_name: registered.
        max_images: images in all, evenly spaced over the data set.
    """
    dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    picked = np.unique(np.linspace(0, len(dicts) - 1, min(max_images, len(dicts))).astype(int))
    mapper = build_train_mapper(cfg, augmentations=build_augmentations(cfg, is_train=False))
    share = picked[comm.get_rank() :: comm.get_world_size()]
    return [lambda index=index: mapper(dicts[index]) for index in share]


def validation_loss(model: nn.Module, inputs: Sequence[ReadInput]) -> "dict[str, float]":
    """Mean of the training losses over images, in training mode without gradients.

    Args:
        model: maps a list of one input to a dict of scalar losses in training mode; without a
            wrapper for several processes.
        inputs: from :func:`build_validation_inputs`.

    Returns:
        Each loss averaged over the images of all ranks, and ``total``.
    """
    sums: dict[str, float] = {}
    count = 0
    with untouched(model), torch.no_grad(), EventStorage(0):
        model.train()
        torch.manual_seed(0)
        for read in inputs:
            for name, value in model([read()]).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            count += 1
    gathered = comm.all_gather((sums, count))
    total = sum(n for _, n in gathered)
    names = {name for part, _ in gathered for name in part}
    means = {name: sum(p.get(name, 0.0) for p, _ in gathered) / total for name in sorted(names)}
    means["total"] = sum(means.values())
    return means
