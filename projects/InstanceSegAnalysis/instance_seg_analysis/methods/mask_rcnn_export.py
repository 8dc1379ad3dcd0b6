"""The networks of Detectron2's Mask R-CNN as parts for other runtimes.

Anchors, proposals, NMS, RoIAlign and the pasting of masks stay Detectron2's: how many boxes there
are depends on the image, and exporters of whole models lose that.

Shape shorthand in this module:
    H, W: padded network input   h, w: a level of the pyramid   L: levels   R: boxes
    C: classes without background   s: side of what is pooled from a box
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, MaskRCNNConvUpsampleHead
from torch import Tensor, nn

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import (
    NetworkExport,
    NetworkPart,
    Runner,
    example_image,
    run_by_image,
)

from .mask_rcnn import has_standard_heads

PYRAMID, ANCHORS, BOXES, MASKS = "pyramid", "anchors", "boxes", "masks"
EXAMPLE_BOXES = 3


class PyramidPart(nn.Module):
    """Images (1, channels, H, W) to the levels of the backbone, in the order of their names."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> "tuple[Tensor, ...]":
        """The levels, (1, c, h, w) each."""
        return tuple(self.backbone(images).values())


class AnchorsPart(nn.Module):
    """Levels (1, c, h, w) to the RPN's objectness (1, A, h, w) and deltas (1, 4 A, h, w)."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *levels: Tensor) -> "tuple[Tensor, ...]":
        """The objectness of all levels, then the deltas of all levels."""
        objectness, deltas = self.head(list(levels))
        return (*objectness, *deltas)


class BoxesPart(nn.Module):
    """What is pooled from boxes (R, c, s, s) to scores (R, C + 1) and deltas (R, 4 or 4 C)."""

    def __init__(self, head: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.head, self.predictor = head, predictor

    def forward(self, pooled: Tensor) -> "tuple[Tensor, Tensor]":
        """Logits of the classes, and deltas of the boxes."""
        return self.predictor(self.head(pooled))


class MasksPart(nn.Module):
    """What is pooled from boxes (R, c, s, s) to logits of masks (R, C, 2 s, 2 s)."""

    def __init__(self, head: MaskRCNNConvUpsampleHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor) -> "tuple[Tensor]":
        """Logits."""
        return (self.head.layers(pooled),)


def network_parts(model: Any) -> "list[NetworkPart]":
    """The networks of a Mask R-CNN in evaluation mode: pyramid, anchors, boxes and masks.

    Args:
        model (GeneralizedRCNN): of stock parts.

    Raises:
        UserError: other parts, which call one another in other ways.
    """
    _check_stock(model)
    heads = model.roi_heads
    divisibility = max(model.backbone.size_divisibility, 32)
    images = example_image(len(model.pixel_mean), divisibility)
    with torch.no_grad():
        levels = model.backbone(images)
    read = {name: levels[name] for name in model.proposal_generator.in_features}
    channels = levels[heads.box_in_features[0]].shape[1]
    return [
        NetworkPart(
            PYRAMID, PyramidPart(model.backbone), {"images": images}, list(levels),
            {"images": {2: ("h", divisibility), 3: ("w", divisibility)}},
        ),
        NetworkPart(
            ANCHORS, AnchorsPart(model.proposal_generator.rpn_head), read,
            [f"{kind}_{name}" for kind in ("objectness", "deltas") for name in read],
            {name: {2: (f"h_{name}", 1), 3: (f"w_{name}", 1)} for name in read},
        ),
        _pooled_part(
            BOXES, BoxesPart(heads.box_head, heads.box_predictor), ["scores", "deltas"],
            channels=channels, side=heads.box_pooler.output_size,
        ),
        _pooled_part(
            MASKS, MasksPart(heads.mask_head), ["masks"],
            channels=channels, side=heads.mask_pooler.output_size,
        ),
    ]  # fmt: skip


def _pooled_part(
    name: str, module: nn.Module, outputs: "list[str]", *, channels: int, side: Any
) -> NetworkPart:
    """A part that reads what is pooled from any number of boxes."""
    pooled = torch.zeros(EXAMPLE_BOXES, channels, *side)
    return NetworkPart(name, module, {"pooled": pooled}, outputs, {"pooled": {0: ("boxes", 1)}})


def _check_stock(model: Any) -> None:
    heads = model.roi_heads
    mask_head = getattr(heads, "mask_head", None)
    stock = has_standard_heads(model) and type(model.proposal_generator) is RPN
    if not (stock and isinstance(mask_head, MaskRCNNConvUpsampleHead)):
        raise UserError(
            "Of GeneralizedRCNN, export knows Mask R-CNN with RPN, StandardROIHeads and "
            f"MaskRCNNConvUpsampleHead; this model has {type(model.proposal_generator).__name__}, "
            f"{type(heads).__name__} and {type(mask_head).__name__}. Run it with torch."
        )


class ExportedBackbone(Backbone):
    """A backbone by the runner of its part.

    Args:
        backbone (Backbone): whose sizes and levels it has.
        runner (Runner): of the part ``pyramid``.
        names (list[str]): of the levels in the order of the runner's results.
    """

    def __init__(self, backbone: Any, runner: Runner, names: "Sequence[str]") -> None:
        super().__init__()
        self.runner, self.names = runner, names
        self.divisibility = backbone.size_divisibility
        self.constraints = getattr(backbone, "padding_constraints", {})
        self.shapes = backbone.output_shape()

    @property
    def size_divisibility(self) -> int:
        """Of height and width."""
        return self.divisibility

    @property
    def padding_constraints(self) -> "dict[str, int]":
        """As the backbone's."""
        return self.constraints

    def output_shape(self) -> "dict[str, ShapeSpec]":
        """As the backbone's."""
        return self.shapes

    def forward(self, images: Tensor) -> "dict[str, Tensor]":
        """Levels (B, c, h, w) by name."""
        return dict(zip(self.names, run_by_image(self.runner, [images])))


class ExportedAnchors(nn.Module):
    """The RPN's head by the runner of its part."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def forward(self, features: "list[Tensor]") -> "tuple[list[Tensor], list[Tensor]]":
        """Objectness and deltas of each level."""
        found = run_by_image(self.runner, features)
        return found[: len(features)], found[len(features) :]


class ExportedBoxes(nn.Module):
    """The box head and its predictor by the runner of their part."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, c, s, s) to scores and deltas, in this order, along the second dimension."""
        return torch.cat(list(run_pooled(self.runner, pooled)), dim=1)


class Columns(nn.Module):
    """Some columns of (R, D), in place of the linear layers that would follow."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        """(R, D) to those columns."""
        return x[:, self.columns]


class ExportedMasks(BaseMaskRCNNHead):
    """The mask head by the runner of its part."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def layers(self, x: Tensor) -> Tensor:
        """(R, c, s, s) to logits (R, C, 2 s, 2 s)."""
        return run_pooled(self.runner, x)[0]


def run_pooled(runner: Runner, pooled: Tensor) -> "Sequence[Tensor]":
    """Run a part on (R, ...); no box becomes one, for runtimes that cannot convolve nothing."""
    if len(pooled):
        return runner(pooled)
    return [x[:0] for x in runner(pooled.new_zeros(1, *pooled.shape[1:]))]


def attach(model: Any, runners: "Mapping[str, Runner]") -> None:
    """Make a Mask R-CNN compute its networks by the runners of their parts."""
    pyramid = network_parts(model)[0]
    heads, classes = model.roi_heads, model.roi_heads.box_predictor.cls_score.out_features
    model.backbone = ExportedBackbone(model.backbone, runners[PYRAMID], pyramid.outputs)
    model.proposal_generator.rpn_head = ExportedAnchors(runners[ANCHORS])
    heads.box_head = ExportedBoxes(runners[BOXES])
    heads.box_predictor.cls_score = Columns(slice(0, classes))
    heads.box_predictor.bbox_pred = Columns(slice(classes, None))
    heads.mask_head = ExportedMasks(runners[MASKS])


EXPORT = NetworkExport(network_parts, attach)
