"""The seed map against distances from every pixel to every other, and its loss against loops."""

import math

import pytest
import torch

from embedding_instance_seg.losses import seed_loss, seed_targets


def distance_to_the_outside(ids, y, x):
    """From a pixel to the nearest one that is not of its object; the edge of the map is outside."""
    height, width = ids.shape
    return min(
        math.hypot(y - row, x - column)
        for row in range(-1, height + 1)
        for column in range(-1, width + 1)
        if not (0 <= row < height and 0 <= column < width) or ids[row, column] != ids[y, x]
    )


def targets_by_hand(ids):
    """(h, w) float32 from (h, w) int64."""
    result = torch.zeros(ids.shape)
    for k in set(ids[ids > 0].tolist()):
        pixels = (ids == k).nonzero().tolist()
        distances = [distance_to_the_outside(ids, y, x) for y, x in pixels]
        for (y, x), distance in zip(pixels, distances):
            result[y, x] = distance / max(distances)
    return result


def touching():
    """Objects that touch others, the edge and what does not count; in two parts; in a hole."""
    ids = torch.zeros(14, 17, dtype=torch.int64)
    ids[2:9, 3:8], ids[2:9, 8:12], ids[9:11, 2:12] = 5, 900, 2  # touch
    ids[:, 15:] = 7  # at the edge, as long as the map
    ids[0, 0] = 3  # one pixel, in the corner
    ids[12:14, 0:2], ids[12:14, 6:8] = 11, 11  # two parts
    ids[4:7, 5] = 12  # inside of another one
    ids[5, 3:5] = -1
    ids[11, :] = -3
    return ids


WHOLE = torch.full((6, 9), 4)
ONE_PIXEL = torch.zeros(5, 5, dtype=torch.int64).index_put(
    (torch.tensor(2), torch.tensor(3)), torch.tensor(8)
)
MAPS = {
    "touching": touching(),
    "over the whole map": WHOLE,
    "two over the whole map": torch.cat([WHOLE[:4], WHOLE[:3] + 1]),
    "one pixel": ONE_PIXEL,
    "none": torch.zeros(4, 6, dtype=torch.int64),
    "none that counts": torch.full((4, 6), -2),
    "a map of one pixel": torch.ones(1, 1, dtype=torch.int64),
    "random": torch.randint(-1, 4, (10, 11), generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("ids", MAPS.values(), ids=MAPS)
def test_targets_are_the_distances_to_the_nearest_pixel_outside(ids):
    found = seed_targets(ids[None])
    assert found.dtype == torch.float32 and found.shape == (1, *ids.shape)
    torch.testing.assert_close(found[0], targets_by_hand(ids))


@pytest.mark.parametrize("ids", MAPS.values(), ids=MAPS)
def test_every_object_has_one_in_its_middle_and_nothing_else_has_a_value(ids):
    (found,) = seed_targets(ids[None])
    assert all(found[ids == k].max() == 1 for k in set(ids[ids > 0].tolist()))
    assert (found[ids > 0] > 0).all() and (found[ids <= 0] == 0).all()


def test_a_strip_in_numbers():
    ids = torch.zeros(1, 5, 9, dtype=torch.int64)
    ids[0, :, 1:8] = 6  # the edge is as near as the outline: at most 3 pixels inside
    assert seed_targets(ids)[0, 2].tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3, 0]
    )


def test_images_of_a_batch_do_not_see_each_other():
    ids = torch.stack([touching(), touching().flip(1), torch.zeros_like(touching())])
    alone = torch.cat([seed_targets(image[None]) for image in ids])
    assert torch.equal(seed_targets(ids), alone)


def loss_by_hand(logits, ids):
    """Mean over images of the mean over objects and the mean over the background."""
    total = 0.0
    for image, numbers in zip(logits.sigmoid(), ids):
        errors = (image - targets_by_hand(numbers)).abs()
        objects = [errors[numbers == k].mean() for k in set(numbers[numbers > 0].tolist())]
        total += sum(objects) / max(len(objects), 1)
        if (numbers == 0).any():
            total += errors[numbers == 0].mean()
    return total / len(ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("names", [["touching"], ["over the whole map"], ["none"], ["random"]])
def test_loss_is_that_of_the_loop(names, dtype):
    ids = torch.stack([MAPS[name] for name in names] + [torch.zeros_like(MAPS[names[0]])])
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ids.shape, generator=generator, dtype=dtype, requires_grad=True)
    found, expected = seed_loss(logits, ids), loss_by_hand(logits, ids)
    assert found.dim() == 0 and found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), check_dtype=False)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_loss_has_a_minimum_at_the_targets():
    ids = touching()[None]
    perfect = seed_targets(ids).clamp(1e-6, 1 - 1e-6).logit()
    assert float(seed_loss(perfect, ids)) < 1e-5
    assert float(seed_loss(perfect + 0.1, ids)) > 1e-3 < float(seed_loss(perfect - 0.1, ids))


def test_small_objects_count_as_much_as_large_ones():
    ids = torch.zeros(1, 20, 20, dtype=torch.int64)
    ids[0, 2:14, 2:14], ids[0, 18, 18] = 1, 2
    perfect = seed_targets(ids).clamp(1e-6, 1 - 1e-6).logit()
    blind = perfect.clone()
    blind[ids == 2] = -20
    assert float(seed_loss(blind, ids)) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("ids", MAPS.values(), ids=MAPS)
def test_the_logits_stay_in_the_graph(ids):
    """Distributed training waits for the gradient of every parameter."""
    logits = torch.zeros(1, *ids.shape, requires_grad=True)
    loss = seed_loss(logits, ids[None])
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0][ids < 0] == 0).all()
    assert logits.grad.any() == (ids >= 0).any()
    if not (ids >= 0).any():
        assert float(loss.detach()) == 0


def test_autocast_changes_nothing():
    ids = touching()[None]
    logits = torch.randn(ids.shape, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = seed_loss(logits, ids)
    assert torch.equal(found, seed_loss(logits, ids))
    assert seed_loss(logits.bfloat16(), ids).dtype == torch.float32
