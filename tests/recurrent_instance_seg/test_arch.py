"""The meta-architecture: losses, predictions, schedules, and every odd batch."""

from dataclasses import replace

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from tiny_embedding import item
from tiny_recurrent import (
    EVERY_PART,
    GUIDED,
    RIS,
    RSIS_DETAIL,
    TEACHING,
    build_tiny,
    calls_of,
    recurrent_cfg,
    resnet_cfg,
    scripted,
)

from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_to_label_map
from instance_seg_common.meta_arch import noted_limits
from recurrent_instance_seg import arch, teaching
from recurrent_instance_seg.inference import StepSequence, count_steps
from recurrent_instance_seg.rollout import remember
from recurrent_instance_seg.targets import batch_targets

ONSETS = {"CLASS_LOSS_AFTER": 1000, "STOP_LOSS_AFTER": 1000}
KINDS = {
    "rsis": {},
    "rsis, every part": {**EVERY_PART, **RSIS_DETAIL},
    "guided": GUIDED,
    "guided, every part": {**EVERY_PART, **GUIDED},
    "guided, every part, taught": {**EVERY_PART, **TEACHING, **ONSETS},
    "guided, taught": {**GUIDED, "GUIDED.TEACHER_UNTIL": 1000},
    "curriculum": {"CURRICULUM_START": 1},
    "before the onsets": ONSETS,
    "detail": RSIS_DETAIL,
    "one level": {"IN_FEATURES": ["p3"], "HIDDEN_CHANNELS": [6]},
    "never stops": {"stop_bias": 20.0},
    "stops at once": {"stop_bias": -20.0},
    "first come": {**EVERY_PART, **GUIDED, "stop_bias": 20.0},
    "every class": {"stop_bias": 20.0, "ALL_CLASSES": True, "SCORE": ["class"]},
    "ris": {**RIS, "stop_bias": 0.0},
    "ris, position": {**RIS, "RIS.POSITION_WEIGHT": 1.0, "RIS.INHIBITION_GAIN": 3.0},
    "ris, curriculum": {**RIS, "CURRICULUM_START": 1, "stop_bias": 20.0, "SCORE": []},
}
FOUR = [(2, 3, 12, 14), (15, 5, 28, 30), (2, 20, 10, 30), (14, 34, 20, 40)]
BATCHES = {
    "two sizes": lambda: [item(), item(37, 25, [(4, 4, 20, 20)])],
    "one image": lambda: [item(33, 17)],
    "three sizes": lambda: [item(20, 70, boxes=()), item(65, 31), item()],
    "one without instances": lambda: [item(), item(boxes=())],
    "none with instances": lambda: [item(boxes=()), item(20, 20, boxes=())],
    "one image without instances": lambda: [item(boxes=())],
    "one-pixel instances": lambda: [item(boxes=[(3, 3, 4, 4), (8, 8, 9, 9)])],
    "one pixel in all": lambda: [item(1, 1, boxes=[(0, 0, 1, 1)])],
    "more instances than steps": lambda: [item(boxes=FOUR, classes=(0, 1, 0, 1)), item()],
    "an instance outside": lambda: [item(boxes=[(2, 3, 12, 14), (0, 0, 0, 0)])],
    "all ignored": lambda: [item(sem_seg=torch.full((30, 44), 255))],
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_parameter_gets_a_finite_gradient_on_every_batch(kind, batch):
    model = build_tiny(**kind)
    losses = model(batch())
    assert set(losses) == names_of_losses(kind)
    assert all(loss.dim() == 0 and loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def names_of_losses(kind):
    """What each decoder learns from."""
    names = {"loss_mask", "loss_class", "loss_stop"}
    if kind.get("DECODER") == "guided":
        return names | {"loss_position", "loss_guide", "loss_vote"}
    return names | ({"loss_position"} if "RIS.POSITION_WEIGHT" in kind else set())


def test_the_guide_and_its_votes_are_learned():
    losses = build_tiny(**GUIDED)([item()])
    assert losses["loss_guide"] > 0 and losses["loss_vote"] > 0


def test_every_weight_scales_its_loss():
    keys = {"class": "CLASS_WEIGHT", "stop": "STOP_WEIGHT", "position": "RIS.POSITION_WEIGHT"}
    ones = dict.fromkeys(keys.values(), 1.0)
    others = {key: float(factor) for factor, key in enumerate(ones, start=2)}
    losses, scaled = (build_tiny(**{**EVERY_PART, **RIS, **w})([item()]) for w in (ones, others))
    assert set(losses) == {"loss_mask", *(f"loss_{name}" for name in keys)}
    for name in losses:
        factor = others.get(keys.get(name.removeprefix("loss_")), 1.0)
        assert scaled[name].item() == pytest.approx(factor * losses[name].item())
        assert losses[name].item() > 0


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_predictions_keep_the_contract_on_every_batch(kind, batch):
    model = build_tiny(**kind).eval()
    inputs = batch()
    inputs[0].update(height=50, width=60)
    outputs = model(inputs)
    assert len(outputs) == len(inputs)
    for x, output in zip(inputs, outputs):
        size = (x.get("height", x["image"].shape[1]), x.get("width", x["image"].shape[2]))
        check_instances(output["instances"], size)
        if kind.get("OVERLAP"):
            assert (output["instances"].pred_masks.sum(dim=0) <= 1).all()
        if kind is KINDS["stops at once"]:
            assert len(output["instances"]) == 0
        if kind is KINDS["every class"]:
            counts = output["instances"].pred_classes.bincount(minlength=2)
            assert counts[0] == counts[1]


def check_instances(instances, size):
    """What Detectron2's evaluators and every tool of this project rely on."""
    assert instances.image_size == size
    assert instances.pred_masks.dtype == torch.bool
    assert instances.pred_masks.shape == (len(instances), *size)
    assert instances.pred_masks.flatten(1).any(dim=1).all()
    boxes = BitMasks(instances.pred_masks).get_bounding_boxes().tensor
    assert torch.equal(instances.pred_boxes.tensor, boxes)
    assert ((instances.scores >= 0) & (instances.scores <= 1)).all()
    assert (instances.scores.diff() <= 0).all()
    assert instances.pred_classes.dtype == torch.int64
    assert ((instances.pred_classes >= 0) & (instances.pred_classes < 2)).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_internals(kind):
    model = build_tiny(**kind).eval()
    inputs = [item(), item(37, 25, [(4, 4, 20, 20)])]
    for x, found in zip(inputs, model.internals(inputs)):
        steps, count = len(found["objectness"]), int(found["count"])
        assert found["count"].shape == () and found["count"].dtype == torch.int64
        assert steps == min(count + 1, model.inference.max_steps)
        assert found["masks"].shape == (steps, *x["image"].shape[1:])
        assert ((found["masks"] >= 0) & (found["masks"] <= 1)).all()
        assert found["class_probabilities"].shape == (steps, 2)
        assert ("points" in found) == (kind.get("DECODER") == "guided")
        if "points" in found:  # none on the padding
            size = torch.tensor(x["image"].shape[:0:-1])
            assert found["points"].shape == (steps, 2) and (found["points"] < size + 4).all()
        assert torch.allclose(found["class_probabilities"].sum(dim=1), torch.ones(steps))
        assert (found["objectness"][:count] >= 0.5).all()
        assert (found["objectness"][count:] < 0.5).all()


@torch.no_grad()
def test_points_are_where_the_scores_are_highest():
    model = build_tiny(**GUIDED, stop_bias=20.0).eval()
    inputs = [item(30, 90)]
    prepared, _ = model.network(inputs)
    state, memory, expected = None, None, []
    for _ in range(model.inference.max_steps):
        step, state = model.decoder(prepared, state, memory)
        memory = remember(memory, step.masks.sigmoid())
        rows, columns = torch.nonzero(step.attention[0] == step.attention[0].max()).unbind(1)
        expected.append([4 * columns[0] + 2, 4 * rows[0] + 2])
    points = model.internals(inputs)[0]["points"]
    assert points.tolist() == expected


# A decoder that knows the truth.


def three_images():
    """Two instances, one and none."""
    return [item(), item(38, 26, [(4, 4, 20, 20)], (1,)), item(20, 40, boxes=())]


def test_a_perfect_decoder_gives_the_ground_truth_and_stops_by_itself():
    inputs = three_images()
    model = scripted(inputs, MAX_STEPS=9).eval()
    for x, output in zip(inputs, model(inputs)):
        instances, truth = output["instances"], x["instances"]
        check_instances(instances, x["image"].shape[1:])
        # The first step included, which is not background in a label map either.
        assert len(instances) == instances_to_label_map(instances).max() == len(truth)
        order = torch.argsort(instances.pred_classes)
        assert torch.equal(instances.pred_classes[order], truth.gt_classes)
        if len(truth):
            found, wanted = instances.pred_masks[order], truth.gt_masks.tensor
            iou = (found & wanted).sum((1, 2)) / (found | wanted).sum((1, 2))
            assert (iou > 0.85).all()  # boundaries are as fine as the grid
    # Two instances, and the step at which the last image is known to have ended.
    assert len(model.decoder.calls) == 3
    internals = model.internals(inputs)
    assert [int(found["count"]) for found in internals] == [2, 1, 0]
    # With the step that says stop.
    assert [len(found["masks"]) for found in internals] == [3, 2, 1]


def test_no_step_is_made_for_an_empty_image_but_the_one_that_says_so():
    inputs = [item(boxes=())]
    model = scripted(inputs, MAX_STEPS=9).eval()
    assert len(model(inputs)[0]["instances"]) == 0
    assert len(model.decoder.calls) == 1


def test_a_sequence_ends_at_its_first_stop():
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1))]
    model = scripted(inputs, {1: "stop"}, MAX_STEPS=9).eval()
    assert len(model(inputs)[0]["instances"]) == 1
    assert len(model.decoder.calls) == 2


def test_a_sequence_that_has_ended_does_not_go_on():
    # At step 1 the first image says stop and the second, which has ended, goes on.
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1)), item(38, 26, [(4, 4, 20, 20)])]
    model = scripted(inputs, {1: "stop"}, MAX_STEPS=9).eval()
    assert [int(found["count"]) for found in model.internals(inputs)] == [1, 2]
    assert len(model.decoder.calls) == 3


def test_no_more_steps_than_asked_for():
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1))]
    model = scripted(inputs, MAX_STEPS=3).eval()
    assert sorted(model(inputs)[0]["instances"].pred_classes.tolist()) == [0, 0, 1]
    assert len(model.decoder.calls) == 3


def test_no_step_from_the_one_that_says_stop_on_takes_part():
    sequence = StepSequence(
        masks=torch.tensor([0.8, 0.9, 0.9])[:, None, None].expand(3, 6, 8),
        class_probabilities=torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.5, 0.5]]),
        objectness=torch.tensor([0.9, 0.1, 0.9]),
    )
    for rule in ("first", ""):
        instances = build_tiny(OVERLAP=rule).make_instances(sequence, (6, 8))
        check_instances(instances, (6, 8))
        assert instances.pred_masks.all()
        assert instances.scores.tolist() == pytest.approx([0.7 * 0.9 * 0.8])


@pytest.mark.parametrize("limit", [2, 0, -1])
def test_best_instances_are_kept(limit):
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1))]
    cfg = recurrent_cfg(MAX_STEPS=6, STOP_THRESHOLD=0.0)
    torch.manual_seed(0)
    everything = build_model(cfg).eval()(inputs)[0]["instances"]
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    torch.manual_seed(0)
    with noted_limits() as noted:
        kept = build_model(cfg).eval()(inputs)[0]["instances"]
    assert noted == {("MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS", 6)} | (
        set() if limit < 0 else {("TEST.DETECTIONS_PER_IMAGE", limit)}
    )
    assert len(everything) == 6
    assert len(kept) == (6 if limit < 0 else limit)
    assert torch.equal(kept.scores, everything.scores[: len(kept)])


def test_a_sequence_that_says_stop_has_reached_no_limit():
    sequence = StepSequence(
        torch.ones(3, 4, 4), torch.ones(3, 2) / 2, torch.tensor([0.9, 0.8, 0.1])
    )
    model = build_tiny(MAX_STEPS=3, STOP_THRESHOLD=0.5)
    with noted_limits() as noted:
        model.make_instances(sequence, (4, 4))
    assert not noted


# The steps one by one, as tools take them.


@pytest.mark.parametrize("kind", ["rsis", "first come", "every class", "ris"])
def test_all_steps_once_stand_for_a_run_with_any_threshold_and_limit(kind):
    model = build_tiny(**{**KINDS[kind], "stop_bias": None, "MAX_STEPS": 6}).eval()
    inputs = [item(), item(37, 25, [(4, 4, 20, 20)])]
    everything = model.run_steps(inputs, inference=replace(model.inference, stop_threshold=0.0))
    assert [len(sequence.objectness) for sequence in everything] == [6, 6]
    middle = torch.cat([sequence.objectness for sequence in everything]).median().item()
    counts = set()
    for threshold in (0.0, middle - 1e-4, middle + 1e-4, 1.1):
        for max_steps in (1, 4, 6):
            settings = replace(model.inference, stop_threshold=threshold, max_steps=max_steps)
            for x, whole, run in zip(
                inputs, everything, model.run_steps(inputs, inference=settings)
            ):
                count = count_steps(whole.objectness, settings)
                assert count == count_steps(run.objectness, settings)
                assert len(run.objectness) == min(count + 1, max_steps)
                assert_same_instances(
                    model.make_instances(whole, x["image"].shape[1:], inference=settings),
                    model.make_instances(run, x["image"].shape[1:], inference=settings),
                )
                counts.add(count)
    assert {0, 1, 6} <= counts


def assert_same_instances(left, right):
    assert torch.equal(left.pred_masks, right.pred_masks)
    assert torch.equal(left.scores, right.scores)
    assert torch.equal(left.pred_classes, right.pred_classes)


@pytest.mark.parametrize("kind", ["guided", "every class", "ris"])
def test_a_prediction_is_the_steps_and_their_instances(kind):
    model = build_tiny(**KINDS[kind]).eval()
    inputs = [item(), item(37, 25, [(4, 4, 20, 20)])]
    inputs[0].update(height=50, width=60)
    for size, output, sequence in zip(((50, 60), (37, 25)), model(inputs), model.run_steps(inputs)):
        assert_same_instances(output["instances"], model.make_instances(sequence, size))


def test_the_first_steps_of_a_sequence():
    model = build_tiny(**GUIDED, stop_bias=20.0).eval()
    (sequence,) = model.run_steps([item()])
    first = sequence.first(2)
    for name, values in vars(sequence).items():
        assert len(values) == 3 and torch.equal(getattr(first, name), values[:2])
    (plain,) = build_tiny().eval().run_steps([item()])
    assert plain.points is None and plain.first(0).points is None


# Losses of a decoder that knows the truth.


def losses_of(inputs, errors=None, **options):
    """Losses of a scripted decoder; all weights 1."""
    weights = {"CLASS_WEIGHT": 1.0, "STOP_WEIGHT": 1.0}
    model = scripted(inputs, errors, **weights, **options)
    losses = {name: float(value.detach()) for name, value in model(inputs).items()}
    return losses, len(model.decoder.calls)


def test_a_perfect_decoder_has_almost_no_loss():
    losses, steps = losses_of(three_images(), MAX_STEPS=9)
    assert steps == 3  # two instances and the end
    assert losses["loss_mask"] < 0.12  # boundaries are as fine as the grid
    assert losses["loss_class"] < 1e-6
    assert losses["loss_stop"] < 1e-6


# Of three instances, two are shown at step 0 and one at step 1; one class is wrong by 20.
@pytest.mark.parametrize(
    ("step", "what", "loss", "rise"),
    [
        (0, "mask", "loss_mask", 2 / 3),
        (1, "mask", "loss_mask", 1 / 3),
        (0, "class", "loss_class", 20 * 2 / 3),
        (1, "class", "loss_class", 20 / 3),
    ],
)
def test_every_step_counts_the_first_included(step, what, loss, rise):
    perfect, _ = losses_of(three_images(), MAX_STEPS=9)
    wrong, _ = losses_of(three_images(), {step: what}, MAX_STEPS=9)
    assert wrong[loss] - perfect[loss] == pytest.approx(rise, abs=0.06)


# Judged are steps 0 to 2 of the first image, 0 and 1 of the second, 0 of the third.
@pytest.mark.parametrize(("step", "wrong"), [(0, 3), (1, 2), (2, 1)])
def test_the_objectness_of_every_step_up_to_the_end_counts(step, wrong):
    losses, _ = losses_of(three_images(), {step: "stop"}, MAX_STEPS=9)
    assert losses["loss_stop"] == pytest.approx(20 * wrong / 6, rel=1e-4)


def test_with_more_instances_than_steps_nothing_asks_to_stop():
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1))]
    losses, steps = losses_of(inputs, MAX_STEPS=3)
    assert steps == 3
    assert losses["loss_stop"] < 1e-6
    assert losses["loss_mask"] < 0.12


@pytest.mark.parametrize(
    ("start", "counts", "steps"),
    [(1, 2, 1), (2, 2, 2), (3, 2, 3), (0, 2, 3), (1, 0, 1), (0, 0, 1), (1, 1, 1), (4, 4, 4)],
)
def test_the_curriculum_limits_the_steps(start, counts, steps):
    inputs = [item(boxes=FOUR[:counts], classes=(0, 1, 0, 1))]
    _, made = losses_of(inputs, MAX_STEPS=9, CURRICULUM_START=start)
    assert made == steps


# Hints in training.


def union_of(x, instances, size):
    """(*size) share of each cell of two pixels that these instances cover."""
    union = torch.zeros(2 * size[0], 2 * size[1])
    for mask in x["instances"].gt_masks.tensor[list(instances)].float():
        union[: mask.shape[0], : mask.shape[1]] += mask  # they do not overlap
    return torch.nn.functional.avg_pool2d(union[None], 2)[0]


@pytest.fixture
def prefix_of(monkeypatch):
    """prefix_of(share) -> from now on this share of the objects counts as found at the start."""
    original = teaching.hide_found

    def choose(share):
        def hide(targets, numbers):
            return original(targets, 0 * numbers + share)

        monkeypatch.setattr(teaching, "hide_found", hide)

    return choose


@pytest.mark.parametrize("taught", [True, False])
def test_what_counts_as_found(taught, prefix_of):
    prefix_of(0.0)
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1)), item(boxes=())]
    kind = {**GUIDED, "GUIDED.TEACHER_UNTIL": int(taught)}
    model = scripted(inputs, {1: "mask"}, MAX_STEPS=9, **kind)
    model(inputs)
    first, *later = model.decoder.memories
    assert not first.any() if taught else first is None
    assert len(later) == 4
    for count, memory in enumerate(later, start=1):
        parts = [union_of(inputs[0], [k], memory.shape[-2:]) for k in range(4)]
        if taught:  # one instance more, exactly, even where the mask shows none
            covered = [k for k, part in enumerate(parts) if (memory[0] >= part).all()]
            assert len(covered) == count and 0 in covered
            assert torch.allclose(memory[0], sum(parts[k] for k in covered))
            assert not memory[1].any()
        else:  # its own masks; that of step 1 is empty
            wanted = sum(parts[:count])
            assert torch.allclose(memory[0] > 0.5, wanted > 0.5) == (count == 1)


@pytest.mark.parametrize("taught", [True, False])
def test_no_gradient_flows_through_what_counts_as_found(taught, prefix_of):
    prefix_of(0.0)
    model = build_tiny(**GUIDED, **{"GUIDED.TEACHER_UNTIL": int(taught)})
    memories = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: memories.append(inputs[2]))
    model([item()])
    assert [memory is None for memory in memories] == [not taught, False, False]
    assert not any(memory.requires_grad for memory in memories[1:])


def test_instances_found_before_are_shown_and_not_asked_for(prefix_of):
    prefix_of(0.999)
    inputs = [item(boxes=FOUR, classes=(0, 1, 0, 1)), item(boxes=())]
    model = scripted(inputs, MAX_STEPS=9, **GUIDED, **{"GUIDED.TEACHER_UNTIL": 1})
    losses = model(inputs)
    (memory,) = model.decoder.memories
    assert torch.allclose(memory[0], union_of(inputs[0], range(4), memory.shape[-2:]))
    assert not memory[1].any()
    assert losses["loss_mask"] == 0
    # The script sees an object where none is left; the other image is empty anyway.
    weight = model.criterion.stop_weight
    assert losses["loss_stop"].item() == pytest.approx(weight * 10, rel=1e-4)


def test_dense_maps_learn_from_all_instances(prefix_of):
    prefix_of(0.999)
    kind = {**EVERY_PART, **GUIDED}
    hinted, plain = build_tiny(**kind, **{"GUIDED.TEACHER_UNTIL": 1}), build_tiny(**kind)
    losses, wanted = hinted([item()]), plain([item()])
    assert losses["loss_mask"] == 0
    for name in ("loss_guide", "loss_vote"):
        assert torch.equal(losses[name], wanted[name]) and losses[name] > 0


# What must not count.


def test_targets_do_not_depend_on_the_other_images_of_the_batch():
    model = build_tiny()
    small, large = item(24, 24, [(2, 3, 12, 14), (20, 20, 24, 24)]), item(64, 64, boxes=())
    alone, both = (
        batch_targets(batch, model.network(batch)[1].tensor.shape[-2:], num_classes=2)
        for batch in ([small], [small, large])
    )
    assert alone.counts == both.counts[:1] == [2]
    assert torch.equal(alone.classes, both.classes[:1])
    assert torch.equal(alone.masks[0], both.masks[0, :, :32, :32])
    assert torch.equal(alone.valid[0], both.valid[0, :32, :32])
    assert both.valid[0].sum() == alone.valid.sum() == 24 * 24
    assert not both.masks[0, :, 24:].any() and not both.masks[0, :, :, 24:].any()


def ignored_corner():
    """(30, 44): 255 in the lower right corner, where one instance has a part."""
    sem_seg = torch.zeros(30, 44, dtype=torch.int64)
    sem_seg[14:, 20:] = 255
    return sem_seg


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ignored_pixels_of_the_ground_truth_change_no_loss(kind):
    inputs, others = (
        [item(sem_seg=ignored_corner(), boxes=boxes), item()]
        for boxes in (((2, 3, 12, 14), (15, 5, 28, 30)), ((2, 3, 12, 14), (15, 5, 28, 44)))
    )
    others[0]["image"] = inputs[0]["image"]
    part = torch.zeros(1, 30, 44, dtype=torch.bool)
    part[:, 18:29, 24:42] = True  # one instance more, in the ignored region
    truth = others[0]["instances"]
    masks = torch.cat([truth.gt_masks.tensor, part])
    truth = type(truth)((30, 44), gt_masks=BitMasks(masks), gt_classes=torch.tensor([0, 1, 0]))
    others[0]["instances"] = truth
    results = []
    for batch in (inputs, others):
        model = build_tiny(**kind)
        torch.manual_seed(3)  # of what counts as found
        results.append(model(batch))
    assert all(torch.equal(results[0][name], value) for name, value in results[1].items())


@pytest.mark.parametrize("kind", [{}, RIS, {**RIS, "RIS.POSITION_WEIGHT": 1.0}])
def test_masks_learn_from_pixels_that_count_only(monkeypatch, kind):
    made = []

    def unroll(*arguments, **options):
        made.append(original(*arguments, **options))
        made[0].masks.retain_grad()
        return made[0]

    original = arch.unroll
    monkeypatch.setattr(arch, "unroll", unroll)
    model = build_tiny(**kind, LOSS_STRIDE=4 if kind else 2)
    losses = model([item(sem_seg=ignored_corner()), item(64, 64)])
    sum(losses.values()).backward()
    gradient, stride = made[0].masks.grad, model.decoder.mask_stride
    valid = torch.zeros(64, 64)
    valid[:30, :44] = (ignored_corner() == 0).float()
    counts = torch.nn.functional.avg_pool2d(valid[None], stride)[0] >= 0.5
    assert not gradient[0, :2, ~counts].any()
    assert gradient[0, :2, counts].abs().min() > 0
    assert gradient[1, :2].abs().min() > 0


# Validation, schedules, random state.


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("batch", ["two sizes", "none with instances"])
@pytest.mark.parametrize("kind", [TEACHING, {**EVERY_PART, **TEACHING, "NORM": "GN"}])
def test_a_validation_loss_leaves_no_trace(kind, batch):
    model = build_tiny(**kind)
    before, random_state = state_of(model), torch.get_rng_state()
    with torch.no_grad(), EventStorage() as storage:
        model(BATCHES[batch]())
    assert not storage.histories()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model(BATCHES[batch]())
    assert int(model.schedule.iteration) == 1


@pytest.mark.parametrize("kind", [GUIDED, {**EVERY_PART, **GUIDED}])
def test_a_validation_loss_asks_for_all_objects_and_gives_no_hints(kind):
    taught, plain = build_tiny(**{**kind, **TEACHING}), build_tiny(**kind)
    inputs = BATCHES["two sizes"]()
    calls = calls_of(taught.decoder)
    with torch.no_grad():
        losses, wanted = taught(inputs), plain(inputs)
    assert len(calls) == 3
    assert all(torch.equal(losses[name], value) for name, value in wanted.items())
    hinted = taught(inputs)
    assert any(not torch.equal(hinted[name], value) for name, value in wanted.items())


def test_losses_wait_for_their_onset():
    model = build_tiny(CLASS_LOSS_AFTER=1, STOP_LOSS_AFTER=2)
    found = []
    for _ in range(3):
        losses = model([item()])
        found.append([losses[name].item() > 0 for name in ("loss_class", "loss_stop")])
    # An iteration is accounted for in its own forward.
    assert found == [[True, False], [True, True], [True, True]]


def test_teaching_ends():
    model, plain = build_tiny(**{**TEACHING, "GUIDED.TEACHER_UNTIL": 1}), build_tiny(**GUIDED)
    model([item()])
    plain([item()])
    # The limit of the curriculum has ended with the hints.
    assert model.schedule.limit() == 1
    late, wanted = model([item()]), plain([item()])
    assert all(torch.equal(late[name], value) for name, value in wanted.items())


def test_monitoring_reaches_the_storage():
    model = build_tiny(CURRICULUM_START=1)
    with EventStorage() as storage:
        losses = model([item()])
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest["recurrent/steps"] == latest["recurrent/objects_asked_for"] == 1
    assert latest["recurrent/soft_iou"] == pytest.approx(1 - losses["loss_mask"].item())
    assert set(latest) == {f"recurrent/{n}" for n in ("steps", "objects_asked_for", "soft_iou")}


def test_schedules_are_saved_and_loaded(tmp_path):
    kind = {"CURRICULUM_START": 1, "CURRICULUM_LOSS": 2.0, "PATIENCE": 1}
    model = build_tiny(**kind)
    for _ in range(2):
        model([item()])
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    other = build_tiny(**kind)
    DetectionCheckpointer(other).load(str(tmp_path / "model.pth"))
    state, wanted = other.schedule.state_dict(), model.schedule.state_dict()
    assert int(state["iteration"]) == 2 and int(state["objects"]) == 3
    assert all(torch.equal(state[name], value) for name, value in wanted.items())


def test_predictions_do_not_depend_on_the_random_state():
    model = build_tiny(**KINDS["first come"]).eval()
    first = model([item()])[0]["instances"]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second = model([item()])[0]["instances"]
    assert torch.equal(first.pred_masks, second.pred_masks)
    assert torch.equal(torch.get_rng_state(), state)


# Backbones, precision, mistakes.


@pytest.mark.parametrize("options", [{}, {"RSIS.DETAIL": True, "HIDDEN_CHANNELS": [8] * 5}])
def test_a_plain_resnet(options):
    model = build_model(resnet_cfg(**options)).train()
    inputs = [item(37, 45), item(20, 70, boxes=())]
    assert model.backbone.size_divisibility == 0
    assert model.network(inputs)[1].tensor.shape[-2:] == (64, 96)
    sum(model(inputs).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for x, output in zip(inputs, model.eval()(inputs)):
        check_instances(output["instances"], x["image"].shape[1:])


@pytest.mark.parametrize("size", [(20, 90), (90, 20)])
def test_levels_coarser_than_32_pixels(size):
    cfg = resnet_cfg(HIDDEN_CHANNELS=[8] * 3, IN_FEATURES=["p3", "p5", "p6"])
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    model = build_model(cfg).train()
    assert model.in_features == ["p6", "p5", "p3"]
    inputs = [item(*size, boxes=[(2, 3, 12, 14)])]
    sum(model(inputs).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    check_instances(model.eval()(inputs)[0]["instances"], size)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("batch", ["two sizes", "none with instances"])
def test_bf16_autocast(kind, batch):
    model = build_tiny(**kind)
    inputs = BATCHES[batch]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(inputs)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.eval()(inputs)
    for x, output in zip(inputs, outputs):
        check_instances(output["instances"], x["image"].shape[1:])


def test_in_features_in_any_order():
    assert build_tiny(IN_FEATURES=["p2", "p3"]).in_features == ["p3", "p2"]
    assert build_tiny(IN_FEATURES=["p3", "p2"]).in_features == ["p3", "p2"]


@pytest.mark.parametrize("channels", [[20, 12], [28, 4]])
def test_widths_need_not_be_multiples(channels):
    sum(build_tiny(HIDDEN_CHANNELS=channels)([item()]).values()).backward()


def test_a_class_too_many_is_a_sentence():
    with pytest.raises(UserError, match="class 1 but .*NUM_CLASSES is 1"):
        build_tiny(NUM_CLASSES=1)([item()])


def test_missing_masks_are_a_sentence():
    x = item()
    x["instances"].remove("gt_masks")
    with pytest.raises(UserError, match=r"MODEL\.MASK_ON"):
        build_tiny()([x])


def test_more_objects_than_steps_are_said_once(caplog):
    model = build_tiny(MAX_STEPS=1).train()
    crowded = [item()]
    for _ in range(2):
        model(crowded)
    said = [r.getMessage() for r in caplog.records if "MAX_STEPS is 1" in r.getMessage()]
    assert len(said) == 1 and "has 2 objects" in said[0]
