"""Rows of the benchmark about recurrent_instance_seg."""

from functools import partial

import torch

from instance_seg_common.engine.predictor import model_input
from recurrent_instance_seg.losses import soft_iou_cost

from .decoders import (
    DECODER_STEPS,
    MakeDecoder,
    configured_decoder,
    decoder_pair,
    released_decoder,
)
from .inputs import cost_inputs, nuclei_like_image, training_batch
from .models import MAX_STEPS, plain_model, published_model, scripted_model, training_step
from .references import looped_cost
from .timing import Function, Row

OBJECTS = 5  # of the image of the inference row


def _build_cost() -> tuple[Function, Function]:
    logits, masks = cost_inputs()
    return partial(soft_iou_cost, logits, masks), partial(looped_cost, logits, masks)


def recurrent_loss_rows() -> list[Row]:
    """Rows of the losses."""
    return [
        Row(
            name="matching_cost",
            what="1 - soft IoU of 20 steps and 20 objects, 2x256x256",
            reference="step after step, its logits repeated for each object",
            required=25,
            build=_build_cost,
            tolerance=1e-5,
        )
    ]


def _build_decoder(make: MakeDecoder) -> tuple[Function, Function]:
    ours, reference, features = decoder_pair(make)
    return partial(ours, *features), partial(reference, *features)


def recurrent_decoder_rows() -> list[Row]:
    """Rows of the decoders."""
    reference = "one convolution of all inputs at every step"
    size = f"{DECODER_STEPS} steps, 2x256x256"
    return [
        Row(
            name="decoder",
            what=f"decoder of recurrent_R18, {size}",
            reference=reference,
            required=1.1,
            build=partial(_build_decoder, configured_decoder),
            tolerance=1e-5,
        ),
        Row(
            name="decoder_released",
            what=f"RSIS decoder, {size}, released widths",
            reference=reference,
            required=1.1,
            build=partial(_build_decoder, released_decoder),
            tolerance=1e-5,
        ),
    ]


def _build_training() -> tuple[Function, Function]:
    cfg, model = plain_model()
    batch = training_batch()
    ours = training_step(cfg, model, batch)
    return ours, training_step(cfg, model, batch, num_steps=MAX_STEPS)


def _build_checkpointing() -> tuple[Function, Function]:
    batch = training_batch()
    ours, reference = (
        training_step(*plain_model(CHECKPOINTING=checkpointing), batch, num_steps=MAX_STEPS)
        for checkpointing in (True, False)
    )
    return ours, reference


def recurrent_training_rows() -> list[Row]:
    """Rows of a training step."""
    return [
        Row(
            name="training_step",
            what="training step, 8x128x128, 2 to 6 objects: 7 steps",
            reference=f"always {MAX_STEPS} steps",
            required=1.8,
            build=_build_training,
            tolerance=1e-5,
            max_repeats=5,  # the reference takes seconds
        ),
        Row(
            name="checkpointing",
            what=f"training step, 8x128x128, {MAX_STEPS} steps, CHECKPOINTING",
            reference="without",
            required=0.5,
            build=_build_checkpointing,
            tolerance=1e-5,
            required_memory=1.2,
            max_repeats=5,
        ),
    ]


def build_inference() -> tuple[Function, Function]:
    """The model that gives the instances of Mask R-CNN out, a step each; and Mask R-CNN.

    Raises:
        ValueError: either does not do so.
    """
    cfg, reference = published_model("mask_rcnn_R18_dsb2018")
    item = model_input(cfg, nuclei_like_image(size=256, count=OBJECTS))
    with torch.no_grad():
        masks = reference([item])[0]["instances"].pred_masks
    if not OBJECTS <= len(masks) <= OBJECTS + 1:
        raise ValueError(f"Mask R-CNN finds {len(masks)} of the {OBJECTS} objects.")
    # Both give the same instances out.
    ours, script = scripted_model(masks[:OBJECTS])
    count = len(ours([item])[0]["instances"])
    if (count, script.step) != (OBJECTS, OBJECTS + 1):
        raise ValueError(f"The sequence has {script.step} steps and {count} instances.")
    return partial(ours, [item]), torch.no_grad()(partial(reference, [item]))


def recurrent_inference_rows() -> list[Row]:
    """Rows of the whole model."""
    return [
        Row(
            name="inference_recurrent",
            what=f"image to instances, 256x256, ResNet-18-FPN, {OBJECTS} objects: "
            f"{OBJECTS + 1} steps",
            reference="Mask R-CNN, same backbone and image",
            required=1,
            build=build_inference,
            tolerance=None,
        )
    ]
