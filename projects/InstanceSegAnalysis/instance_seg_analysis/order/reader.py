"""A recurrent model's sequence of objects on an image, and how active its encoder is on them.

The sequence: the predicted instances in the order of their steps, overlap resolved as the config
says, without those whose score is below TEST.LABEL_MAP_SCORE_THRESHOLD.

Shape shorthand in this module:
    N: objects of an image in the order of their steps   h, w: network input without padding
    H, W: padded network input
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from instance_seg_analysis.order.encoders import EarlierEncoder, block_features
from instance_seg_analysis.order.objects import (
    FoundObjects,
    covered_shares,
    describe_masks,
    mask_activations,
)
from instance_seg_analysis.order.tau import AFTER, Activations
from instance_seg_common.engine.predictor import model_input
from recurrent_instance_seg import RecurrentInstanceSeg
from recurrent_instance_seg.inference import (
    InferenceSettings,
    StepSequence,
    count_steps,
    score_instances,
    without_overlap,
)


class ObjectsInOrder(NamedTuple):
    """masks: (N, h, w) bool; classes: (N,) int64; left_out: steps before the end that are no
    instance, for they are too small or their score is too low."""

    masks: Tensor
    classes: Tensor
    left_out: int


class ReadImage(NamedTuple):
    """What was read of one image."""

    file_name: str
    found: FoundObjects
    activations: Activations
    left_out: int


class OrderReader:
    """Runs a recurrent model and reads what it found in which order.

    Args:
        cfg (CfgNode): of the model.
        model (RecurrentInstanceSeg): in evaluation mode.
        before (dict[str, EarlierEncoder]): encoders before training.
    """

    def __init__(
        self, cfg: CfgNode, model: RecurrentInstanceSeg, before: Mapping[str, EarlierEncoder]
    ):
        self.cfg, self.model = cfg, model
        self.before = before
        # The encoders before training see exactly what the trained one sees.
        self.model.backbone.register_forward_pre_hook(self._keep_input)

    def _keep_input(self, module: nn.Module, inputs: "tuple[Tensor, ...]") -> None:
        self._encoder_input = inputs[0]

    @torch.no_grad()
    def read(self, record: "Mapping[str, Any]") -> ReadImage:
        """One image, of a record (dict) of a data set or one that has ``file_name`` alone.

        Raises:
            UserError: the file cannot be read.
        """
        item = model_input(self.cfg, record)
        (sequence,) = self.model.run_steps([item])
        masks, classes, left_out = objects_in_order(
            sequence, self.model.inference,
            least_area=self._least_area(item),
            least_score=self.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        )  # fmt: skip
        activations = self._activations(masks)
        return ReadImage(record["file_name"], describe_masks(masks, classes), activations, left_out)

    def _least_area(self, item: "Mapping[str, Any]") -> float:
        """MIN_AREA is one of the image: the same of the network input, in its pixels."""
        height, width = item["image"].shape[1:]
        scale = height * width / (item["height"] * item["width"])
        return max(self.model.inference.min_area * scale, 1)

    def _activations(self, masks: Tensor) -> Activations:
        """Of the trained encoder and of those before training, on the last input."""
        trained = EarlierEncoder(self.model.backbone, bottom_up_only=False)
        x, shares, activations = self._encoder_input, {}, {}
        for name, encoder in {AFTER: trained, **self.before}.items():
            levels = () if encoder.bottom_up_only else self.model.in_features
            activations[name] = {}
            for block, features in block_features(encoder.backbone, x, levels).items():
                grid = tuple(features.shape[-2:])
                if grid not in shares:
                    shares[grid] = covered_shares(masks, tuple(x.shape[-2:]), grid)
                activations[name][block] = mask_activations(features, shares[grid])
        return activations


def objects_in_order(
    sequence: StepSequence, inference: InferenceSettings, *, least_area: float, least_score: float
) -> ObjectsInOrder:
    """The predicted instances of a sequence in the order of their steps.

    Args:
        sequence (StepSequence): of one image.
        inference (InferenceSettings): of the model.
        least_area (float): pixels of the network input; smaller masks are left out.
        least_score (float): of a mask's likeliest class; those with a lower one are left out.
    """
    steps = sequence.first(count_steps(sequence.objectness, inference))
    masks = without_overlap(steps.masks, inference.overlap, inference.mask_threshold)
    _, scores, classes = score_instances(
        masks, steps.class_probabilities, steps.objectness,
        parts=inference.score, all_classes=False,
    )  # fmt: skip
    masks = masks > inference.mask_threshold
    kept = (scores >= least_score) & (masks.flatten(1).sum(dim=1) >= least_area)
    return ObjectsInOrder(masks[kept], classes[kept], int((~kept).sum()))
