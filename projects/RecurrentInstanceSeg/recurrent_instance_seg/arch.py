"""The meta-architecture: backbone, recurrent decoder, teaching and criterion wired together.

Shape shorthand in this module:
    B: images in the batch   C: channels of an image
    h, w: network input of one image, without padding
    height, width: the image as the user has it
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from instance_seg_common.meta_arch import (
    ImageSizes,
    as_buffer,
    check_pixel_std,
    padded_batch,
    read_levels,
    wanted_size,
)

from . import build
from .config import check_node
from .criterion import SequenceCriterion
from .decoders import Decoder, Prepared
from .exported import ExportedNetwork
from .inference import InferenceSettings, StepSequence, count_steps, instances_of, sequences_of
from .rollout import unroll, unroll_until_stop
from .targets import batch_targets
from .teaching import Teaching

Batch = Sequence[Mapping[str, Any]]


@META_ARCH_REGISTRY.register()
class RecurrentInstanceSeg(nn.Module):
    """Instance segmentation by a recurrent decoder: one object a step, until it says stop.

    Source: Salvador et al. 2018 (RSIS); Romera-Paredes & Torr 2016 (RIS).

    Args:
        backbone (Backbone): with ``in_features`` among its outputs.
        in_features (list[str]): levels to read, coarsest first.
        detail (nn.Module or None): from the image to one more, finest level.
        decoder (Decoder): of :mod:`decoders`.
        criterion (SequenceCriterion)
        teaching (Teaching): its schedule becomes a part of the model.
        checkpointing (bool): compute steps again in the backward pass.
        inference (InferenceSettings)
        pixel_mean, pixel_std (list[float]): by channel, in the input's order and range.

    Attributes:
        exported (ExportedNetwork or None): computes :meth:`prepare` and the steps of inference in
            place of backbone and decoder.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_features: Sequence[str],
        detail: Optional[nn.Module],
        decoder: Decoder,
        criterion: SequenceCriterion,
        teaching: Teaching,
        checkpointing: bool,
        inference: InferenceSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__()
        self.backbone = backbone
        self.in_features = in_features
        self.detail = detail
        self.decoder = decoder
        self.criterion = criterion
        self.teaching = teaching
        self.schedule = teaching.schedule  # a module: its buffers are saved
        self.checkpointing = checkpointing
        self.inference = inference
        self.exported: Optional[ExportedNetwork] = None
        check_pixel_std(pixel_mean, pixel_std)
        self.register_buffer("pixel_mean", as_buffer(pixel_mean), False)
        self.register_buffer("pixel_std", as_buffer(pixel_std), False)
        # Few channels on large maps: convolutions are faster where these lie together.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "dict[str, Any]":
        """The constructor's arguments from ``MODEL.RECURRENT_INSTANCE_SEG``."""
        node = cfg.MODEL.RECURRENT_INSTANCE_SEG
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        check_node(node, shapes)
        in_features = sorted(node.IN_FEATURES, key=lambda name: -shapes[name].stride)
        return {
            "backbone": backbone,
            "in_features": in_features,
            "detail": build.build_detail(cfg),
            "decoder": build.build_decoder(node, [shapes[name] for name in in_features]),
            "criterion": build.build_criterion(node),
            "teaching": build.build_teaching(node),
            "checkpointing": node.CHECKPOINTING,
            "inference": build.build_inference(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    @property
    def divisibility(self) -> int:
        """Of the padded input, which every level fills exactly, so that a cell is a whole number of
        pixels."""
        coarsest = self.backbone.output_shape()[self.in_features[0]].stride
        return max(coarsest, 32, self.backbone.size_divisibility)

    def forward(
        self, batched_inputs: Batch
    ) -> "Union[dict[str, Tensor], list[dict[str, Instances]]]":
        """Detectron2's contract: see ``GeneralizedRCNN``.

        Args:
            batched_inputs (list[dict]): ``image`` (C, h, w); in training also ``instances``, and
                optionally ``sem_seg`` (h, w) with 255 where pixels do not count.

        Returns:
            dict[str, Tensor] in training: weighted losses. Otherwise list[dict], one an image:
            ``instances`` with ``pred_masks`` (N, height, width) bool, tight ``pred_boxes``,
            ``scores``, ``pred_classes``.
        """
        if not self.training:
            return self.predict(batched_inputs)
        prepared, images = self.network(batched_inputs)
        size, classes = images.tensor.shape[-2:], self.decoder.num_classes
        targets = batch_targets(batched_inputs, size, num_classes=classes, device=self.device)
        lesson = self.teaching.lesson(targets, self.decoder.mask_stride)
        steps = unroll(
            self.decoder, prepared, lesson.num_steps,
            memory=lesson.memory, teacher=lesson.teacher, checkpointing=self.checkpointing,
        )  # fmt: skip
        losses = self.criterion(steps, lesson.targets, lesson.matches())
        losses.update(self.decoder.auxiliary_losses(prepared, targets))
        self.teaching.advance(lesson, losses["loss_mask"])
        return self.teaching.after_onset(losses)

    @torch.no_grad()
    def predict(self, batched_inputs: Batch) -> "list[dict[str, Instances]]":
        """Instances; arguments and result as ``forward`` in evaluation."""
        results = []
        for item, sequence in zip(batched_inputs, self.run_steps(batched_inputs)):
            size = wanted_size(item, sequence.masks.shape[-2:])
            results.append({"instances": self.make_instances(sequence, size)})
        return results

    @torch.no_grad()
    def internals(self, batched_inputs: Batch) -> "list[dict[str, Tensor]]":
        """What the pictures of the insides are drawn from, one dict an image: the fields of its
        :class:`inference.StepSequence` (``points`` with attention only) and ``count`` () int64, how
        many steps come before its end. The step at ``count``, if there is one, has said stop."""
        results = [vars(sequence).copy() for sequence in self.run_steps(batched_inputs)]
        for parts in results:
            parts["count"] = torch.tensor(count_steps(parts["objectness"], self.inference))
        return [{name: x for name, x in parts.items() if x is not None} for parts in results]

    def network(self, batched_inputs: Batch) -> "tuple[Prepared, ImageList]":
        """The padded batch through the backbone, and what the decoder prepares of it."""
        images = padded_batch(
            batched_inputs, pixel_mean=self.pixel_mean, pixel_std=self.pixel_std,
            backbone=self.backbone, divisibility=self.divisibility,
        )  # fmt: skip
        return self.prepare(images.tensor, images.image_sizes), images

    def prepare(self, images: Tensor, image_sizes: ImageSizes) -> Prepared:
        """What all steps share, of images (B, C, H, W), normalised and padded, of which
        ``image_sizes`` are the heights and widths without padding."""
        if self.exported is not None:
            return self.exported.prepare(images, image_sizes)
        levels = read_levels(self.backbone, images, self.in_features)
        if self.detail is not None:
            levels.append(self.detail(images))
        height, width = images.shape[-2:]
        return self.decoder.prepare(levels, image_sizes, (height, width))

    @torch.no_grad()
    def run_steps(
        self, batched_inputs: Batch, *, inference: Optional[InferenceSettings] = None
    ) -> "list[StepSequence]":
        """The network, and steps until an objectness below ``stop_threshold`` (0 makes all
        ``max_steps``) of these settings, or of the model's own; a sequence ends with that step."""
        inference = self.inference if inference is None else inference
        prepared, images = self.network(batched_inputs)
        steps = unroll_until_stop(
            self.exported or self.decoder, prepared,
            max_steps=inference.max_steps, stop_threshold=inference.stop_threshold,
        )  # fmt: skip
        size = tuple(images.tensor.shape[-2:])
        return sequences_of(steps, images.image_sizes, size, inference=inference)

    @torch.no_grad()
    def make_instances(
        self,
        sequence: StepSequence,
        output_size: "tuple[int, int]",
        *,
        inference: Optional[InferenceSettings] = None,
    ) -> Instances:
        """Instances at (height, width), as ``forward``'s in evaluation, by these settings or by the
        model's own; the steps must have been run at least as far as these settings end them."""
        inference = self.inference if inference is None else inference
        return instances_of(sequence, output_size, inference=inference)
