"""Scores of masks, masks without overlap, and where a sequence ends."""

from dataclasses import replace

import pytest
import torch

from recurrent_instance_seg.inference import (
    OVERLAP_RULES,
    SCORE_PARTS,
    InferenceSettings,
    count_steps,
    mask_scores,
    score_instances,
    without_overlap,
)


def random_masks(steps=4, size=(5, 6), seed=0):
    return torch.rand(steps, *size, generator=torch.Generator().manual_seed(seed))


def test_mask_scores_are_means_of_the_own_pixels():
    masks = random_masks()
    masks[1] = 0.5  # not above one half: empty
    masks[2] = 0
    masks[2, 1, 1] = 0.75  # one pixel
    for mask, score in zip(masks, mask_scores(masks)):
        own = [p for p in mask.flatten().tolist() if p > 0.5]
        assert score.item() == pytest.approx(sum(own) / len(own) if own else 0)
    assert mask_scores(masks)[1:3].tolist() == [0, 0.75]
    assert mask_scores(torch.zeros(0, 3, 4)).shape == (0,)


def winners_by_hand(masks, threshold):
    """Per pixel the step that keeps it, or None."""
    keeps = {}
    steps, height, width = masks.shape
    for r in range(height):
        for c in range(width):
            column = masks[:, r, c].tolist()
            claims = [t for t in range(steps) if column[t] > threshold]
            keeps[r, c] = claims[0] if claims else None
    return keeps


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_a_pixel_is_left_to_one_mask(threshold):
    masks = random_masks()
    masks[3, 0] = masks[1, 0]  # equals: the earlier step wins
    left = without_overlap(masks, "first", threshold)
    keeps = winners_by_hand(masks, threshold)
    assert len(set(keeps.values())) > 3
    for (r, c), winner in keeps.items():
        claimed = (left[:, r, c] > threshold).nonzero().flatten().tolist()
        assert claimed == ([] if winner is None else [winner])
        if winner is not None:
            assert left[winner, r, c] == masks[winner, r, c]
            assert not left[winner + 1 :, r, c].any()
        else:  # which nobody has won, nobody has lost
            assert torch.equal(left[:, r, c], masks[:, r, c])


def test_the_first_keeps_a_pixel_of_which_a_later_mask_is_surer():
    masks = torch.tensor([0.6, 0.9]).reshape(2, 1, 1)
    assert without_overlap(masks, "first").flatten().tolist() == pytest.approx([0.6, 0])
    assert torch.equal(without_overlap(masks, ""), masks)


@pytest.mark.parametrize("rule", OVERLAP_RULES)
def test_no_masks(rule):
    assert without_overlap(torch.zeros(0, 3, 4), rule).shape == (0, 3, 4)


SETTINGS = InferenceSettings(
    max_steps=9, stop_threshold=0.5, mask_threshold=0.5, min_area=1, overlap="", score=(),
    all_classes=False, max_instances=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 2),  # what comes after the end does not count
        ({"stop_threshold": 0.0}, 5),
        ({"stop_threshold": 0.0, "max_steps": 4}, 4),
        ({"stop_threshold": 0.5, "max_steps": 1}, 1),
        ({"stop_threshold": 0.6}, 1),  # a probability that equals it still goes on
        ({"stop_threshold": 0.61}, 0),
    ],
)
def test_steps_before_the_end_are_counted(changes, count):
    objectness = torch.tensor([0.6, 0.5, 0.4, 0.9, 0.1])
    objectness[1] += 0.05 * (changes == {})
    assert count_steps(objectness, replace(SETTINGS, **changes)) == count
    assert count_steps(objectness[:0], replace(SETTINGS, **changes)) == 0


def sequence():
    """Masks, class probabilities of two classes and objectness of four steps."""
    generator = torch.Generator().manual_seed(1)
    classes = torch.rand(4, 2, generator=generator).softmax(dim=1)
    return random_masks(), classes, torch.rand(4, generator=generator)


@pytest.mark.parametrize(
    "parts", [[], ["class"], ["objectness"], ["mask"], ["mask", "class"], list(SCORE_PARTS)]
)
def test_a_score_is_the_product_of_its_parts(parts):
    masks, classes, objectness = sequence()
    step, scores, found = score_instances(
        masks, classes, objectness, parts=parts, all_classes=False
    )
    assert step.tolist() == [0, 1, 2, 3]
    assert step.dtype == found.dtype == torch.int64
    for t, (score, k) in enumerate(zip(scores.tolist(), found.tolist())):
        row = classes[t].tolist()
        assert k == row.index(max(row))
        own = masks[t][masks[t] > 0.5].mean().item()
        factors = {"class": row[k], "objectness": objectness[t].item(), "mask": own}
        expected = 1
        for part in parts:
            expected *= factors[part]
        assert score == pytest.approx(expected)


def test_all_classes_gives_every_mask_once_for_each():
    masks, classes, objectness = sequence()
    step, scores, found = score_instances(
        masks, classes, objectness, parts=SCORE_PARTS, all_classes=True
    )
    pairs = list(zip(step.tolist(), found.tolist()))
    assert sorted(pairs) == [(t, k) for t in range(4) for k in range(2)]
    own = mask_scores(masks)
    for (t, k), score in zip(pairs, scores.tolist()):
        assert score == pytest.approx((classes[t, k] * objectness[t] * own[t]).item())


@pytest.mark.parametrize("all_classes", [False, True])
def test_no_steps(all_classes):
    nothing = torch.zeros(0, 5, 6), torch.zeros(0, 3), torch.zeros(0)
    step, scores, found = score_instances(*nothing, parts=SCORE_PARTS, all_classes=all_classes)
    assert step.shape == scores.shape == found.shape == (0,)
    assert found.dtype == torch.int64
