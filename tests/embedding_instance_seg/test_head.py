"""Decoder, branches and positions."""

import pytest
import torch
from tiny_embedding import tiny_head

from embedding_instance_seg.head import INITIAL_BANDWIDTH, positions, relative_positions


def run(head, height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 8, height // s, width // s, generator=generator) for s in (4, 8)]
    images = torch.randn(2, 3, height, width, generator=generator)
    return head(features, images, [(height, width), (height - 8, width - 9)])


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_shapes_and_types(stride):
    outputs = run(tiny_head(stride, position_unit=8.0, seeds=True))
    size = (32 // stride, 48 // stride)
    assert outputs["semantic"].shape == (2, 3, *size)
    assert outputs["embedding"].shape == (2, 4, *size)
    assert outputs["seed"].shape == outputs["log_bandwidth"].shape == (2, *size)
    assert {x.dtype for x in outputs.values()} == {torch.float32}


def test_all_bandwidths_start_near_the_initial_one():
    outputs = run(tiny_head(seeds=True))
    assert outputs["log_bandwidth"].exp().min() > 0.8 * INITIAL_BANDWIDTH
    assert outputs["log_bandwidth"].exp().max() < 1.2 * INITIAL_BANDWIDTH


def test_semi_convolutional_embedding_is_the_plain_one_plus_the_position():
    torch.manual_seed(0)
    plain = tiny_head()
    located = tiny_head(position_unit=8.0)
    located.load_state_dict(plain.state_dict())
    difference = run(located)["embedding"] - run(plain)["embedding"]
    assert difference[:, 2:].abs().max() == 0
    # The cell of row 3, column 5 is centred on pixel coordinates x = 11, y = 7.
    assert difference[1, :2, 3, 5].tolist() == pytest.approx([11 / 8, 7 / 8], abs=1e-5)


def test_coordinates_are_relative_to_each_image():
    """What the network sees at an image's pixel does not change with the padding of its batch."""
    torch.manual_seed(0)
    head = tiny_head(coordinates=True)
    plain = tiny_head()
    wider = head.decoder.fuse.weight
    assert wider.shape[1] == plain.decoder.fuse.weight.shape[1] + 2
    flat = [torch.ones(1, 8, 8, 12), torch.ones(1, 8, 4, 6)]
    image = torch.ones(1, 3, 32, 48)
    with torch.no_grad():
        one = head(flat, image, [(32, 48)])["embedding"]
        other = head(flat, image, [(24, 48)])["embedding"]
        wider[:, -2:] = 0
        blind = head(flat, image, [(24, 48)])["embedding"]
        assert (one - other).abs().max() > 1e-3
        assert torch.equal(blind, head(flat, image, [(32, 48)])["embedding"])


def test_positions():
    grid = positions(2, 3, 4)
    assert grid[0].tolist() == [[2, 6, 10], [2, 6, 10]]
    assert grid[1].tolist() == [[2, 2, 2], [6, 6, 6]]


def test_relative_positions_do_not_depend_on_the_padding():
    alone = relative_positions([(8, 16)], height=4, width=8, stride=2)
    padded = relative_positions([(8, 16), (32, 32)], height=16, width=16, stride=2)
    assert torch.equal(padded[0, :, :4, :8], alone[0])
    assert float(alone.min()) == pytest.approx(-1 + 2 / 16)
    assert float(alone[:, 0].max()) == pytest.approx(1 - 2 / 16)
