"""Weights of another model as a start: what is made to fit, and what is left out, in sentences.

Shape shorthand in this module:
    O: output channels of a convolution   C: its input channels   k, l: its kernel
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor, nn


def first_convolutions(model: nn.Module) -> "dict[str, Tensor]":
    """Weights of the convolutions that read the image.

    Args:
        model: with a buffer ``pixel_mean``, one value a channel, as Detectron2's models have it;
            without one there is no telling.

    Returns:
        (O, C, k, l) by their names in the state dict, C the number of channels of the image.
    """
    mean = getattr(model, "pixel_mean", None)
    if mean is None:
        return {}
    channels = mean.numel()
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] == channels
    }


def adapt_first_convolutions(weights: "dict[str, Any]", model: nn.Module) -> "list[str]":
    """Give first convolutions the number of channels of the model's images.

    Every channel gets the mean of the kernel over the channels of the file, scaled so that an image
    that is the same in all channels gives the same response as before.

    Args:
        weights: tensors by their names in the model; changed in place.
        model: that they will be loaded into.

    Returns:
        What was done, a part of a sentence each.
    """
    done = []
    for name, own in first_convolutions(model).items():
        given = weights.get(name)
        if given is None or given.ndim != 4 or given.shape == own.shape:
            continue
        before, after = given.shape[1], own.shape[1]
        if (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:]):
            mean = torch.as_tensor(given).float().mean(dim=1, keepdim=True) * (before / after)
            weights[name] = mean.repeat(1, after, 1, 1)
            done.append(f"{name} from {before} to {after} channels")
    return done


def aligned_weights(model: nn.Module, weights: "dict[str, Any]", caffe2: bool) -> "dict[str, Any]":
    """Weights of other code under the names that they have in the model.

    Detectron2 matches names whose tensors have the same shape. Of a model whose images have other
    channels, first convolutions are matched as if it read colours, as those files do.

    Args:
        model: that they will be loaded into.
        weights: tensors by their names in the file.
        caffe2: the names are Caffe2's.

    Returns:
        With first convolutions of 3 channels; what has no match keeps its name.
    """
    found = align_and_update_state_dicts(model.state_dict(), weights, caffe2)
    colours = {
        name: own.new_empty(own.shape[0], 3, *own.shape[2:])
        for name, own in first_convolutions(model).items()
        if name not in found and own.shape[1] != 3
    }
    if colours:
        state = {**model.state_dict(), **colours}
        again = align_and_update_state_dicts(state, weights, caffe2)
        found.update((name, again[name]) for name in colours if name in again)
    return found


def modules_of(keys: Iterable[str]) -> "list[str]":
    """Names of the modules that hold tensors, each once, in their order."""
    return list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))


def counts_by_part(keys: Iterable[str]) -> "Mapping[str, int]":
    """How many tensors each part of a model has, a part being what it has at its first level."""
    counts: dict[str, int] = {}
    for key in keys:
        part = key.partition(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return counts
