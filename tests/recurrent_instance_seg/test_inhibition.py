"""Competition of the pixels against softmax loops in double precision."""

import math

import pytest
import torch

from recurrent_instance_seg.inhibition import SpatialInhibition

SIZE = (4, 5)


def inhibited_by_hand(logits, bias, inside=None):
    """log(exp(x) / sum of exp over the image) + bias, cell after cell."""
    results = []
    for image in range(len(logits)):
        x = logits[image]
        cells = [(r, c) for r in range(SIZE[0]) for c in range(SIZE[1])]
        rivals = [p for p in cells if inside is None or inside[image][p]]
        total = sum(x[p].exp() for p in rivals)
        rows = [torch.log(x[p].exp() / total) + bias for p in cells]
        results.append(torch.stack(rows).reshape(SIZE))
    return torch.stack(results)


def scene():
    """Logits, cells on the image (one without padding)."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, *SIZE, generator=generator)
    inside = torch.ones(2, *SIZE, dtype=torch.bool)
    inside[1, 3:] = inside[1, :, 2:] = False
    return logits, inside


def value_and_gradients(function, logits, *parameters):
    """The result, and the gradients of a weighted sum of it."""
    leaves = [torch.as_tensor(x).detach().clone().requires_grad_() for x in (logits, *parameters)]
    result = function(*leaves)
    weights = torch.linspace(-1, 2, result.numel(), dtype=result.dtype).reshape(result.shape)
    return result.detach(), torch.autograd.grad((result * weights).sum(), leaves)


@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_loops(padded):
    logits, inside = scene()
    inside = inside if padded else None
    module = SpatialInhibition(1.5)
    x = logits.clone().requires_grad_()
    result = module(x, inside)
    weights = torch.linspace(-1, 2, result.numel()).reshape(result.shape)
    (result * weights).sum().backward()

    def by_hand(x, bias):
        return inhibited_by_hand(x, bias, inside)

    bias = torch.tensor(1.5, dtype=torch.float64)
    expected, gradients = value_and_gradients(by_hand, logits.double(), bias)
    torch.testing.assert_close(result, expected.float())
    torch.testing.assert_close(x.grad, gradients[0].float(), rtol=1e-5, atol=1e-5)
    assert module.bias.grad == pytest.approx(gradients[1].item(), rel=1e-5)


def test_gradients_of_the_loops_are_those_of_finite_differences():
    logits, inside = scene()
    leaves = [x.double().requires_grad_() for x in (logits, torch.tensor(1.5))]
    assert torch.autograd.gradcheck(lambda x, b: inhibited_by_hand(x, b, inside), leaves)


def test_raising_one_cell_lowers_all_others():
    logits, _ = scene()
    module = SpatialInhibition(0.0)
    raised = logits.clone()
    raised[0, 1, 2] += 1
    change = module(raised) - module(logits)
    assert change[0, 1, 2] > 0
    assert int((change[0] < 0).sum()) == SIZE[0] * SIZE[1] - 1
    assert not change[1].any()


def test_an_even_mask_exceeds_one_half_on_up_to_exp_of_the_bias_cells():
    cells = 12
    for bias, above in ((math.log(12.1), True), (math.log(11.9), False)):
        logits = torch.full((1, *SIZE), -50.0)
        logits.view(-1)[:cells] = 7.0
        result = SpatialInhibition(bias)(logits).flatten()
        assert ((result[:cells] > 0) == above).all()
        assert (result[cells:] < -40).all()


def test_padding_does_not_compete():
    logits, inside = scene()
    module = SpatialInhibition(1.0)
    expected = module(logits, inside)[inside]
    # What is there does not matter, nor that it is there at all.
    assert torch.equal(module(logits.masked_fill(~inside, 1e30), inside)[inside], expected)
    cropped = module(logits[1:, :3, :2])[0]
    torch.testing.assert_close(module(logits, inside)[1, :3, :2], cropped)


def test_the_bias_alone_is_learned():
    assert [name for name, _ in SpatialInhibition(1.0).named_parameters()] == ["bias"]


def test_large_logits_neither_overflow_nor_vanish():
    logits, _ = scene()
    module = SpatialInhibition(1.0)
    torch.testing.assert_close(module(logits + 3000), module(logits), rtol=0, atol=2e-3)
    assert module(1e4 * logits).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_is_left_before_the_competition(dtype, autocast):
    logits, inside = scene()
    logits, module = logits.to(dtype), SpatialInhibition(1.0)
    expected = module(logits.float(), inside)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result = module(logits, inside)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)


def test_gain_multiplies_the_logits():
    logits, inside = scene()
    expected = SpatialInhibition(1.0)(3 * logits, inside)
    assert torch.equal(SpatialInhibition(1.0, gain=3.0)(logits, inside), expected)
