"""The meta-architecture: backbone, recurrent decoder, matching and losses wired together.

Shape shorthand in this module:
    B: images in the batch   T: steps   H, W: padded network input   h, w: grid of the masks
"""

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn
from torch.nn import functional as F

from instance_seg_common.masks import instances_from_masks, targets_from_inputs
from instance_seg_common.meta_arch import padded_batch, put_scalars, read_levels

from .attention import points_of
from .config import check_node
from .decoder import RISDecoder, RSISDecoder, norm_of
from .guide import guide_loss, vote_loss
from .inference import score_instances, without_overlap
from .losses import sequence_losses
from .rollout import Teacher, unroll, unroll_until_stop
from .schedule import Schedule
from .targets import hide_found, order_of, pad_targets


@META_ARCH_REGISTRY.register()
class RecurrentInstanceSeg(nn.Module):
    """Instance segmentation by a recurrent decoder: one object a step, until it says stop.

    Source: Salvador et al. 2018 (RSIS); Romera-Paredes & Torr 2016 (RIS).

    Args:
        backbone (Backbone): with ``in_features`` among its outputs.
        in_features (list[str]): levels to read, coarsest first.
        detail (nn.Module or None): from the image to one more, finest level.
        decoder (nn.Module): of :mod:`decoder`.
        schedule (Schedule)
        num_classes (int): without background.
        loss_weights (dict[str, float]): by the loss's name; a loss without a weight is left out.
        loss_options (dict): ``stride`` of the grid on which masks are compared, ``balanced`` of the
            stop loss, ``class_after`` and ``stop_after``, iterations.
        teacher (tuple[str, int]): rule and the iterations that it lasts.
        random_prefix (bool): as long, count a random share of the objects as found before.
        checkpointing (bool): compute steps again in the backward pass.
        max_steps (int): of a sequence.
        inference (dict): ``stop_threshold``, ``mask_threshold``, ``min_area``, ``overlap``,
            ``score``, ``all_classes``, ``max_instances`` (None: all).
        pixel_mean, pixel_std (list[float]): by channel, in the input's order and range.
    """

    @configurable
    def __init__(
        self, *, backbone, in_features, detail, decoder, schedule, num_classes, loss_weights,
        loss_options, teacher, random_prefix,
        checkpointing, max_steps, inference, pixel_mean, pixel_std,
    ):  # fmt: skip
        super().__init__()
        self.backbone = backbone
        self.in_features = in_features
        self.detail = detail
        self.decoder = decoder
        self.schedule = schedule
        self.num_classes = num_classes
        self.loss_weights = loss_weights
        self.loss_options = loss_options
        self.teacher = teacher
        self.random_prefix = random_prefix
        self.checkpointing = checkpointing
        self.max_steps = max_steps
        self.inference = inference
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        # Few channels on large maps: convolutions are faster where these lie together.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg):
        """The constructor's arguments from ``MODEL.RECURRENT_INSTANCE_SEG``."""
        node = cfg.MODEL.RECURRENT_INSTANCE_SEG
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        check_node(node, shapes)
        in_features = sorted(node.IN_FEATURES, key=lambda name: -shapes[name].stride)
        levels = [shapes[name] for name in in_features]
        limit = cfg.TEST.DETECTIONS_PER_IMAGE
        return {
            "backbone": backbone,
            "in_features": in_features,
            "detail": _detail(node) if node.DETAIL else None,
            "decoder": _decoder(node, levels),
            "schedule": Schedule(
                node.MAX_STEPS, node.CURRICULUM_START, node.CURRICULUM_LOSS, node.PATIENCE,
                node.CURRICULUM_MIN_ITERATIONS,
            ),
            "num_classes": node.NUM_CLASSES,
            "loss_weights": _loss_weights(node),
            "loss_options": {
                "stride": node.LOSS_STRIDE,
                "balanced": node.STOP_BALANCED,
                "class_after": node.CLASS_LOSS_AFTER,
                "stop_after": node.STOP_LOSS_AFTER,
            },
            "teacher": (node.TEACHER, node.TEACHER_UNTIL),
            "random_prefix": node.RANDOM_PREFIX,
            "checkpointing": node.CHECKPOINTING,
            "max_steps": node.MAX_STEPS,
            "inference": {
                "stop_threshold": node.STOP_THRESHOLD,
                "mask_threshold": node.MASK_THRESHOLD,
                "min_area": node.MIN_AREA,
                "overlap": node.OVERLAP,
                "score": node.SCORE,
                "all_classes": node.ALL_CLASSES,
                "max_instances": limit if limit >= 0 else None,
            },
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }  # fmt: skip

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
        prepared, images = self._network(batched_inputs)
        targets = self._targets(batched_inputs, images)
        # A validation loss comes without gradients: it asks for all objects and teaches nothing.
        learning = torch.is_grad_enabled()
        rule, until = self.teacher
        taught = learning and int(self.schedule.iteration) < until
        # Short sequences end with the hints that make up for them.
        capped = taught or (learning and not (rule or self.random_prefix))
        limit = self.schedule.limit() if capped else self.max_steps
        everything, memory = targets, None
        if taught and self.random_prefix:
            targets, found = hide_found(targets, torch.rand(len(targets.counts)))
            memory = F.avg_pool2d(found[:, None], self.decoder.mask_stride)[:, 0]
        # The step after the last object is where stopping is learned.
        num_steps = max(min(n + 1, limit) for n in targets.counts)
        teacher = self._teacher(targets, rule) if taught and rule else None
        steps = unroll(self.decoder, prepared, num_steps, memory, teacher, self.checkpointing)
        losses = sequence_losses(
            steps, targets, self.loss_weights, self.loss_options["stride"],
            self.loss_options["balanced"], teacher and teacher.matches(),
        )  # fmt: skip
        guide = self.decoder.guide if "loss_guide" in self.loss_weights else None
        if guide is not None:
            losses["loss_guide"] = guide_loss(prepared.guide, everything, guide.stride, guide.unit)
        if "loss_vote" in self.loss_weights:
            losses["loss_vote"] = vote_loss(prepared.guide, everything, guide.stride)
        if learning:
            self._advance(losses, targets, num_steps)
        weights = self._current_weights()
        return {name: losses[name] * weight for name, weight in weights.items()}

    @torch.no_grad()
    def predict(self, batched_inputs):
        """Instances; arguments and result as ``forward`` in evaluation."""
        results = []
        for item, sequence in zip(batched_inputs, self.internals(batched_inputs)):
            results.append({"instances": self._instances(sequence, item)})
        return results

    @torch.no_grad()
    def internals(self, batched_inputs):
        """What the pictures of the insides are drawn from: the sequence.

        Args:
            batched_inputs (list[dict]): as ``forward``.

        Returns:
            list[dict[str, Tensor]]: one an image: ``masks`` (T, h, w) float in [0, 1] at the size
            of the network input without padding; ``class_probabilities`` (T, C); ``objectness``
            (T,), in [0, 1]; ``count`` () int64, how many steps come before the end of the
            sequence. The step at ``count``, if there is one, is where the model has said stop.
            With attention also ``points`` (T, 2) float, x and y at which the steps look, in pixels
            of the network input.
        """
        prepared, images = self._network(batched_inputs)
        steps, counts = unroll_until_stop(
            self.decoder, prepared, self.max_steps, self.inference["stop_threshold"]
        )
        size = images.tensor.shape[-2:]
        results = []
        for index, ((height, width), count) in enumerate(zip(images.image_sizes, counts)):
            length = min(count + 1, steps.stop.shape[1])
            logits = steps.masks[index, :length].float()[None]
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
            found = {
                "masks": torch.sigmoid(logits[:, :height, :width]),
                "class_probabilities": steps.classes[index, :length].float().softmax(dim=1),
                "objectness": torch.sigmoid(steps.stop[index, :length].float()),
                "count": torch.tensor(count),
            }
            if steps.attention is not None:
                found["points"] = points_of(steps.attention[index, :length], size[1])
            results.append(found)
        return results

    def _network(self, batched_inputs):
        # Every level fills the padded input exactly, so that a cell is a whole number of pixels.
        coarsest = self.backbone.output_shape()[self.in_features[0]].stride
        images = padded_batch(
            batched_inputs,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            backbone=self.backbone,
            divisibility=max(coarsest, 32),
        )
        levels = read_levels(self.backbone, images.tensor, self.in_features)
        if self.detail is not None:
            levels.append(self.detail(images.tensor))
        size = tuple(images.tensor.shape[-2:])
        return self.decoder.prepare(levels, images.image_sizes, size), images

    def _targets(self, batched_inputs, images):
        size = images.tensor.shape[-2:]
        masks, classes, valid = targets_from_inputs(batched_inputs, size, self.device)
        # What the losses never see, no hint, order or box of the instances may show either.
        masks = [m & v for m, v in zip(masks, valid)]
        return pad_targets(masks, classes, valid, self.num_classes)

    def _teacher(self, targets, rule):
        coarse = targets.at(self.decoder.mask_stride)
        order = None if rule == "greedy" else order_of(targets, rule)
        return Teacher(coarse.masks, coarse.valid, targets.counts, order)

    def _current_weights(self):
        options, schedule = self.loss_options, self.schedule
        waiting = {
            "loss_class": not schedule.started(options["class_after"]),
            "loss_stop": not schedule.started(options["stop_after"]),
        }
        return {name: w * (not waiting.get(name, False)) for name, w in self.loss_weights.items()}

    def _advance(self, losses, targets, num_steps):
        loss = losses["loss_mask"] if any(targets.counts) else self.schedule.running
        self.schedule.advance(loss)
        put_scalars(
            {
                "recurrent/steps": num_steps,
                "recurrent/objects_asked_for": self.schedule.limit(),
                "recurrent/soft_iou": 1 - float(loss.detach()),
            }
        )

    def _instances(self, sequence, item):
        options, count = self.inference, int(sequence["count"])
        masks = without_overlap(
            sequence["masks"][:count], options["overlap"], options["mask_threshold"]
        )
        step, scores, classes = score_instances(
            masks, sequence["class_probabilities"][:count], sequence["objectness"][:count],
            options["score"], options["all_classes"],
        )  # fmt: skip
        best = torch.argsort(scores, descending=True, stable=True)[: options["max_instances"]]
        size = tuple(masks.shape[-2:])
        return instances_from_masks(
            masks[step[best]], scores[best], classes[best], input_size=size,
            output_size=(item.get("height", size[0]), item.get("width", size[1])),
            threshold=options["mask_threshold"], min_area=options["min_area"],
        )  # fmt: skip


def _detail(node):
    """One convolution from the image to the finest level, in place of the first of a ResNet, whose
    result Detectron2 gives only after pooling."""
    channels = node.HIDDEN_CHANNELS[-1]
    return Conv2d(
        3, channels, kernel_size=7, stride=2, padding=3, bias=not node.NORM,
        norm=norm_of(node.NORM, channels), activation=F.relu,
    )  # fmt: skip


def _decoder(node, levels):
    """The decoder of the config for features of these ShapeSpecs, coarsest first."""
    channels = [level.channels for level in levels]
    stride = levels[-1].stride
    shared = {
        "hidden_channels": node.HIDDEN_CHANNELS,
        "num_classes": node.NUM_CLASSES,
        "norm": node.NORM,
        "kernel_size": node.KERNEL_SIZE,
        "stop_bias": node.STOP_BIAS,
        "mask_pooling": node.MASK_POOLING,
        "guide_unit": node.GUIDE_UNIT if node.GUIDE_WEIGHT > 0 else None,
        "votes": node.VOTE_WEIGHT > 0,
    }
    if node.DECODER == "ris":
        return RISDecoder(
            channels[0], stride=stride, gate_bias=node.FORGET_BIAS,
            inhibition_bias=node.INHIBITION_BIAS, inhibition_gain=node.INHIBITION_GAIN, **shared,
        )  # fmt: skip
    if node.DETAIL:
        channels, stride = [*channels, node.HIDDEN_CHANNELS[-1]], stride // 2
    return RSISDecoder(
        channels, stride=stride, forget_bias=node.FORGET_BIAS,
        inhibition_bias=node.INHIBITION_BIAS if node.INHIBITION else None,
        return_inhibition=node.RETURN_INHIBITION, inhibition_gain=node.INHIBITION_GAIN,
        feedback=node.FEEDBACK,
        coordinates=node.COORDINATES, coarse_masks=node.COARSE_WEIGHT > 0,
        attention=node.ATTENTION,
        box_head=node.BOX_HEAD and node.BOX_WEIGHT > 0, **shared,
    )  # fmt: skip


def _loss_weights(node):
    """The weights of the losses that the config switches on, by their names."""
    weights = {
        "loss_mask": node.MASK_WEIGHT,
        "loss_class": node.CLASS_WEIGHT,
        "loss_stop": node.STOP_WEIGHT,
    }
    optional = {
        "loss_bce": node.BCE_WEIGHT,
        "loss_dice": node.DICE_WEIGHT,
        "loss_position": node.POSITION_WEIGHT,
        "loss_coarse": node.COARSE_WEIGHT if node.DECODER == "rsis" else 0,
        "loss_guide": node.GUIDE_WEIGHT,
        "loss_vote": node.VOTE_WEIGHT,
        "loss_box": node.BOX_WEIGHT if node.BOX_HEAD and node.DECODER == "rsis" else 0,
    }
    return weights | {name: weight for name, weight in optional.items() if weight}
