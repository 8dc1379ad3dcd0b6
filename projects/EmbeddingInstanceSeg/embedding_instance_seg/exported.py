"""The network without what comes before and after it, for other runtimes.

Shape shorthand in this module:
    B: images in the batch   C: channels of an image   H, W: padded network input
"""

from collections.abc import Mapping
from typing import Any, Optional

import torch
from torch import Tensor, nn

from instance_seg_common.meta_arch import (
    ImageSizes,
    NetworkExport,
    NetworkPart,
    Runner,
    example_image,
    run_by_image,
)

NAME = "network"


class Network(nn.Module):
    """From images to the maps of the head, without a name by position.

    Args:
        model (EmbeddingInstanceSeg): its parameters are shared.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor, sizes: Optional[Tensor] = None) -> "tuple[Tensor, ...]":
        """
        Args:
            images (Tensor): (B, C, H, W) float, normalised and padded.
            sizes (Tensor or None): (B, 2) height and width without padding, for a head that reads
                coordinates.
        """
        image_sizes = [tuple(images.shape[-2:])] if sizes is None else sizes
        return tuple(self.model.dense_maps(images, image_sizes).values())


def network_parts(model: Any) -> "list[NetworkPart]":
    """The network of an ``EmbeddingInstanceSeg`` in evaluation mode, one part."""
    divisibility = max(model.backbone.size_divisibility, model.head.decoder.output_stride)
    images = example_image(len(model.pixel_mean), divisibility)
    inputs = {"images": images}
    if model.head.decoder.coordinates:
        inputs["sizes"] = torch.tensor([images.shape[-2:]])
    with torch.no_grad():
        outputs = list(model.dense_maps(images, [tuple(images.shape[-2:])]))
    axes = {"images": {2: ("h", divisibility), 3: ("w", divisibility)}}
    return [NetworkPart(NAME, Network(model), inputs, outputs, axes)]


def attach(model: Any, runners: "Mapping[str, Runner]") -> None:
    """Make an ``EmbeddingInstanceSeg`` compute its dense maps by the runner of its part."""
    (part,) = network_parts(model)

    def dense_maps(images: Tensor, image_sizes: ImageSizes) -> "dict[str, Tensor]":
        inputs = {"images": images, "sizes": torch.as_tensor(image_sizes)}
        found = run_by_image(runners[NAME], [inputs[name] for name in part.inputs])
        return dict(zip(part.outputs, found))

    model.exported = dense_maps


EXPORT = NetworkExport(network_parts, attach)
