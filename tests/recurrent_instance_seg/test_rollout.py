"""Sequences: memory, teacher, gradients, and where they end."""

import pytest
import torch

from recurrent_instance_seg.decoders import Step
from recurrent_instance_seg.inference import InferenceSettings, count_steps
from recurrent_instance_seg.losses import soft_iou_cost
from recurrent_instance_seg.rollout import remember, stack_steps, unroll, unroll_until_stop
from recurrent_instance_seg.teaching import Teacher

GRID = (4, 6)


class ScriptedDecoder:
    """Says what is written, and notes what it was given."""

    def __init__(self, masks, stop=None):
        self.masks = masks  # (B, T, h, w)
        self.stop = torch.zeros(masks.shape[:2]) if stop is None else stop  # (B, T)
        self.memories = []

    def __call__(self, prepared, state, memory):
        t = 0 if state is None else state
        assert t == len(self.memories) and prepared == "prepared"
        self.memories.append(memory)
        return Step(self.masks[:, t], torch.full((len(self.stop), 3), t), self.stop[:, t]), t + 1


def random_masks(images, number, seed=0, size=GRID):
    """Logits; images x number x h x w."""
    return 3 * torch.randn(images, number, *size, generator=torch.Generator().manual_seed(seed))


def test_stacked_steps_have_time_in_dimension_one():
    steps = [
        Step(*(torch.full(shape, t) for shape in ((2, 4, 6), (2, 3), (2,), (2, 1, 2))))
        for t in range(5)
    ]
    stacked = stack_steps(steps)
    assert [x.shape for x in stacked] == [(2, 5, 4, 6), (2, 5, 3), (2, 5), (2, 5, 1, 2)]
    for field in stacked:
        assert field[1].reshape(5, -1).unique(dim=1).flatten().tolist() == [0, 1, 2, 3, 4]
    assert stack_steps([step._replace(attention=None) for step in steps]).attention is None


def test_remember_is_the_union():
    first, second = torch.tensor([[[0.2, 0.9]]]), torch.tensor([[[0.5, 0.1]]])
    assert remember(None, first) is first
    assert remember(first, second).flatten().tolist() == pytest.approx([0.5, 0.9])


@pytest.mark.parametrize("given", [False, True])
def test_unroll_remembers_the_predictions(given):
    masks = random_masks(2, 4).requires_grad_()
    decoder = ScriptedDecoder(masks)
    start = torch.rand(2, *GRID) if given else None
    steps = unroll(decoder, "prepared", 4, memory=start)
    assert torch.equal(steps.masks, masks) and steps.masks.requires_grad
    assert steps.classes[0, :, 0].tolist() == [0, 1, 2, 3]
    assert len(decoder.memories) == 4 and decoder.memories[0] is start
    probabilities = 1 / (1 + torch.exp(-masks.detach()))
    for t in range(1, 4):
        found = [*probabilities[:, :t].unbind(1)] + ([start] if given else [])
        torch.testing.assert_close(decoder.memories[t], torch.stack(found).amax(dim=0))
        assert not decoder.memories[t].requires_grad


def truth(counts, seed=0):
    """Masks that do not touch most of each other, padded."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(len(counts), max(counts), *GRID)
    for image, n in enumerate(counts):
        masks[image, :n] = (torch.rand(n, *GRID, generator=generator) < 0.3).float()
        masks[image, range(n), 0, range(n)] = 1
    return masks


def valid_everywhere(images):
    return torch.ones(images, *GRID, dtype=torch.bool)


def greedy_by_hand(logits, masks, valid, counts):
    """Per image the instance of every step: the least cost among those left."""
    chosen = []
    for image, n in enumerate(counts):
        left, order = list(range(n)), []
        for step in logits[image]:
            if left:
                costs = soft_iou_cost(
                    step[None, None], masks[image : image + 1], valid[image, None]
                )
                order.append(min(left, key=lambda k: costs[0, 0, k].item()))  # noqa: B023
                left.remove(order[-1])
        chosen.append(order)
    return chosen


@pytest.mark.parametrize("num_steps", [2, 4, 6])
def test_greedy_teacher(num_steps):
    counts = [4, 0, 2, 1]
    masks, logits = truth(counts), random_masks(4, num_steps, seed=2)
    valid = valid_everywhere(4)
    valid[:, 1:3, 2:] = False
    decoder = ScriptedDecoder(logits)
    teacher = Teacher(masks, valid, counts)
    unroll(decoder, "prepared", num_steps, teacher=teacher)
    expected = greedy_by_hand(logits, masks, valid, counts)
    assert expected[0] != list(range(min(4, num_steps)))  # not the order of the data
    for image, ((steps, instances), order) in enumerate(zip(teacher.matches(), expected)):
        assert steps.dtype == instances.dtype == torch.int64
        assert steps.tolist() == list(range(min(counts[image], num_steps)))
        assert instances.tolist() == order
        for t, memory in enumerate(decoder.memories[1:], start=1):
            union = masks[image, order[:t]].amax(dim=0) if order else torch.zeros(GRID)
            assert torch.equal(memory[image], union)


def test_a_teacher_hands_every_instance_out_once():
    masks = truth([2, 1])
    teacher = Teacher(masks, valid_everywhere(2), [2, 1])
    step = Step(20 * masks[:, [1, 0]][:, 0] - 10, None, None)
    handed = [teacher(step) for _ in range(3)]
    assert torch.equal(
        torch.stack(handed, dim=1)[0], torch.stack([masks[0, 1], masks[0, 0], 0 * masks[0, 0]])
    )
    assert torch.equal(handed[0][1], masks[1, 0]) and not handed[1][1].any()


def test_greedy_choice_sees_valid_pixels_only():
    masks = torch.zeros(1, 2, *GRID)
    masks[0, 0, :2], masks[0, 1, 2:] = 1, 1
    logits = torch.full((1, *GRID), -9.0)
    logits[0, 0, 0] = 9.0
    logits[0, 2:, 3:] = 9.0
    valid = valid_everywhere(1)
    step = Step(logits, None, None)
    everywhere = Teacher(masks, valid, [2])
    assert torch.equal(everywhere(step), masks[:, 1])
    valid[0, :, 3:] = False
    assert torch.equal(Teacher(masks, valid, [2])(step), masks[:, 0])


def test_a_teacher_adds_to_what_was_found_before():
    counts, start = [2], torch.full((1, *GRID), 0.25)
    masks = truth(counts)
    decoder = ScriptedDecoder(20 * masks[:, [1, 0]] - 10)
    teacher = Teacher(masks, valid_everywhere(1), counts)
    unroll(decoder, "prepared", 2, memory=start, teacher=teacher)
    assert torch.equal(decoder.memories[1], masks[:, 1].clamp(min=0.25))


def test_a_teacher_of_a_batch_without_objects():
    decoder = ScriptedDecoder(random_masks(2, 3))
    teacher = Teacher(torch.zeros(2, 0, *GRID), valid_everywhere(2), [0, 0])
    unroll(decoder, "prepared", 3, teacher=teacher)
    assert [(s.tolist(), i.tolist()) for s, i in teacher.matches()] == [([], [])] * 2
    for memory in decoder.memories[1:]:
        assert memory.shape == (2, *GRID) and memory.dtype == torch.float32 and not memory.any()


def test_a_broken_mask_leaves_the_teacher_a_permutation():
    logits = random_masks(1, 3)
    logits[:, 1] = float("nan")
    teacher = Teacher(truth([3]), valid_everywhere(1), [3])
    unroll(ScriptedDecoder(logits), "prepared", 3, teacher=teacher)
    ((_, instances),) = teacher.matches()
    assert sorted(instances.tolist()) == [0, 1, 2]


def sequence_and_gradients(decoder, inputs, checkpointing):
    """A sequence of the real decoder with memory, and the gradients of all that it says."""
    features = [x.clone().requires_grad_() for x in inputs[0]]
    prepared = decoder.prepare(features, *inputs[1:])
    steps = unroll(
        decoder, prepared, 4,
        memory=torch.full((2, 16, 24), 0.1), checkpointing=checkpointing,
    )  # fmt: skip
    outputs = [steps.masks, steps.classes, steps.stop, steps.attention]
    loss = sum(x.square().mean() for x in outputs)
    return steps, torch.autograd.grad(loss, [*features, *decoder.parameters()])


def test_checkpointing_changes_nothing_but_the_number_of_computations(build_guided, pyramid):
    decoder = build_guided()
    calls = []
    decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    kept, gradients = sequence_and_gradients(decoder, pyramid(), False)
    assert len(calls) == 4
    again, repeated = sequence_and_gradients(decoder, pyramid(), True)
    assert len(calls) == 4 + 2 * 4
    assert torch.equal(again.masks, kept.masks) and torch.equal(again.stop, kept.stop)
    torch.testing.assert_close(repeated, gradients)
    assert all(x.isfinite().all() for x in gradients)


def test_gradients_go_back_through_all_steps(build_rsis, pyramid):
    decoder = build_rsis()
    calls = []
    prepared = decoder.prepare(*pyramid())
    cell = decoder.cells[0]
    cell.register_forward_hook(lambda _, inputs, output: calls.append(output[0]))
    steps = unroll(decoder, prepared, 3)
    gradients = torch.autograd.grad(steps.stop[:, 2].sum(), calls)
    assert len(gradients) == 3 and all(x.any() for x in gradients)


LOW, HIGH = -2.0, 2.0


def until_stop(decoder, prepared, max_steps, threshold):
    """The steps, and how many of them come before the end of each image's sequence."""
    steps = unroll_until_stop(decoder, prepared, max_steps=max_steps, stop_threshold=threshold)
    settings = InferenceSettings(
        max_steps=max_steps, stop_threshold=threshold, mask_threshold=0.5, min_area=1, overlap="",
        score=(), all_classes=False, max_instances=None,
    )  # fmt: skip
    return steps, [count_steps(row.float().sigmoid(), settings) for row in steps.stop]


def test_every_image_ends_at_its_own_first_low_objectness():
    stop = torch.tensor(
        [
            [HIGH, HIGH, LOW, HIGH, HIGH, HIGH],  # what comes after the end does not count
            [LOW, LOW, LOW, LOW, LOW, LOW],
            [HIGH, HIGH, HIGH, LOW, LOW, HIGH],
        ]
    )
    decoder = ScriptedDecoder(random_masks(3, 6), stop)
    steps, counts = until_stop(decoder, "prepared", 6, 0.5)
    assert counts == [2, 0, 3]
    # The step at which the last image has said stop is the last one.
    assert steps.stop.shape == (3, 4) and len(decoder.memories) == 4
    assert torch.equal(steps.masks, decoder.masks[:, :4])


def test_a_sequence_ends_after_the_most_steps():
    decoder = ScriptedDecoder(random_masks(2, 6), torch.full((2, 6), HIGH))
    steps, counts = until_stop(decoder, "prepared", 3, 0.5)
    assert counts == [3, 3] and steps.stop.shape == (2, 3)
    decoder = ScriptedDecoder(random_masks(2, 6), torch.full((2, 6), LOW))
    steps, counts = until_stop(decoder, "prepared", 1, 0.5)
    assert counts == [0, 0] and steps.stop.shape == (2, 1)


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 4), (0.5, 3), (0.51, 1), (0.9, 0)])
def test_the_threshold_is_a_probability_that_still_goes_on(threshold, count):
    stop = torch.tensor([[1.0, 0.0, 0.0, -3.0]])  # 0.73, 0.5, 0.5, 0.05
    decoder = ScriptedDecoder(random_masks(1, 4), stop)
    assert until_stop(decoder, "prepared", 4, threshold)[1] == [count]


def test_inference_remembers_as_training_does(build_guided, pyramid):
    decoder = build_guided()
    torch.nn.init.constant_(decoder.stop.bias, 9.0)
    prepared = decoder.prepare(*pyramid())
    trained = unroll(decoder, prepared, 4)
    steps, counts = until_stop(decoder, prepared, 4, 0.5)
    assert counts == [4, 4] and not steps.masks.requires_grad
    for left, right in zip(steps[:3], trained[:3]):
        assert torch.equal(left, right)


@torch.no_grad()
def test_counts_do_not_depend_on_the_batch(build_ris, pyramid):
    decoder = build_ris()
    torch.nn.init.zeros_(decoder.stop.bias)
    features, sizes, padded = pyramid(1)
    decoder.stop.weight *= -1
    middle = unroll(decoder, decoder.prepare(features, sizes, padded), 6).stop.sigmoid().median()
    _, counts = until_stop(decoder, decoder.prepare(features, sizes, padded), 6, middle)
    assert len(set(counts)) > 1
    for image in range(2):
        own = slice(image, image + 1)
        prepared = decoder.prepare([x[own] for x in features], sizes[own], padded)
        assert until_stop(decoder, prepared, 6, middle)[1] == counts[own]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_in_low_precision_ends_where_its_count_says(dtype):
    # In bfloat16 the sigmoid of -0.002 would be rounded to one half.
    stop = torch.tensor([[HIGH, HIGH, -0.002, HIGH]]).to(dtype)
    decoder = ScriptedDecoder(random_masks(1, 4).to(dtype), stop)
    steps, counts = until_stop(decoder, "prepared", 4, 0.5)
    assert counts == [2] and steps.stop.shape == (1, 3)
