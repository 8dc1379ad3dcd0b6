"""The meta-architecture: backbone, head, losses and grouping wired together.

Shape shorthand in this module:
    B: images in the batch   C: channels of an image   E: embedding channels   K: clusters
    H, W: padded network input   h, w: an image of the network input, without padding
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from instance_seg_common.masks import id_maps_from_inputs, instances_from_labels
from instance_seg_common.meta_arch import (
    ImageSizes,
    as_buffer,
    check_pixel_std,
    note_limit,
    padded_batch,
    read_levels,
    wanted_size,
)

from . import monitoring
from .augmented import DenseMaps, augmented_maps, check_turns
from .build import build_criterion, build_head, build_inference
from .config import check_node
from .grouping import Centers, Grouping, InferenceSettings, group_pixels
from .head import EmbeddingHead
from .losses import Criterion
from .maps import Maps, image_maps

Inputs = Sequence[Mapping[str, Any]]


@META_ARCH_REGISTRY.register()
class EmbeddingInstanceSeg(nn.Module):
    """Instance segmentation by clustering pixel embeddings.

    Source: De Brabandere, Neven, Van Gool 2017 (Semantic Instance Segmentation with a
    Discriminative Loss Function). Deviates: semantics and embeddings share backbone and decoder.

    Args:
        backbone (Backbone): with ``in_features`` among its outputs.
        in_features (list[str]): levels to fuse, finest first.
        head (EmbeddingHead)
        criterion (Criterion): the losses.
        inference (InferenceSettings): from maps to instances.
        pixel_mean, pixel_std (list[float]): by channel, in the input's order and range.
        augmented (bool): in evaluation, maps are those of ``augmented.augmented_maps``.

    Attributes:
        exported (callable or None): computes :meth:`dense_maps` in place of backbone and head.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_features: Sequence[str],
        head: EmbeddingHead,
        criterion: Criterion,
        inference: InferenceSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        augmented: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_features = in_features
        self.head = head
        self.criterion = criterion
        self.inference = inference
        self.num_classes = criterion.num_classes
        self.augmented = augmented
        self.exported: Optional[DenseMaps] = None
        check_pixel_std(pixel_mean, pixel_std)
        self.register_buffer("pixel_mean", as_buffer(pixel_mean), False)
        self.register_buffer("pixel_std", as_buffer(pixel_std), False)
        # Few channels on large maps: convolutions are a fifth faster where these lie together.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "dict[str, Any]":
        """The constructor's arguments from ``MODEL.EMBEDDING_INSTANCE_SEG``."""
        node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
        backbone = build_backbone(cfg)
        shapes: dict[str, Any] = backbone.output_shape()
        check_node(node, shapes)
        check_turns(cfg)
        in_features = sorted(node.IN_FEATURES, key=lambda name: shapes[name].stride)
        return {
            "backbone": backbone,
            "in_features": in_features,
            "head": build_head(cfg, [shapes[name].channels for name in in_features]),
            "criterion": build_criterion(cfg),
            "inference": build_inference(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "augmented": cfg.TEST.AUG.ENABLED,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Inputs) -> "dict[str, Tensor] | list[dict[str, Instances]]":
        """Detectron2's contract: see ``GeneralizedRCNN``.

        Args:
            batched_inputs (list[dict]): ``image`` (C, h, w), optionally ``height`` and ``width`` of
                the output; in training also ``instances``, and optionally ``sem_seg`` (h, w) with
                255 where pixels do not count.

        Returns:
            dict[str, Tensor] in training: weighted losses. Otherwise list[dict], one an image:
            ``instances`` with ``pred_masks`` (N, height, width) bool, tight ``pred_boxes``,
            ``scores``, ``pred_classes``.
        """
        if self.training:
            return self._losses(batched_inputs)
        results = []
        for item, maps in zip(batched_inputs, self.image_maps(batched_inputs)):
            size = wanted_size(item, maps.embedding_full.shape[-2:])
            results.append({"instances": self.make_instances(self.group(maps), size)})
        return results

    def _losses(self, batched_inputs: Inputs) -> "dict[str, Tensor]":
        outputs, images = self.network(batched_inputs)
        size = images.tensor.shape[-2:]
        instance_ids, class_ids, _ = id_maps_from_inputs(batched_inputs, size, self.device)
        if torch.is_grad_enabled():  # not for a validation loss
            first = (instance_ids[0], images.image_sizes[0])
            monitoring.put_cluster_statistics(outputs, *first, settings=self.inference)
        return self.criterion(outputs, instance_ids, class_ids)

    def network(self, batched_inputs: Inputs) -> "tuple[dict[str, Tensor], ImageList]":
        """The outputs of the head for the padded batch, with ``augmented`` those of all its turns
        in one, and that batch, (B, C, H, W)."""
        images = padded_batch(
            batched_inputs,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            backbone=self.backbone,
            divisibility=self.head.decoder.output_stride,
        )
        batch = images.tensor, images.image_sizes
        if self.augmented and not self.training:
            unit = self.head.position_unit
            return augmented_maps(self.dense_maps, *batch, position_unit=unit), images
        return self.dense_maps(*batch), images

    def dense_maps(self, images: Tensor, image_sizes: ImageSizes) -> "dict[str, Tensor]":
        """The outputs of the head for images (B, C, H, W), normalised and padded, of which
        ``image_sizes`` are the heights and widths without padding."""
        if self.exported is not None:
            return self.exported(images, image_sizes)
        levels = read_levels(self.backbone, images, self.in_features)
        return self.head(levels, images, image_sizes)

    @torch.no_grad()
    def image_maps(self, batched_inputs: Inputs) -> "list[Maps]":
        """What the network says about each image."""
        outputs, images = self.network(batched_inputs)
        stride = self.head.decoder.output_stride
        sizes = enumerate(images.image_sizes)
        return [image_maps(outputs, index, size, stride=stride) for index, size in sizes]

    @torch.no_grad()
    def group(
        self, maps: Maps, *, inference: Optional[InferenceSettings] = None,
        truth: Optional[Centers] = None,
    ) -> Grouping:  # fmt: skip
        """The instances of one image, by the model's own settings or others: ``group_pixels``."""
        return group_pixels(maps, inference or self.inference, truth)

    @torch.no_grad()
    def make_instances(
        self, grouping: Grouping, output_size: "tuple[int, int]", *,
        inference: Optional[InferenceSettings] = None,
    ) -> Instances:  # fmt: skip
        """What :meth:`forward` returns of one image, at ``output_size`` (height, width)."""
        settings = inference or self.inference
        order = torch.argsort(grouping.scores, descending=True, stable=True)
        best = order[: settings.max_instances]
        if len(best) < len(order):
            note_limit("TEST.DETECTIONS_PER_IMAGE", len(best))
        renamed = grouping.labels.new_zeros(len(order) + 1)
        renamed[best + 1] = torch.arange(1, len(best) + 1, device=best.device)
        return instances_from_labels(
            renamed[grouping.labels],
            grouping.scores[best],
            grouping.classes[best],
            output_size=output_size,
            min_area=settings.min_area,
        )

    def internals(self, batched_inputs: Inputs) -> "list[dict[str, Tensor]]":
        """What the pictures of the insides are drawn from; see ``monitoring.image_internals``."""
        images = self.image_maps(batched_inputs)
        return [monitoring.image_internals(maps, self.group(maps)) for maps in images]
