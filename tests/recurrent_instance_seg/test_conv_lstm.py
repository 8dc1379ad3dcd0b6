"""The cell against the textbook's gates, one by one."""

import math

import pytest
import torch
from torch.nn import functional as F

from recurrent_instance_seg.conv_lstm import GAIN, ConvLSTMCell

GATES = ("input", "forget", "output", "candidate")


def convolve(x, weight):
    """Convolution that keeps the size, zeros around."""
    return F.conv2d(F.pad(x, [weight.shape[-1] // 2] * 4), weight)


def textbook_step(cell, constant, step_inputs, hidden, memory):
    """Shi et al. 2015, Eq. 3 without the peepholes: every gate and every input by itself."""
    width = cell.hidden_channels
    arrivals = {}
    for number, gate in enumerate(GATES):
        own = slice(number * width, (number + 1) * width)
        total = cell.step.bias[own][:, None, None]
        if constant is not None:
            total = total + convolve(constant, cell.constant.weight[own])
        first = 0
        for x in (*step_inputs, hidden):
            total = total + convolve(x, cell.step.weight[own, first : first + x.shape[1]])
            first += x.shape[1]
        arrivals[gate] = total
    i, f, o = (1 / (1 + torch.exp(-arrivals[gate])) for gate in GATES[:3])
    memory = f * memory + i * torch.tanh(arrivals["candidate"])
    return o * torch.tanh(memory), memory


def inputs(channels, size=(4, 5), seed=0):
    """One (2, c, h, w) double for each number of channels."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, *size, generator=generator).double() for c in channels]


def unroll(cell, constant, sequence, state=None):
    """All hidden states and cells of a sequence of lists of step inputs."""
    prepared = None if constant is None else cell.prepare(constant)
    states = []
    for step_inputs in sequence:
        state = cell(prepared, step_inputs, state)
        states.append(state)
    return states


@pytest.mark.parametrize(
    ("constant_channels", "step_channels"), [(3, []), (3, [2]), (2, [2, 1]), (0, [4])]
)
def test_equals_the_textbook(constant_channels, step_channels):
    torch.manual_seed(0)
    cell = ConvLSTMCell(constant_channels, sum(step_channels), 3, biases=(0.3, -0.2, 0.1))
    cell.double()
    constant = inputs([constant_channels])[0] if constant_channels else None
    sequence = [inputs(step_channels, seed=t + 1) for t in range(3)]
    hidden = memory = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for state, step_inputs in zip(unroll(cell, constant, sequence), sequence):
        hidden, memory = textbook_step(cell, constant, step_inputs, hidden, memory)
        torch.testing.assert_close(state, (hidden, memory), rtol=0, atol=1e-14)


def test_float32_stays_close_to_the_textbook():
    torch.manual_seed(0)
    cell = ConvLSTMCell(32, 16, 24)
    constant, step, hidden, memory = (x.float() for x in inputs([32, 16, 24, 24], size=(8, 8)))
    state = cell(cell.prepare(constant), [step], (hidden, memory))
    expected = textbook_step(cell, constant, [step], hidden, memory)
    torch.testing.assert_close(state, expected, rtol=0, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    cell = ConvLSTMCell(1, 1, 2).double()
    x = [a[:, :, :2, :3].requires_grad_() for a in inputs([1, 1, 1, 2, 2])]

    def run(constant, first, second, hidden, memory, *_):
        states = unroll(cell, constant, [[first], [second]], (hidden, memory))
        return states[-1]

    assert torch.autograd.gradcheck(run, (*x, *cell.parameters()), fast_mode=True)


def test_no_state_is_a_state_of_zeros():
    cell = ConvLSTMCell(2, 1, 3).double()
    constant, step = inputs([2, 1])
    zeros = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    prepared = cell.prepare(constant)
    given = cell(prepared, [step], (zeros, zeros))
    torch.testing.assert_close(cell(prepared, [step]), given, rtol=0, atol=0)
    alone = ConvLSTMCell(0, 1, 3).double()
    given = alone(None, [step], (zeros, zeros))
    torch.testing.assert_close(alone(None, [step]), given, rtol=0, atol=0)


def test_biases_open_and_close_the_gates_that_they_name():
    constant, before = inputs([2, 3])
    state = (torch.zeros_like(before), before)
    kept = ConvLSTMCell(2, 0, 3, biases=(-100, 100, 100)).double()
    hidden, memory = kept(kept.prepare(constant), [], state)
    torch.testing.assert_close(memory, before)
    torch.testing.assert_close(hidden, before.tanh())
    renewed = ConvLSTMCell(2, 0, 3, biases=(100, -100, 100)).double()
    own = renewed.constant.weight[-3:]
    expected = torch.tanh(convolve(constant, own) + renewed.step.bias[-3:, None, None])
    hidden, memory = renewed(renewed.prepare(constant), [], state)
    torch.testing.assert_close(memory, expected)
    hushed = ConvLSTMCell(2, 0, 3, biases=(100, 100, -100)).double()
    assert hushed(hushed.prepare(constant), [], state)[0].abs().max() < 1e-30


def test_initial_weights_are_those_of_one_convolution_of_everything():
    torch.manual_seed(0)
    cell = ConvLSTMCell(40, 20, 36, biases=(5.0, 7.0, 9.0))
    bound = GAIN / math.sqrt(9 * (40 + 20 + 36))
    for weight in (cell.constant.weight, cell.step.weight):
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert cell.constant.bias is None
    for part, bias in zip(cell.step.bias.chunk(4), (5, 7, 9, 0)):
        assert 0 < (part - bias).abs().max() <= bound + 1e-6
