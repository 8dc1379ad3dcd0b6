"""Models that the benchmark measures: published ones, and untrained ones without schedules."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.data.synthetic import render, resolve_parameters
from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.optimizer import build_optimizer
from instance_seg_common.engine.predictor import build_predictor, model_input
from instance_seg_common.engine.setup import load_cfg, load_model_cfg
from recurrent_instance_seg.arch import RecurrentInstanceSeg

from .references import loss_of_steps

ROOT = Path(__file__).resolve().parents[4]  # of the checkout
# RSIS's maxseqlen where images are crowded (CVPPP, Cityscapes).
MAX_STEPS = 20
# As large as the sticks of the training set may be, as a fraction of the image, and crowded: the
# network, to which the image goes at its training size, has learned 4 to 12 in an image.
CROWDED_STICKS = {
    "image_size": 256,
    "objects": (18, 18),
    "seed": 18,
    "size": (0.5, 0.6),
    "width": (0.046, 0.046),
}
SURE = 10.0  # a logit that leaves no doubt


def published_model(name: str) -> "tuple[CfgNode, nn.Module]":
    """A model of weights/ on the CPU, in evaluation mode.

    Args:
        name (str): without folder and suffix.
    """
    cfg = load_model_cfg(str(ROOT / "weights" / name), ["MODEL.DEVICE", "cpu"])
    return cfg, build_predictor(cfg)


class TrainedEmbeddings(NamedTuple):
    """embeddings (P, E) float32 of the pixels of objects; labels (P,) int64, the true ones 0..K-1;
    bandwidth, and min_size in pixels, as the model has them for clustering."""

    embeddings: Tensor
    labels: Tensor
    bandwidth: float
    min_size: int


def trained_embeddings() -> TrainedEmbeddings:
    """What the published model of the sticks makes X

    The network sees the image at its test size, 128; the embedding is enlarged to the image's 256.
    """
    image, labels, _ = render(resolve_parameters("sticks", **CROWDED_STICKS), 0)
    cfg, model = published_model("embedding_R18_sticks")
    seen = model_input(cfg, image)
    embedding = model.internals([seen])[0]["embedding"][None]
    embedding = F.interpolate(embedding, labels.shape, mode="bilinear", align_corners=False)[0]
    labels = torch.from_numpy(labels.astype(np.int64))
    node = cfg.MODEL.EMBEDDING_INSTANCE_SEG
    # MIN_CLUSTER_SIZE counts cells of the network's grid; one is 4 x 4 pixels of the image.
    cell = node.OUTPUT_STRIDE * len(image) / seen["image"].shape[1]
    return TrainedEmbeddings(
        embedding[:, labels > 0].T.contiguous(),
        labels[labels > 0] - 1,
        bandwidth=node.BANDWIDTH,
        min_size=round(node.MIN_CLUSTER_SIZE * cell**2),
    )


def plain_model(**keys: Any) -> "tuple[CfgNode, RecurrentInstanceSeg]":
    """An untrained recurrent model for the shapes, without the schedules of its training.

    Args:
        **keys: further keys of the node of the config.

    Returns:
        tuple[CfgNode, RecurrentInstanceSeg]: on the CPU, the same weights at every call.
    """
    settings = {
        "MAX_STEPS": MAX_STEPS,
        "CURRICULUM_START": 0,
        "CLASS_LOSS_AFTER": 0,
        "STOP_LOSS_AFTER": 0,
        "GUIDED.TEACHER_UNTIL": 0,
        "CHECKPOINTING": False,
        **keys,
    }
    node = "MODEL.RECURRENT_INSTANCE_SEG"
    opts = [part for key, value in settings.items() for part in (f"{node}.{key}", value)]
    # Steps of length 0, so that a loss can be compared with that of a step before.
    opts += ["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", 0.0]
    cfg = load_cfg(str(ROOT / "configs" / "Synthetic" / "recurrent_R18_shapes.yaml"), opts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cfg, build_model_quietly(cfg)


class Script:
    """Forward hook of a decoder that lets it compute all of a step, and then says what it shows.

    Step t < K shows instance t, sure that it is there; step K is sure that there is none left.

    Args:
        masks (Tensor): (K, H, W) bool.
        mask_stride (int): of the decoder's masks.
    """

    def __init__(self, masks: Tensor, mask_stride: int) -> None:
        inside = F.avg_pool2d(masks[None].float(), mask_stride)[0] > 0.5
        self.logits = SURE * (2 * inside.float() - 1)
        self.step = 0  # the number of the last step, from 1

    def __call__(self, decoder: nn.Module, arguments: Any, output: Any) -> Any:
        step, state = output
        self.step = 1 if arguments[1] is None else self.step + 1
        exists = self.step <= len(self.logits)
        masks = self.logits[self.step - 1] if exists else torch.full_like(self.logits[0], -SURE)
        stop = torch.full_like(step.stop, SURE if exists else -SURE)
        return step._replace(masks=masks.expand_as(step.masks), stop=stop), state


def scripted_model(masks: Tensor) -> "tuple[RecurrentInstanceSeg, Script]":
    """An untrained model that finds these objects, a step each, and then stops.

    Args:
        masks (Tensor): (K, H, W) bool.

    Returns:
        tuple[RecurrentInstanceSeg, Script]: in evaluation mode.
    """
    _, model = plain_model(NUM_CLASSES=1)
    script = Script(masks, model.decoder.mask_stride)
    model.decoder.register_forward_hook(script)
    return model.eval(), script


def training_step(
    cfg: CfgNode,
    model: RecurrentInstanceSeg,
    batch: Sequence[Mapping[str, Any]],
    *,
    num_steps: Optional[int] = None,
) -> Callable[[], float]:
    """One iteration of a trainer: losses, gradients, and a step of the optimiser.

    Args:
        cfg (CfgNode), model (RecurrentInstanceSeg): of ``models.plain_model``.
        batch (list[dict])
        num_steps (int or None): of the sequence, whatever the batch needs; None: one more than its
            objects, as the model decides.

    Returns:
        callable: () -> float, the sum of the losses.
    """
    optimizer = build_optimizer(cfg, model.train())

    def step() -> float:
        if num_steps is None:
            loss = sum(model(batch).values())
        else:
            loss = loss_of_steps(model, batch, num_steps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # now, so that gradients count as memory that a step takes
        return float(loss.detach())

    return step
