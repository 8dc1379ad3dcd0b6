"""Networks of a few thousand parameters, and a decoder that follows a script."""

import torch
from detectron2.config import get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from tiny_embedding import TinyPyramid
from torch.nn import functional as F

from instance_seg_common.masks import targets_from_instances
from recurrent_instance_seg import add_recurrent_instance_seg_config
from recurrent_instance_seg.decoders import Decoder, Prepared, Step

TINY = {
    "NUM_CLASSES": 2,
    "IN_FEATURES": ["p2", "p3"],
    "HIDDEN_CHANNELS": [6, 4],
    "MAX_STEPS": 3,
}
GUIDED = {"DECODER": "guided"}
RIS = {"DECODER": "ris", "IN_FEATURES": ["p2"], "RIS.INHIBITION_BIAS": 5.0}
RSIS_DETAIL = {"RSIS.DETAIL": True, "HIDDEN_CHANNELS": [6, 4, 4]}
# What differs during training only: neither the validation loss nor a prediction knows of it.
TEACHING = {**GUIDED, "CURRICULUM_START": 1, "GUIDED.TEACHER_UNTIL": 1000}
# Everything beside the decoder that changes the network or its losses.
EVERY_PART = {"NORM": "BN", "LOSS_STRIDE": 2, "CHECKPOINTING": True, "OVERLAP": "first"}


@BACKBONE_REGISTRY.register()
def build_tiny_pyramid(cfg, input_shape):
    """Two levels, p2 and p3, of 8 channels and stride 4 and 8."""
    return TinyPyramid()


def recurrent_cfg(backbone="build_tiny_pyramid", **options):
    """A config with the plugin's two lines, and nothing else of this project."""
    cfg = get_cfg()
    add_recurrent_instance_seg_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "RecurrentInstanceSeg"
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEVICE = "cpu"
    node = "MODEL.RECURRENT_INSTANCE_SEG"
    pairs = [(f"{node}.{key}", value) for key, value in {**TINY, **options}.items()]
    cfg.merge_from_list([part for pair in pairs for part in pair])
    return cfg


def resnet_cfg(**options):
    """ResNet-18 without a pyramid, which asks for no divisibility of its input."""
    options = {
        "IN_FEATURES": ["res2", "res3", "res4", "res5"], "HIDDEN_CHANNELS": [8, 8, 8, 8], **options
    }  # fmt: skip
    cfg = recurrent_cfg("build_resnet_backbone", **options)
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "GN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return cfg


def build_tiny(stop_bias=None, **options):
    """The tiny model in training mode, its weights always the same for the same options.

    Args:
        stop_bias (float or None): far above 0 no sequence ends, far below 0 each does at once;
            None: the decoder's own.
        **options: keys of its node of the config.
    """
    torch.manual_seed(0)
    model = build_model(recurrent_cfg(**options)).train()
    if stop_bias is not None:
        torch.nn.init.constant_(model.decoder.stop.bias, stop_bias)
    return model


def calls_of(module):
    """A list that grows with every call of the module."""
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


class ScriptedDecoder(Decoder):
    """Shows the ground truth, one instance a step, and stops after the last.

    Args:
        inputs (list[dict]): the batch.
        num_classes (int): of the class logits.
        errors (dict[int, str]): steps at which "mask", "class" or "stop" are the contrary.
    """

    def __init__(self, inputs, num_classes=2, errors=None):
        super().__init__(num_classes, mask_stride=2)
        self.inputs = inputs
        self.errors = errors or {}
        self.calls = calls_of(self)
        self.memories = []  # what it was told at each call

    def prepare(self, features, image_sizes, padded_size):
        instances = [x["instances"] for x in self.inputs]
        self.masks, self.classes, _ = targets_from_instances(instances, padded_size)
        self.empty = torch.zeros(padded_size)
        return Prepared([], [], None)

    def forward(self, prepared, state=None, memory=None):
        t = state or 0
        self.memories.append(memory)
        error = self.errors.get(t)
        masks, classes, stop = [], [], []
        for image_masks, image_classes in zip(self.masks, self.classes):
            there = t < len(image_masks)
            mask = image_masks[t] if there else self.empty
            mask = F.avg_pool2d(mask[None].float(), 2)[0] * (error != "mask")
            label = int(image_classes[t]) if there else 0
            label = (label + (error == "class")) % self.num_classes
            masks.append(40 * mask - 20)
            classes.append(20.0 * F.one_hot(torch.tensor(label), self.num_classes))
            stop.append(torch.tensor(20.0 if there != (error == "stop") else -20.0))
        return Step(torch.stack(masks), torch.stack(classes), torch.stack(stop)), t + 1


def scripted(inputs, errors=None, **options):
    """The tiny model with a :class:`ScriptedDecoder` in the place of its own."""
    model = build_tiny(**options)
    model.decoder = ScriptedDecoder(inputs, model.decoder.num_classes, errors)
    return model
