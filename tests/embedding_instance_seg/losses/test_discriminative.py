"""The discriminative loss against loops, closed forms and its invariances."""

import pytest
import torch

from embedding_instance_seg.losses import discriminative_loss, instance_moments
from instance_seg_analysis.benchmark.timing import peak_memory

NAMES = ("loss_variance", "loss_distance", "loss_regularization")
WEIGHTS = (1.0, 2.0, 0.3)


def reference_loss(embeddings, instance_ids, class_ids=None, delta_var=0.5, delta_dist=1.5):
    """Equations 1 to 3 of the paper in loops over images, classes, instances and pairs."""
    if class_ids is None:
        class_ids = torch.zeros_like(instance_ids)
    total = embeddings.sum() * torch.zeros(3, dtype=embeddings.dtype)
    for image, ids, classes in zip(embeddings, instance_ids, class_ids):
        present = classes[ids > 0].unique()
        for c in present:
            instances = [image[:, (ids == i) & (classes == c)] for i in ids.unique() if i > 0]
            terms = reference_class([x for x in instances if x.numel()], delta_var, delta_dist)
            total = total + terms / len(present) / len(embeddings)
    return total


def reference_class(instances, delta_var, delta_dist):
    means = [x.mean(1) for x in instances]
    count = len(means)
    variance = distance = regularization = 0
    for x, mean in zip(instances, means):
        excess = [(pixel - mean).norm() - delta_var for pixel in x.t()]
        variance += sum(e.clamp(min=0) ** 2 for e in excess) / len(excess) / count
        regularization += mean.norm() / count
    for a in range(count):
        for b in range(count):
            if a != b:
                gap = (2 * delta_dist - (means[a] - means[b]).norm()).clamp(min=0)
                distance += gap**2 / (count * (count - 1))
    return torch.stack([torch.as_tensor(x) for x in (variance, distance, regularization)])


def loss_terms(*args, **kwargs):
    """The three terms (3,)."""
    losses = discriminative_loss(*args, **kwargs)
    assert tuple(losses) == NAMES and all(x.shape == () for x in losses.values())
    return torch.stack(list(losses.values()))


def value_and_gradient(function, embeddings, *args, **kwargs):
    embeddings = embeddings.detach().clone().requires_grad_()
    terms = function(embeddings, *args, **kwargs)
    (terms * terms.new_tensor(WEIGHTS)).sum().backward()
    return terms.detach(), embeddings.grad


def random_scene(batch=3, channels=4, size=(9, 11), num_ids=5, seed=0, dtype=torch.float64):
    """Embeddings of which many pixels are beyond the margin, ids -1..num_ids, classes 0..2."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, channels, *size, generator=generator, dtype=dtype)
    ids = torch.randint(-1, num_ids + 1, (batch, *size), generator=generator)
    classes = torch.randint(0, 3, (batch, *size), generator=generator)
    return embeddings, ids, classes


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("margins", [{}, {"delta_var": 0.0, "delta_dist": 0.4}])
def test_equals_the_loops(per_class, margins):
    embeddings, ids, classes = random_scene()
    ids[1] = 0  # an image without instances between two with
    classes = classes if per_class else None
    value, gradient = value_and_gradient(loss_terms, embeddings, ids, classes, **margins)
    expected, expected_gradient = value_and_gradient(
        reference_loss, embeddings, ids, classes, **margins
    )
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-11, atol=1e-15)


def test_float32_on_an_image_of_several_blocks_equals_double():
    embeddings, ids, classes = random_scene(1, 3, (190, 200), num_ids=3, dtype=torch.float32)
    embeddings += 30  # far from the origin, where precision is lost first
    value, gradient = value_and_gradient(loss_terms, embeddings, ids, classes)
    expected = value_and_gradient(loss_terms, embeddings.double(), ids, classes)
    torch.testing.assert_close(value, expected[0].float(), rtol=1e-5, atol=0)
    assert (gradient - expected[1]).abs().max() < 1e-3 * expected[1].abs().max()


def test_gradients_are_those_of_finite_differences():
    embeddings, ids, classes = random_scene(batch=2, channels=3, size=(4, 5), num_ids=3)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss_terms(x, ids, classes), embeddings)


def test_instance_moments():
    pixels = random_scene(batch=1, channels=3, size=(4, 5))[0][0].flatten(1).requires_grad_()
    # Group 1 has no pixels.
    groups = torch.tensor([-1, 0, 2, 3]).repeat(5)
    means, hinges = instance_moments(pixels, groups, 4, delta_var=0.5)
    assert means.shape == (4, 3) and hinges.shape == (4,)
    assert not means[1].any() and hinges[1] == 0
    for group in (0, 2, 3):
        x = pixels[:, groups == group]
        excess = ((x - x.mean(1, keepdim=True)).norm(dim=0) - 0.5).clamp(min=0)
        torch.testing.assert_close(means[group], x.mean(1))
        torch.testing.assert_close(hinges[group], excess.square().mean())
    assert torch.autograd.gradcheck(lambda x: instance_moments(x, groups, 4, delta_var=0.5), pixels)


def test_more_groups_than_short_integers():
    count = 2**15 + 1
    pixels = torch.arange(float(count))[None]
    means, hinges = instance_moments(pixels, torch.arange(count).flip(0), count, delta_var=0.5)
    assert torch.equal(means[:, 0], pixels[0].flip(0)) and not hinges.any()


def test_value_known_in_closed_form():
    # Means at 0 and 2 on the first axis, pixels 1 beside them on the second.
    x = torch.tensor([[0.0, 0.0, 2.0, 2.0, 50.0], [1.0, -1.0, 1.0, -1.0, 50.0]])[None, :, None]
    ids = torch.tensor([[[3, 3, 9, 9, 0]]])
    losses = discriminative_loss(x, ids)
    assert losses["loss_variance"] == pytest.approx((1 - 0.5) ** 2)
    assert losses["loss_distance"] == pytest.approx((2 * 1.5 - 2) ** 2)
    assert losses["loss_regularization"] == pytest.approx((0 + 2) / 2)
    halved = discriminative_loss(x.repeat(2, 1, 1, 1), torch.cat([ids, 0 * ids]))
    assert all(halved[name] == pytest.approx(losses[name].item() / 2) for name in NAMES)


def test_four_hundred_instances():
    # Instance k at (2 k, 0): only neighbours, of which there are 399 pairs, are within 3.
    ids = torch.arange(1, 401).repeat(2)[None, None]
    x = torch.stack([2.0 * (ids - 1), torch.ones_like(ids).index_fill(2, torch.arange(400), -1)], 1)
    variance, distance, regularization = loss_terms(x, ids)
    assert variance == pytest.approx(0.25)
    assert distance == pytest.approx(2 * 399 / (400 * 399))
    assert regularization == pytest.approx(399)


@pytest.mark.parametrize("fill", [0, -1])
def test_no_instances_is_zero_and_connected(fill):
    embeddings, ids, classes = random_scene()
    value, gradient = value_and_gradient(loss_terms, embeddings, ids.fill_(fill), classes)
    assert not value.any() and gradient.shape == embeddings.shape and not gradient.any()


def test_one_instance_has_no_distance():
    embeddings, ids, _ = random_scene()
    value, gradient = value_and_gradient(loss_terms, embeddings, (ids > 2).long())
    assert value[0] > 0 and value[1] == 0 and gradient.isfinite().all()


def test_instances_of_one_pixel_have_no_variance():
    embeddings, _, _ = random_scene(batch=1, size=(3, 4))
    ids = torch.arange(1, 13).reshape(1, 3, 4)
    value, gradient = value_and_gradient(loss_terms, embeddings, ids)
    expected = value_and_gradient(reference_loss, embeddings, ids)
    assert value[0] == 0 and value[1] > 0
    torch.testing.assert_close((value, gradient), expected)


def test_instances_that_fill_the_image():
    embeddings, ids, _ = random_scene()
    value = loss_terms(embeddings, ids.clamp(min=1))
    torch.testing.assert_close(value, reference_loss(embeddings, ids.clamp(min=1)))


def test_background_and_ignored_pixels_do_not_count():
    embeddings, ids, classes = random_scene()
    expected, gradient = value_and_gradient(loss_terms, embeddings, ids, classes)
    left_out = (ids <= 0)[:, None]
    assert not (gradient * left_out).any()
    changed = torch.where(left_out, 100.0, embeddings)
    assert torch.equal(loss_terms(changed, ids, classes), expected)
    other_class = torch.where(ids > 0, classes, -1)
    assert torch.equal(loss_terms(embeddings, ids, other_class), expected)


def test_classes_are_apart():
    x = torch.zeros(1, 2, 1, 4)
    ids = torch.tensor([[[7, 7, 7, 8]]])
    classes = torch.tensor([[[0, 0, 5, 5]]])
    # Id 7 of class 0 and id 7 of class 5 are two instances; only those of class 5 repel.
    assert loss_terms(x, ids, classes)[1] == pytest.approx(3**2 / 2)
    assert loss_terms(x, ids)[1] == pytest.approx(3**2)
    assert loss_terms(x, torch.ones_like(ids), classes)[1] == 0


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("numbers", [(5, 3, 1, 2, 4), (1000, 7, 300, 256, 10**9)])
def test_numbers_of_the_instances_do_not_matter(per_class, numbers):
    embeddings, ids, classes = random_scene()
    classes = classes if per_class else None
    table = torch.tensor([0, *numbers, -1])  # -1 is also the last index
    value, gradient = value_and_gradient(loss_terms, embeddings, table[ids], classes)
    expected = value_and_gradient(loss_terms, embeddings, ids, classes)
    torch.testing.assert_close((value, gradient), expected, rtol=1e-12, atol=1e-15)


def test_equal_embeddings_have_gradient_zero():
    embeddings, ids, classes = random_scene()
    value, gradient = value_and_gradient(loss_terms, torch.zeros_like(embeddings), ids, classes)
    assert value[0] == 0 and value[1] == pytest.approx(9) and not gradient.any()
    embeddings = torch.full_like(embeddings, 0.5).requires_grad_()
    loss_terms(embeddings, ids, classes, delta_var=0)[:2].sum().backward()
    assert not embeddings.grad.any()


def test_pixel_at_its_mean_gets_no_pull():
    x = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    value, gradient = value_and_gradient(loss_terms, x, torch.ones(1, 1, 3).long(), delta_var=0)
    assert value[0] == pytest.approx(2 / 3) and value[2] == 0
    torch.testing.assert_close(gradient.flatten(), torch.tensor([-2 / 3, 0.0, 2 / 3]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_with_and_without_autocast(dtype):
    embeddings, ids, classes = random_scene()
    expected = loss_terms(embeddings.to(dtype).double(), ids, classes)
    x = embeddings.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss_terms(x, ids, classes)
    terms = loss_terms(x, ids, classes)
    assert torch.equal(cast, terms)
    assert terms.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(terms.double(), expected, rtol=1e-5, atol=1e-6)
    cast.sum().backward()
    assert x.grad.dtype == dtype and x.grad.isfinite().all()


def test_layout_of_the_input_does_not_matter():
    embeddings, ids, classes = random_scene(size=(12, 10))
    expected = value_and_gradient(loss_terms, embeddings, ids, classes)
    channels_last = embeddings.contiguous(memory_format=torch.channels_last)
    ids, classes = (x.mT.contiguous().mT for x in (ids, classes))
    actual = value_and_gradient(loss_terms, channels_last, ids, classes)
    torch.testing.assert_close(actual, expected)
    padded = torch.nn.functional.pad(embeddings, (1, 2, 3, 4))[..., 3:-4, 1:-2]
    assert torch.equal(loss_terms(padded, ids, classes), expected[0])


def test_memory_does_not_grow_with_pixels_times_instances():
    size, instances = 240, 400
    embeddings = torch.randn(1, 4, size, size, requires_grad=True)
    blocks = torch.arange(1, instances + 1).reshape(20, 20)
    ids = blocks.repeat_interleave(12, 0).repeat_interleave(12, 1)[None]

    def forward_backward():
        torch.autograd.grad(loss_terms(embeddings, ids).sum(), embeddings)

    assert peak_memory(forward_backward) < size * size * instances  # less than a byte of each pair


def test_gradient_descent_on_it_separates_the_instances():
    _, ids, _ = random_scene(batch=1, num_ids=3)
    torch.manual_seed(0)
    x = torch.randn(1, 2, *ids.shape[1:]).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        loss_terms(x, ids)[:2].sum().backward()
        optimizer.step()
    assert loss_terms(x, ids)[:2].max() < 1e-3
    own = [x[0][:, ids[0] == i] for i in (1, 2, 3)]
    means = torch.stack([pixels.mean(1) for pixels in own])
    for index, pixels in enumerate(own):
        assert (torch.cdist(pixels.t(), means).argmin(1) == index).all()


@pytest.mark.parametrize("wrong", ["instance_ids", "class_ids"])
def test_sizes_that_do_not_fit_are_named(wrong):
    embeddings, ids, classes = random_scene()
    maps = {"instance_ids": ids, "class_ids": classes}
    maps[wrong] = maps[wrong][:, ::2]
    with pytest.raises(ValueError, match=rf"{wrong} are \(3, 5, 11\).*need \(3, 9, 11\)"):
        discriminative_loss(embeddings, **maps)
