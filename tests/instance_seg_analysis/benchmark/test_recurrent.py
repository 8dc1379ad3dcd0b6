"""That rows and figures of the recurrent model compute what they claim; no time is asserted."""

from dataclasses import replace

import pytest
import torch
from detectron2.structures import Instances
from torch import nn

from instance_seg_analysis.benchmark import (
    decoders,
    inputs,
    models,
    recurrent_cost,
    recurrent_rows,
    references,
    rows,
)
from instance_seg_analysis.benchmark.models import training_step
from instance_seg_analysis.benchmark.timing import run_rows
from instance_seg_common.engine.setup import load_cfg
from recurrent_instance_seg.losses import soft_iou_cost

DECODERS = [decoders.configured_decoder, decoders.released_decoder]


def test_rows_have_names_of_their_own():
    names = [row.name for row in rows.all_rows()]
    assert len(set(names)) == len(names)
    assert {"matching_cost", "decoder", "training_step", "inference_recurrent"} <= set(names)


def test_cost_row_is_the_size_it_says_and_agrees():
    logits, masks = inputs.cost_inputs()
    assert logits.shape == masks.shape == (2, 20, 256, 256)
    assert (masks.flatten(2).sum(2) == 51**2).all()
    logits, masks = inputs.cost_inputs(steps=3, objects=2, size=10)
    looped = references.looped_cost(logits, masks)
    torch.testing.assert_close(looped, soft_iou_cost(logits, masks))
    p, y = torch.sigmoid(logits[1, 2].double()), masks[1, 0].double()
    both = sum(float(a * b) for a, b in zip(p.flatten(), y.flatten()))
    expected = 1 - both / (float(p.sum() + y.sum()) - both)
    assert float(looped[1, 2, 0]) == pytest.approx(expected, abs=1e-5)
    # A step shows one of the objects, and fits no other as well.
    assert looped[0, 0, 0] < looped[0, 0, 1]


@pytest.mark.parametrize("make", DECODERS)
def test_decoder_rows_agree_and_save_the_constant_part_of_all_steps_but_one(make):
    ours, whole, features = decoders.decoder_pair(make, size=64, images=1)
    torch.testing.assert_close(ours(*features), whole(*features), rtol=0, atol=1e-5)
    saved = 0
    for cell, x in zip(ours.decoder.cells, features):
        saved += cell.constant.weight.numel() * x.shape[-2] * x.shape[-1]
    counts = [recurrent_cost.multiply_adds(module, features) for module in (ours, whole)]
    assert counts[1] - counts[0] == saved * (decoders.DECODER_STEPS - 1)


def test_decoders_are_those_of_the_config_and_of_the_release(repository_root):
    decoder, channels = decoders.configured_decoder()
    cfg = load_cfg(str(repository_root / "configs/Synthetic/recurrent_R18_shapes.yaml"))
    widths = cfg.MODEL.RECURRENT_INSTANCE_SEG.HIDDEN_CHANNELS
    assert [cell.hidden_channels for cell in decoder.cells] == widths
    assert channels == [cfg.MODEL.FPN.OUT_CHANNELS] * len(widths)
    decoder, _ = decoders.released_decoder(num_classes=21)
    projections = sum(p.numel() for p in decoder.project.parameters())
    # Counted in the released model with 21 classes.
    assert sum(p.numel() for p in decoder.parameters()) - projections == 2_165_391


def test_multiply_adds_and_their_table():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    assert recurrent_cost.multiply_adds(conv, (torch.zeros(2, 3, 8, 8),)) == 2 * 5 * 27 * 64
    small = {"small": decoders.configured_decoder}
    (figure,) = recurrent_cost.decoder_figures(small, size=32, images=1)
    assert figure.ratio == figure.reference / figure.ours > 1
    table = recurrent_cost.decoder_table([replace(figure, ratio=r) for r in (1.4, 1.5)])
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == ["NO", "yes"]


def test_batch_of_the_training_rows():
    batch = inputs.training_batch()
    counts = [len(item["instances"]) for item in batch]
    assert len(batch) == 8 and min(counts) == 2 and max(counts) == 6
    for item in batch:
        masks = item["instances"].gt_masks.tensor
        assert item["image"].shape == (3, 128, 128) and item["image"].dtype == torch.uint8
        assert (masks.flatten(1).sum(1) > 0).all() and masks.sum(0).max() == 1


def steps_made(model):
    """The number of steps, which grows with every call of the model's decoder."""
    made = [0]
    model.decoder.register_forward_hook(lambda *_: made.__setitem__(0, made[0] + 1))
    return made


def test_training_steps_differ_in_length_alone():
    batch = inputs.training_batch(count=2, size=64, objects=(2, 3))
    longest = max(len(item["instances"]) for item in batch)
    losses, steps = [], []
    for length, keys in [(None, {}), (9, {}), (9, {"CHECKPOINTING": True})]:
        cfg, model = models.plain_model(**keys)
        made = steps_made(model)
        losses.append(training_step(cfg, model, batch, num_steps=length)())
        steps += made
    assert steps == [longest + 1, 9, 9]
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=1e-5) and losses[0] > 0


def test_a_training_step_computes_gradients_and_moves_no_weight():
    cfg, model = models.plain_model()
    before, gradients = [p.detach().clone() for p in model.parameters()], []
    for p in (model.decoder.mask.weight, model.backbone.bottom_up.stem.conv1.weight):
        p.register_post_accumulate_grad_hook(lambda p: gradients.append(float(p.grad.abs().max())))
    step = training_step(cfg, model, inputs.training_batch(1, 64, (2, 2)))
    assert step() == pytest.approx(step(), abs=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert len(gradients) == 4 and min(gradients) > 0


def test_training_rows_agree_and_are_timed(monkeypatch):
    batch = inputs.training_batch(1, 64, (2, 2))
    monkeypatch.setattr(recurrent_rows, "training_batch", lambda: batch)
    timings, problems = run_rows(recurrent_rows.recurrent_training_rows(), repeats=1)
    assert not problems
    assert [timing.name for timing in timings] == ["training_step", "checkpointing"]


def squares(count, size=64):
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for index, mask in enumerate(masks):
        mask[8 : 8 + 4 * (index + 1), 20 * index : 20 * index + 12] = True
    return masks


@pytest.mark.parametrize("count", [1, 3])
def test_scripted_model_makes_a_step_an_object_and_one_to_stop(count):
    masks = squares(count)
    model, script = models.scripted_model(masks)
    item = {"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}
    (sequence,) = model.internals([item])
    assert int(sequence["count"]) == count and len(sequence["masks"]) == count + 1 == script.step
    for _ in range(2):  # a second image starts from the first object again
        found = model([item])[0]["instances"]
        assert script.step == count + 1 and len(found) == count
        areas = found.pred_masks.flatten(1).sum(1).sort().values
        assert torch.allclose(areas.float(), masks.flatten(1).sum(1).float(), rtol=0.2)


class Finder(nn.Module):
    """Finds these masks in any image."""

    def __init__(self, masks):
        super().__init__()
        self.masks = masks

    def forward(self, items):
        return [{"instances": Instances(self.masks.shape[1:], pred_masks=self.masks)}]


@pytest.mark.parametrize(("found", "words"), [(3, "Mask R-CNN finds 3"), (7, "finds 7")])
def test_inference_row_with_a_poor_reference_is_not_timed(monkeypatch, found, words):
    masks = torch.ones(found, 64, 64, dtype=torch.bool)
    monkeypatch.setattr(recurrent_rows, "published_model", lambda name: (None, Finder(masks)))
    monkeypatch.setattr(recurrent_rows, "model_input", lambda cfg, image: {})
    timings, problems = run_rows(recurrent_rows.recurrent_inference_rows(), repeats=1)
    assert not timings and words in problems[0]


def test_inference_row_compares_what_it_says(monkeypatch):
    shown = []
    real_input = recurrent_rows.model_input
    monkeypatch.setattr(
        recurrent_rows, "model_input", lambda *args: shown.append(args[1]) or real_input(*args)
    )
    ours, reference = recurrent_rows.build_inference()
    assert shown[0].shape == (256, 256, 3)
    found = [function()[0]["instances"] for function in (ours, reference)]
    assert [len(x) for x in found] == [5, 5]
    assert all(x.image_size == (256, 256) for x in found)
    union = [x.pred_masks.any(dim=0) for x in found]
    assert (union[0] & union[1]).sum() > 0.9 * (union[0] | union[1]).sum()
    assert not found[1].scores.requires_grad


def test_memory_of_steps_of_known_size(monkeypatch):
    def step(cfg, model, batch, *, num_steps):
        assert len(batch) == 1
        # Large against the megabyte or so by which a process's peak differs from run to run.
        size = num_steps * (8 if model.checkpointing else 32) * 2**20
        return lambda: torch.ones(size, dtype=torch.uint8).max()

    monkeypatch.setattr(recurrent_cost, "training_step", step)
    figures = recurrent_cost.memory_figures((2, 4, 10), count=1, size=64, objects=(2, 2))
    assert figures.steps == [2, 4, 10]
    for curve, size in ((figures.kept, 32), (figures.checkpointing, 8)):
        slope = recurrent_cost.slope((2, 4, 10), curve) / 2**20
        assert slope == pytest.approx(size, 0.1)
    last = recurrent_cost.memory_table(figures).splitlines()[-1].split("|")
    assert [float(cell) for cell in last[2:4]] == pytest.approx([32, 8], rel=0.15)


def test_slope_is_that_of_a_line():
    assert recurrent_cost.slope([1, 2, 4], [5, 8, 14]) == pytest.approx(3)
    assert recurrent_cost.slope([4], [5]) == 0
