"""Rows of tools/benchmark.py about recurrent_instance_seg.

Shape shorthand in this module:
    B: images in the batch   T: steps   K: instances   H, W: network input   h, w: grid of the masks
    D: hidden channels of a cell
"""

import copy
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from benchmark_embedding import nuclei_like_image, published_model
from detectron2.structures import BitMasks, Instances
from torch import nn
from torch.nn import functional as F
from ways import load_cfg

from instance_seg_analysis.benchmark.timing import Row
from instance_seg_common.data.synthetic import render, resolve_parameters
from instance_seg_common.engine.optimizer import build_optimizer
from instance_seg_common.engine.predictor import model_input
from instance_seg_common.engine.trainer import build_model_quietly
from recurrent_instance_seg import arch
from recurrent_instance_seg.decoder import RSISDecoder
from recurrent_instance_seg.losses import soft_iou_cost
from recurrent_instance_seg.rollout import unroll

ROOT = Path(__file__).resolve().parent.parent
NODE = "MODEL.RECURRENT_INSTANCE_SEG"
# RSIS's maxseqlen where images are crowded (CVPPP, Cityscapes).
MAX_STEPS = 20
DECODER_STEPS = 10
# Widths of RSIS's released decoder, stride 32 to stride 2. Source: its code.
RELEASED_CHANNELS = (128, 64, 32, 16, 8)
OBJECTS = 5  # of the image of the inference row
SURE = 10.0  # a logit that leaves no doubt


def looped_cost(mask_logits, gt_masks):
    """The cost matrix a step at a time, the step's logits repeated for every instance.

    As ``soft_iou_cost`` without ``valid``: (B, T, H, W) and (B, K, H, W) float to (B, T, K).

    Source: how RSIS's released training loop goes about it, written from the formula.
    """
    truth = gt_masks.flatten(2)
    costs = []
    for t in range(mask_logits.shape[1]):
        mask = torch.sigmoid(mask_logits[:, t, None].flatten(2).repeat(1, truth.shape[1], 1))
        both = (mask * truth).sum(dim=2)
        union = (mask + truth - mask * truth).sum(dim=2)
        costs.append(1 - both / (union + 1e-6))
    return torch.stack(costs, dim=1)


def cost_scene(steps=20, objects=20, size=256, images=2, seed=0):
    """Noisy masks of squares, and the squares.

    Returns:
        tuple[Tensor, Tensor]: (images, steps, size, size) float32 logits and (images, objects,
        size, size) float32 in {0, 1}.
    """
    generator = torch.Generator().manual_seed(seed)
    side = size // 5
    corners = torch.randint(size - side, (images, objects, 2), generator=generator)
    masks = torch.zeros(images, objects, size, size)
    for mask, (top, left) in zip(masks.flatten(0, 1), corners.flatten(0, 1).tolist()):
        mask[top : top + side, left : left + side] = 1
    shown = masks[:, torch.arange(steps) % objects]
    return 4 * shown - 3 + torch.randn(shown.shape, generator=generator), masks


def _build_cost():
    logits, masks = cost_scene()
    return partial(soft_iou_cost, logits, masks), partial(looped_cost, logits, masks)


class WholeCell(nn.Module):
    """A ConvLSTMCell that convolves all of its inputs, the constant one too, at every step.

    Args:
        cell (ConvLSTMCell): with a constant input; its kernels are concatenated.
    """

    def __init__(self, cell):
        super().__init__()
        self.hidden_channels = cell.hidden_channels
        self.padding = cell.step.padding
        kernels = torch.cat([cell.constant.weight, cell.step.weight], dim=1)
        self.weight = nn.Parameter(kernels.detach())
        self.bias = nn.Parameter(cell.step.bias.detach())

    def prepare(self, constant):
        """The constant input as it is."""
        return constant

    def forward(self, constant, step_inputs, state=None):
        """As ``ConvLSTMCell``: the new hidden state and cell, (B, D, H, W) each."""
        if state is None:
            shape = (len(constant), self.hidden_channels, *constant.shape[-2:])
            state = (constant.new_zeros(shape), constant.new_zeros(shape))
        hidden, cell = state
        inputs = torch.cat([constant, *step_inputs, hidden], dim=1)
        gates = F.conv2d(inputs, self.weight, self.bias, padding=self.padding)
        enter, forget, leave, candidate = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class Unrolled(nn.Module):
    """A decoder from features to the end of a fixed number of steps, without gradients.

    Args:
        decoder (nn.Module)
        steps (int)
    """

    def __init__(self, decoder, steps=DECODER_STEPS):
        super().__init__()
        self.decoder, self.steps = decoder.eval(), steps

    @torch.no_grad()
    def forward(self, *features):
        """
        Args:
            *features (Tensor): (B, C, H / stride, W / stride) float, coarsest first.

        Returns:
            Tensor: masks, classes and stop scores, flat.
        """
        stride = 2 * self.decoder.mask_stride
        size = tuple(stride * n for n in features[-1].shape[-2:])
        prepared = self.decoder.prepare(list(features), [size] * len(features[0]), size)
        steps = unroll(self.decoder, prepared, self.steps)
        return torch.cat([steps.masks.flatten(), steps.classes.flatten(), steps.stop.flatten()])


def _strides(levels):
    """Of a pyramid, coarsest first: 32, 16, ..."""
    return [32 >> level for level in range(levels)]


def configured_decoder():
    """(decoder, channels of its features) of configs/methods/recurrent.yaml."""
    cfg, model = plain_model()
    return model.decoder, [cfg.MODEL.FPN.OUT_CHANNELS] * len(model.in_features)


def released_decoder(num_classes=21):
    """(decoder, channels of its features) with the widths of RSIS's released code, five levels.

    The features are narrow as those of the light backbone; the cells are what is compared.

    Args:
        num_classes (int): 21 for Pascal VOC, the released code's end of sequence among them.
    """
    channels = [64] * len(RELEASED_CHANNELS)
    stride = _strides(len(channels))[-1]
    return RSISDecoder(channels, RELEASED_CHANNELS, num_classes, stride), channels


def decoder_pair(make, size=256, images=2, seed=0):
    """A decoder, the same with every cell whole, and features for both.

    Args:
        make (callable): :func:`configured_decoder` or :func:`released_decoder`.
        size (int): of the network input, pixels.
        images (int)
        seed (int): of weights and features.

    Returns:
        tuple[Unrolled, Unrolled, tuple[Tensor]]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder, channels = make()
        features = tuple(
            torch.randn(images, c, size // stride, size // stride)
            for c, stride in zip(channels, _strides(len(channels)))
        )
    whole = copy.deepcopy(decoder)
    whole.cells = nn.ModuleList(WholeCell(cell) for cell in decoder.cells)
    return Unrolled(decoder), Unrolled(whole), features


def _build_decoder(make):
    *modules, features = decoder_pair(make)
    return tuple(partial(module, *features) for module in modules)


def training_batch(count=8, size=128, objects=(2, 6), seed=0):
    """Images of shapes as the stock mapper would hand them over.

    Args:
        count (int): images.
        size (int): pixels; images are square.
        objects (tuple[int, int]): in an image, at least and at most.
        seed (int)

    Returns:
        list[dict]: ``image`` (3, size, size) uint8; ``instances``: ``gt_masks``, ``gt_classes``.
    """
    parameters = resolve_parameters("shapes", image_size=size, objects=objects, seed=seed)
    batch = []
    for index in range(count):
        image, labels, classes = render(parameters, index)
        ids = torch.arange(1, len(classes) + 1)[:, None, None]
        instances = Instances(labels.shape)
        instances.gt_masks = BitMasks(torch.from_numpy(labels.astype("int64")) == ids)
        instances.gt_classes = torch.tensor(classes)
        batch.append({"image": torch.from_numpy(image).permute(2, 0, 1), "instances": instances})
    return batch


def plain_model(**keys):
    """An untrained model of the leaf of the shapes, without the schedules of its training.

    Args:
        **keys: further keys of the node of the config.

    Returns:
        tuple[CfgNode, nn.Module]: on the CPU, the same weights at every call.
    """
    keys = {
        "MAX_STEPS": MAX_STEPS,
        "CURRICULUM_START": 0,
        "CLASS_LOSS_AFTER": 0,
        "STOP_LOSS_AFTER": 0,
        "TEACHER": "",
        "RANDOM_PREFIX": False,
        "CHECKPOINTING": False,
        **keys,
    }
    opts = [part for key, value in keys.items() for part in (f"{NODE}.{key}", value)]
    # Steps of length 0, so that a loss can be compared with that of a step before.
    opts += ["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", 0.0]
    cfg = load_cfg(ROOT / "configs" / "Synthetic" / "recurrent_R18_shapes.yaml", opts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cfg, build_model_quietly(cfg)


def training_step(cfg, model, batch, num_steps=None):
    """One iteration of a trainer: losses, gradients, and a step of the optimiser.

    Args:
        cfg (CfgNode), model (nn.Module): of :func:`plain_model`.
        batch (list[dict])
        num_steps (int or None): T, whatever the batch needs; None: one more than its objects.

    Returns:
        callable: () -> float, the sum of the losses.
    """
    optimizer = build_optimizer(cfg, model.train())

    def as_many(decoder, prepared, needed, *rest):
        return unroll(decoder, prepared, num_steps or needed, *rest)

    def step():
        with mock.patch.object(arch, "unroll", as_many):
            loss = sum(model(batch).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # now, so that gradients count as memory that a step takes
        return float(loss.detach())

    return step


def _build_training():
    cfg, model = plain_model()
    batch = training_batch()
    return training_step(cfg, model, batch), training_step(cfg, model, batch, MAX_STEPS)


def _build_checkpointing():
    batch = training_batch()
    return tuple(
        training_step(*plain_model(CHECKPOINTING=checkpointing), batch, MAX_STEPS)
        for checkpointing in (True, False)
    )


class Script:
    """Forward hook of a decoder that lets it compute all of a step, and then says what it shows.

    Step t < K shows instance t, sure that it is there; step K is sure that there is none left.

    Args:
        masks (Tensor): (K, H, W) bool.
        mask_stride (int): of the decoder's masks.
    """

    def __init__(self, masks, mask_stride):
        inside = F.avg_pool2d(masks[None].float(), mask_stride)[0] > 0.5
        self.logits = SURE * (2 * inside.float() - 1)
        self.step = 0  # the number of the last step, from 1

    def __call__(self, decoder, arguments, output):
        step, state = output
        self.step = 1 if arguments[1] is None else self.step + 1
        exists = self.step <= len(self.logits)
        masks = self.logits[self.step - 1] if exists else torch.full_like(self.logits[0], -SURE)
        stop = torch.full_like(step.stop, SURE if exists else -SURE)
        return step._replace(masks=masks.expand_as(step.masks), stop=stop), state


def scripted_model(masks):
    """An untrained model that finds these objects, a step each, and then stops.

    Args:
        masks (Tensor): (K, H, W) bool.

    Returns:
        tuple[nn.Module, Script]: in evaluation mode.
    """
    _, model = plain_model(NUM_CLASSES=1)
    script = Script(masks, model.decoder.mask_stride)
    model.decoder.register_forward_hook(script)
    return model.eval(), script


def _build_inference():
    cfg, reference = published_model("Nuclei/mask_rcnn_R18.yaml", "mask_rcnn_R18_dsb2018.pth")
    item = model_input(cfg, nuclei_like_image(size=256, count=OBJECTS))
    with torch.no_grad():
        masks = reference([item])[0]["instances"].pred_masks
    if not OBJECTS <= len(masks) <= OBJECTS + 1:
        raise ValueError(f"Mask R-CNN finds {len(masks)} of the {OBJECTS} objects.")
    # Both give the same instances out.
    ours, script = scripted_model(masks[:OBJECTS])
    found = len(ours([item])[0]["instances"])
    if (found, script.step) != (OBJECTS, OBJECTS + 1):
        raise ValueError(f"The sequence has {script.step} steps and {found} instances.")
    return partial(ours, [item]), torch.no_grad()(partial(reference, [item]))


def recurrent_loss_rows():
    """Rows of recurrent_instance_seg.losses."""
    return [
        Row(
            "matching_cost",
            "1 - soft IoU of 20 steps and 20 objects, 2x256x256",
            "step after step, its logits repeated for each object",
            25,
            _build_cost,
            tolerance=1e-5,
        )
    ]


def recurrent_decoder_rows():
    """Rows of recurrent_instance_seg.decoder."""
    reference = "one convolution of all inputs at every step"
    what = f"RSIS decoder, {DECODER_STEPS} steps, 2x256x256,"
    return [
        Row(
            "decoder",
            f"{what} widths of recurrent_R18",
            reference,
            1.1,
            partial(_build_decoder, configured_decoder),
            tolerance=1e-5,
        ),
        Row(
            "decoder_released",
            f"{what} released widths",
            reference,
            1.1,
            partial(_build_decoder, released_decoder),
            tolerance=1e-5,
        ),
    ]


def recurrent_training_rows():
    """Rows of a training step."""
    return [
        Row(
            "training_step",
            "training step, 8x128x128, 2 to 6 objects: 7 steps",
            f"always {MAX_STEPS} steps",
            1.8,
            _build_training,
            tolerance=1e-5,
            max_repeats=5,  # the reference takes seconds
        ),
        Row(
            "checkpointing",
            f"training step, 8x128x128, {MAX_STEPS} steps, CHECKPOINTING",
            "without",
            0.5,
            _build_checkpointing,
            tolerance=1e-5,
            required_memory=1.2,
            max_repeats=5,
        ),
    ]


def recurrent_inference_rows():
    """Rows of the whole model."""
    return [
        Row(
            "inference_recurrent",
            f"image to instances, 256x256, ResNet-18-FPN, {OBJECTS} objects: {OBJECTS + 1} steps",
            "Mask R-CNN, same backbone and image",
            1,
            _build_inference,
            tolerance=None,
        )
    ]
