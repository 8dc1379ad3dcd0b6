"""The network in two parts for other runtimes: what all steps share, and a step.

Shape shorthand in this module:
    B: images in the batch   C: channels of an image   H, W: padded network input
    h, w: grid of the masks
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Optional

import torch
from torch import Tensor, nn

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import (
    EXAMPLE_CELLS,
    ImageSizes,
    NetworkExport,
    NetworkPart,
    Runner,
    example_image,
    run_by_image,
)

from .decoders import Decoder, Prepared, RISDecoder, Step
from .decoders.parts import State

PREPARATION, STEP = "preparation", "step"


class Preparation(nn.Module):
    """From images to the tensors of what all steps share.

    Args:
        model (RecurrentInstanceSeg): its parameters are shared.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor, sizes: Tensor) -> "tuple[Tensor, ...]":
        """
        Args:
            images (Tensor): (1, C, H, W) float, normalised and padded.
            sizes (Tensor): (1, 2) int64, height and width without padding.
        """
        return tuple(tensors_of(self.model.prepare(images, sizes)).values())


class StepPart(nn.Module):
    """One step, from tensors to tensors.

    Args:
        decoder (Decoder): its parameters are shared.
        example (Prepared): of an image of any size, which tells the tensors apart.
    """

    def __init__(self, decoder: Decoder, example: Prepared) -> None:
        super().__init__()
        self.decoder = decoder
        self.example = example

    def forward(self, *tensors: Tensor) -> "tuple[Tensor, ...]":
        """
        Args:
            *tensors (Tensor): those of ``Prepared``, hidden state and cell of each ConvLSTM, and
                the masks so far, (1, h, w) float.
        """
        count = len(tensors_of(self.example))
        prepared = prepared_of(self.example, tensors[:count])
        state, memory = state_of(tensors[count:-1]), tensors[-1]
        step, state = self.decoder(prepared, state, memory)
        return (*(x for x in step if x is not None), *(x for pair in state for x in pair))


class ExportedNetwork:
    """Preparation and step of a model by the runners of its parts.

    Args:
        model (RecurrentInstanceSeg): whose decoder says how many tensors there are.
        runners (dict[str, Runner]): of the parts, by name.
    """

    def __init__(self, model: Any, runners: "Mapping[str, Runner]") -> None:
        self.runners = runners
        self.example, step, state = example_of(model)
        self.fields = [name for name, x in zip(Step._fields, step) if x is not None]
        self.channels = [hidden.shape[1] for hidden, _ in state]

    def prepare(self, images: Tensor, image_sizes: ImageSizes) -> Prepared:
        """As ``RecurrentInstanceSeg.prepare``."""
        sizes = torch.as_tensor(image_sizes)
        return prepared_of(self.example, run_by_image(self.runners[PREPARATION], [images, sizes]))

    def __call__(
        self, prepared: Prepared, state: Optional[State] = None, memory: Optional[Tensor] = None
    ) -> "tuple[Step, State]":
        """As ``Decoder.forward``."""
        inside = prepared.mask_inside
        memory = inside.new_zeros(inside.shape, dtype=torch.float32) if memory is None else memory
        state = self._first_state(prepared) if state is None else state
        tensors = [*tensors_of(prepared).values(), *(x for pair in state for x in pair), memory]
        found = run_by_image(self.runners[STEP], tensors)
        count = len(self.fields)
        return Step(**dict(zip(self.fields, found))), state_of(found[count:])

    def _first_state(self, prepared: Prepared) -> State:
        """Zero, which is what a cell takes for no state."""
        zeros = (
            gates.new_zeros(len(gates), channels, *gates.shape[-2:])
            for gates, channels in zip(prepared.gates, self.channels)
        )
        return [(zero, zero) for zero in zeros]


def tensors_of(prepared: Prepared) -> "dict[str, Tensor]":
    """The tensors of what all steps share, by the names of its fields, in a list with a number."""
    named = {}
    for field in fields(prepared):
        value = getattr(prepared, field.name)
        if isinstance(value, Tensor):
            named[field.name] = value
        else:
            named.update({f"{field.name}_{index}": x for index, x in enumerate(value)})
    return named


def prepared_of(example: Prepared, tensors: "Sequence[Tensor]") -> Prepared:
    """The other way round: tensors in the order of :func:`tensors_of` as something like
    ``example``."""
    rest = iter(tensors)
    values = {}
    for field in fields(example):
        like = getattr(example, field.name)
        values[field.name] = next(rest) if isinstance(like, Tensor) else [next(rest) for _ in like]
    return type(example)(**values)


def state_of(tensors: "Sequence[Tensor]") -> State:
    """Hidden states and cells in turn as pairs."""
    return list(zip(tensors[::2], tensors[1::2]))


@torch.no_grad()
def example_of(model: Any) -> "tuple[Prepared, Step, State]":
    """What is prepared of :func:`example_image`, and its first step."""
    images = example_image(len(model.pixel_mean), model.divisibility)
    prepared = model.prepare(images, [tuple(images.shape[-2:])])
    return (prepared, *model.decoder(prepared))


def network_parts(model: Any) -> "list[NetworkPart]":
    """The network of a ``RecurrentInstanceSeg`` in evaluation mode: preparation and step.

    Raises:
        UserError: its decoder cannot be exported.
    """
    if isinstance(model.decoder, RISDecoder):
        raise UserError(
            "The decoder ris (MODEL.RECURRENT_INSTANCE_SEG.DECODER) cannot be exported: it takes "
            "maxima over the quarters of an image without its padding, whose sizes depend on the "
            "image and not on the shape of its tensor. Use rsis or guided."
        )
    images = example_image(len(model.pixel_mean), model.divisibility)
    prepared, step, state = example_of(model)
    shared = tensors_of(prepared)
    states = {
        f"{name}_{level}": x
        for level, pair in enumerate(state)
        for name, x in zip(("hidden", "cell"), pair)
    }
    memory = torch.zeros_like(step.masks)
    said = [name for name, x in zip(Step._fields, step) if x is not None]
    preparation = NetworkPart(
        PREPARATION, Preparation(model),
        {"images": images, "sizes": torch.tensor([images.shape[-2:]])}, list(shared),
        _axes({"images": images}),
    )  # fmt: skip
    inputs = {**shared, **states, "memory": memory}
    outputs = [*said, *(f"next_{name}" for name in states)]
    part = StepPart(model.decoder, prepared)
    return [preparation, NetworkPart(STEP, part, inputs, outputs, _axes(inputs))]


def _axes(tensors: "Mapping[str, Tensor]") -> "dict[str, dict[int, tuple[str, int]]]":
    """Of tensors made from :func:`example_image`; all have height and width last."""
    rows, columns = EXAMPLE_CELLS
    return {
        name: {x.ndim - 2: ("h", x.shape[-2] // rows), x.ndim - 1: ("w", x.shape[-1] // columns)}
        for name, x in tensors.items()
    }


def attach(model: Any, runners: "Mapping[str, Runner]") -> None:
    """Make a ``RecurrentInstanceSeg`` prepare and step by the runners of its parts."""
    model.exported = ExportedNetwork(model, runners)


EXPORT = NetworkExport(network_parts, attach)
