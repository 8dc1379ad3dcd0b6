"""The meta-architecture: backbone, head, losses and clustering wired together.

Shape shorthand in this module:
    B: images in the batch   H, W: padded network input   s: output stride   h, w: H / s, W / s
"""

import math
from dataclasses import replace

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn
from torch.nn import functional as F

from instance_seg_common.masks import (
    instance_id_maps,
    instances_from_masks,
    targets_from_inputs,
)
from instance_seg_common.meta_arch import current_iteration, padded_batch, put_scalars, read_levels

from .bandwidth_losses import bandwidth_losses
from .config import check_node
from .head import EmbeddingHead, PyramidDecoder
from .inference import PixelGrouping, image_maps, likeliest, true_grouping
from .losses import discriminative_loss
from .monitoring import cluster_statistics
from .semantics import (
    instance_class_loss,
    semantic_loss,
    semantic_targets,
    true_probabilities,
)

MONITORING_PERIOD = 20  # iterations, the period of Detectron2's writers


@META_ARCH_REGISTRY.register()
class EmbeddingInstanceSeg(nn.Module):
    """Instance segmentation by clustering pixel embeddings.

    Source: De Brabandere, Neven, Van Gool 2017 (Semantic Instance Segmentation with a
    Discriminative Loss Function). Deviates: semantics and embeddings share backbone and decoder.

    Args:
        backbone (Backbone): with ``in_features`` among its outputs.
        in_features (list[str]): levels to fuse, finest first.
        head (EmbeddingHead)
        grouping (PixelGrouping)
        num_classes (int): without background.
        margins (tuple[float, float]): delta_var and delta_dist.
        loss_weights (dict[str, float]): by the loss's name; losses without a weight are left out.
        min_area (int): pixels of the output; smaller instances are dropped.
        max_instances (int or None): the best of an image that are kept; None: all.
        pixel_mean, pixel_std (list[float]): by channel, in the input's order and range.
    """

    @configurable
    def __init__(
        self, *, backbone, in_features, head, grouping, num_classes, margins, loss_weights,
        min_area, max_instances, pixel_mean, pixel_std,
    ):  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.in_features = in_features
        self.head = head
        self.grouping = grouping
        self.num_classes = num_classes
        self.margins = margins
        self.loss_weights = loss_weights
        self.min_area = min_area
        self.max_instances = max_instances
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        # Few channels on large maps: convolutions are a fifth faster where these lie together.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        """The constructor's arguments from ``MODEL.EMBEDDING_INSTANCE_SEG``."""
        node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
        limit = cfg.TEST.DETECTIONS_PER_IMAGE
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        check_node(node, shapes)
        in_features = sorted(node.IN_FEATURES, key=lambda name: shapes[name].stride)
        decoder = PyramidDecoder(
            [shapes[name].channels for name in in_features],
            node.CHANNELS,
            node.HEAD_CHANNELS,
            node.OUTPUT_STRIDE,
            node.DETAIL,
            node.COORDINATES,
            node.NORM,
        )
        head = EmbeddingHead(
            decoder,
            node.HEAD_CHANNELS,
            node.NUM_CLASSES,
            node.EMBEDDING_DIM,
            node.NORM,
            node.POSITION_UNIT if node.SEMI_CONVOLUTIONAL else None,
            node.INITIAL_BANDWIDTH if node.LEARNED_BANDWIDTH else None,
        )
        grouping = PixelGrouping(
            node.CLUSTERING,
            node.BANDWIDTH,
            node.MIN_CLUSTER_SIZE,
            node.MAX_ITERATIONS,
            node.SEED_THRESHOLD,
            node.REACH or math.inf,
            node.SCORE,
            node.CLASS_AGNOSTIC,
            node.CLUSTERING_SEED,
        )
        return {
            "backbone": backbone,
            "in_features": in_features,
            "head": head,
            "grouping": grouping,
            "num_classes": node.NUM_CLASSES,
            "margins": (node.DELTA_VAR, node.DELTA_DIST),
            "loss_weights": _loss_weights(node),
            "min_area": node.MIN_AREA,
            "max_instances": limit if limit >= 0 else None,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self):
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs):
        """Detectron2's contract: see ``GeneralizedRCNN``.

        Args:
            batched_inputs (list[dict]): ``image`` (3, h, w); in training also ``instances``, and
                optionally ``sem_seg`` (h, w) with 255 where pixels do not count.

        Returns:
            dict[str, Tensor] in training: weighted losses. Otherwise list[dict], one an image:
            ``instances`` with ``pred_masks`` (N, height, width) bool, tight ``pred_boxes``,
            ``scores``, ``pred_classes``.
        """
        if not self.training:
            return self.predict(batched_inputs)
        outputs, images = self._network(batched_inputs)
        instance_ids, class_ids = self._targets(batched_inputs, images)
        losses = self._losses(outputs, instance_ids, class_ids)
        if torch.is_grad_enabled():  # not for a validation loss
            self._monitor(outputs, images, instance_ids)
        return {name: losses[name] * weight for name, weight in self.loss_weights.items()}

    @torch.no_grad()
    def predict(self, batched_inputs, true_semantics=False, true_centers=False):
        """Instances, of which the oracle ablation may know a part beforehand.

        Args:
            batched_inputs (list[dict]): ``image``; ``height`` and ``width`` of the output, by
                default the image's; ``instances`` where something is to be known.
            true_semantics (bool): classes and background from the ground truth.
            true_centers (bool): the mean embeddings of the true instances in place of clusters.

        Returns:
            list[dict]: as ``forward``.
        """
        results = []
        oracle = true_semantics or true_centers
        for item, maps, truth in self._maps(batched_inputs, with_truth=oracle):
            if true_semantics:
                targets = semantic_targets(*truth, self.num_classes)
                maps = replace(maps, probabilities=true_probabilities(targets, self.num_classes))
            known = true_grouping(maps, *truth) if true_centers else None
            results.append({"instances": self._instances(self.grouping(maps, known), item)})
        return results

    @torch.no_grad()
    def internals(self, batched_inputs):
        """What the pictures of the insides are drawn from.

        Args:
            batched_inputs (list[dict]): as ``forward``.

        Returns:
            list[dict[str, Tensor]]: one an image, at the size (h, w) of the network input without
            padding: ``embedding`` (E, h, w); ``semantic`` (h, w) int64, NUM_CLASSES is background;
            ``foreground_mask`` (h, w) bool, where it is not; ``foreground`` (h, w), probability of
            not background; ``clusters`` (h, w) int64, 0 is
            none; ``centers`` (K, E); with LEARNED_BANDWIDTH ``seeds`` and ``bandwidth`` (h, w).
        """
        results = []
        for _, maps, _ in self._maps(batched_inputs):
            groups = self.grouping(maps)
            semantic = likeliest(maps.probabilities)
            found = {
                "embedding": maps.embedding_full,
                "semantic": semantic,
                "foreground_mask": semantic != self.num_classes,
                "foreground": 1 - maps.probabilities[-1],
                "clusters": groups.labels,
                "centers": groups.centers,
            }
            if maps.seed is not None:
                size = groups.labels.shape
                cells = torch.stack([maps.seed, maps.bandwidth])[None]
                found["seeds"], found["bandwidth"] = F.interpolate(cells, size)[0]
            results.append(found)
        return results

    def _network(self, batched_inputs):
        images = padded_batch(
            batched_inputs,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            backbone=self.backbone,
            divisibility=self.head.decoder.output_stride,
        )
        levels = read_levels(self.backbone, images.tensor, self.in_features)
        return self.head(levels, images.tensor, images.image_sizes), images

    def _targets(self, batched_inputs, images):
        """(B, H, W) int64 instance ids and class ids of the padded batch."""
        size = images.tensor.shape[-2:]
        return instance_id_maps(*targets_from_inputs(batched_inputs, size, self.device))

    def _losses(self, outputs, instance_ids, class_ids):
        s = self.head.decoder.output_stride
        ids, classes = (x[:, s // 2 :: s, s // 2 :: s] for x in (instance_ids, class_ids))
        targets = semantic_targets(instance_ids, class_ids, self.num_classes)
        losses = {"loss_semantic": semantic_loss(outputs["semantic"], targets)}
        if self.grouping.class_agnostic:
            losses["loss_class"] = instance_class_loss(outputs["semantic"], ids, classes)
            classes = None  # all instances are pushed apart
        if "seed" in outputs:
            return losses | bandwidth_losses(
                outputs["embedding"], outputs["log_bandwidth"], outputs["seed"], ids
            )
        delta_var, delta_dist = self.margins
        return losses | discriminative_loss(
            outputs["embedding"], ids, classes, delta_var=delta_var, delta_dist=delta_dist
        )

    @torch.no_grad()
    def _monitor(self, outputs, images, instance_ids):
        """Clusters of the first image, and distances, into TensorBoard, every few iterations."""
        iteration = current_iteration()
        if iteration is None or iteration % MONITORING_PERIOD:
            return
        s = self.head.decoder.output_stride
        maps = image_maps(outputs, 0, images.image_sizes[0], s)
        ids = instance_ids[0, s // 2 :: s, s // 2 :: s]
        statistics = cluster_statistics(maps, self.grouping.quick(), ids)
        scalars = {f"embedding/{name}": value for name, value in statistics.items()}
        put_scalars(scalars, smoothing_hint=False)

    def _maps(self, batched_inputs, with_truth=False):
        """Inputs, network maps and (instance ids, class ids) or None, image by image."""
        outputs, images = self._network(batched_inputs)
        targets = self._targets(batched_inputs, images) if with_truth else None
        for index, (item, size) in enumerate(zip(batched_inputs, images.image_sizes)):
            maps = image_maps(outputs, index, size, self.head.decoder.output_stride)
            truth = tuple(x[index, : size[0], : size[1]] for x in targets) if with_truth else None
            yield item, maps, truth

    def _instances(self, groups, item):
        size = groups.labels.shape
        best = torch.argsort(groups.scores, descending=True, stable=True)[: self.max_instances]
        masks = groups.labels == (best + 1)[:, None, None]
        output_size = (item.get("height", size[0]), item.get("width", size[1]))
        return instances_from_masks(
            masks, groups.scores[best], groups.classes[best],
            input_size=size, output_size=output_size, min_area=self.min_area,
        )  # fmt: skip


def _loss_weights(node):
    """The weights of the losses that the config switches on, by their names."""
    weights = {"loss_semantic": node.SEMANTIC_WEIGHT}
    if node.CLASS_AGNOSTIC:
        weights["loss_class"] = node.CLASS_WEIGHT
    if node.LEARNED_BANDWIDTH:
        return weights | {
            "loss_mask": node.MASK_WEIGHT,
            "loss_bandwidth": node.BANDWIDTH_WEIGHT,
            "loss_seed": node.SEED_WEIGHT,
        }
    return weights | {
        "loss_variance": node.VARIANCE_WEIGHT,
        "loss_distance": node.DISTANCE_WEIGHT,
        "loss_regularization": node.REGULARIZATION_WEIGHT,
    }
