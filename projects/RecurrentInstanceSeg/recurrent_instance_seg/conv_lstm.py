"""A convolutional LSTM cell that reads one part of its input once for all steps.

Shape shorthand in this module:
    B: images in the batch   D: hidden channels   H, W: the cell's grid
"""

from collections.abc import Iterable, Sequence
from typing import Optional, cast

import torch
from torch import Tensor, nn

KERNEL_SIZE = 3
# Of the initial weights against those of a convolution: two sigmoids and two tanh shrink what
# passes through a cell, and coarse levels pass through several.
GAIN = 2.0


class ConvLSTMCell(nn.Module):
    """Gates by convolution, without peepholes.

    The convolution of ``[constant input, step input, hidden state]`` is linear, so the part that
    reads the constant input is computed once an image (:meth:`prepare`) and added at every step:
    the very result of one convolution of everything, for fewer multiplications.

    Source: Shi et al. 2015 (Convolutional LSTM Network), Eq. 3 without the peepholes.

    Args:
        constant_channels (int): of the input that is the same at all steps; may be 0.
        step_channels (int): of the input that changes; may be 0.
        hidden_channels (int): D.
        biases (tuple[float, float, float]): of input, forget and output gate before training.
    """

    def __init__(
        self,
        constant_channels: int,
        step_channels: int,
        hidden_channels: int,
        *,
        biases: Sequence[float] = (0, 0, 0),
    ):
        super().__init__()
        self.hidden_channels = hidden_channels
        gates, around = 4 * hidden_channels, KERNEL_SIZE // 2
        self.step = nn.Conv2d(step_channels + hidden_channels, gates, KERNEL_SIZE, padding=around)
        self.constant = None
        if constant_channels:
            self.constant = nn.Conv2d(
                constant_channels, gates, KERNEL_SIZE, padding=around, bias=False
            )
        # As if one convolution had all inputs: the bound falls with their number.
        inputs = constant_channels + step_channels + hidden_channels
        bound = GAIN * (KERNEL_SIZE**2 * inputs) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            for gate, bias in zip(self.step.get_parameter("bias").chunk(4), biases):
                gate += bias

    def prepare(self, constant: Tensor) -> Tensor:
        """The constant part of the gates.

        Args:
            constant (Tensor): (B, constant_channels, H, W) float.

        Returns:
            Tensor: (B, 4 D, H, W): input, forget, output and cell gates in this order.
        """
        assert self.constant is not None, "constant_channels is 0"
        return self.constant(constant)

    def forward(
        self,
        prepared: Optional[Tensor],
        step_inputs: "list[Tensor]",
        state: Optional[tuple[Tensor, Tensor]] = None,
    ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            prepared (Tensor or None): of :meth:`prepare`; None for a cell without constant input.
            step_inputs (list[Tensor]): (B, c, H, W) each, ``step_channels`` in all.
            state (tuple[Tensor, Tensor] or None): hidden state and cell, (B, D, H, W) each; None is
                zero.

        Returns:
            tuple[Tensor, Tensor]: the new hidden state and cell.
        """
        if state is None:
            like = step_inputs[0] if prepared is None else prepared
            zero = like.new_zeros(len(like), self.hidden_channels, *like.shape[-2:])
            state = (zero, zero)
        hidden, cell = state
        gates = self.step(torch.cat([*step_inputs, hidden], dim=1))
        if prepared is not None:
            gates = gates + prepared
        enter, forget, leave, candidate = (_packed(gate) for gate in gates.chunk(4, dim=1))
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


def prepare_cells(cells: nn.ModuleList, constants: Iterable[Tensor]) -> "list[Tensor]":
    """:meth:`ConvLSTMCell.prepare` of each cell and its constant input."""
    return [cast(ConvLSTMCell, cell).prepare(x) for cell, x in zip(cells, constants)]


def _packed(x: Tensor) -> Tensor:
    """``x`` without gaps in memory and with its channels together, as the convolutions have them: a
    sigmoid of every fourth run of numbers takes twice as long."""
    return x.contiguous(memory_format=torch.channels_last)
