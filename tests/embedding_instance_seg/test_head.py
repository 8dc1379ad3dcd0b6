"""Decoder, outputs and positions."""

import pytest
import torch
from tiny_embedding import item, tiny_head
from torch.nn import functional as F

from embedding_instance_seg.head import (
    INITIAL_BANDWIDTH,
    PyramidDecoder,
    positions,
    relative_positions,
)

NORM = {f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
NORM |= {"norm.num_batches_tracked"}


def inputs(height=32, width=48):
    """Features of strides 4 and 8, images, and sizes without padding of a batch of two."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 8, height // s, width // s, generator=generator) for s in (4, 8)]
    images = torch.randn(2, 3, height, width, generator=generator)
    return features, images, [(height, width), (height - 8, width - 9)]


def run(head):
    return head(*inputs())


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_shapes_and_types(stride):
    outputs = run(tiny_head(stride, position_unit=8.0, seeds=True))
    size = (32 // stride, 48 // stride)
    assert outputs["semantic"].shape == (2, 3, *size)
    assert outputs["embedding"].shape == (2, 4, *size)
    assert outputs["seed"].shape == outputs["log_bandwidth"].shape == (2, *size)
    assert {x.dtype for x in outputs.values()} == {torch.float32}


def decoder_of(stride, **changes):
    """With other channels at each stride."""
    torch.manual_seed(0)
    widths = {s: w for s, w in ((4, 7), (2, 6), (1, 5)) if s >= stride}
    options = {"channels": 9, "image_channels": 3, "coordinates": False, "norm": "", **changes}
    return PyramidDecoder([8, 8], widths=widths, **options)


def enlarge(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def decode_by_hand(decoder, features, images):
    """Every step at its stride, and each projection after the enlarging instead of before it."""
    fine, coarse = (level(x) for level, x in zip(decoder.levels, features))
    x = decoder.fuse(fine + enlarge(coarse, 2))
    if len(decoder.details) == 1:
        details = [decoder.details[0](images)]
    elif decoder.details:
        whole = decoder.details[0](images)
        details = [decoder.details[1](whole), whole]
    for index in range(len(decoder.details)):
        refine = decoder.refinements[index]
        x = refine.fuse(refine.project(enlarge(x, 2)) + details[index])
    return x


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_decoder_refines_stride_by_stride(stride):
    decoder, (features, images, sizes) = decoder_of(stride), inputs()
    found = decoder(features, images, sizes)
    assert decoder.output_stride == stride
    assert decoder.out_channels == found.shape[1] == {4: 7, 2: 6, 1: 5}[stride]
    assert found.shape[2:] == (32 // stride, 48 // stride)
    torch.testing.assert_close(found, decode_by_hand(decoder, features, images))


@pytest.mark.parametrize(("stride", "reach"), [(1, 9), (2, 8), (4, None)])
def test_what_a_pixel_of_the_image_changes_is_around_it(stride, reach):
    """Below stride 4 the image itself is seen, and only near by; at stride 4 it is not."""
    decoder, (features, images, sizes) = decoder_of(stride), inputs()
    changed = images.clone()
    changed[:, :, 16, 21] += 5.0
    with torch.no_grad():
        before, after = (decoder(features, x, sizes) for x in (images, changed))
    cells = (before - after).abs().amax(dim=(0, 1)).nonzero()
    if reach is None:
        assert len(cells) == 0
    else:
        away = ((cells + 0.5) * stride - torch.tensor([16.5, 21.5])).abs().amax(dim=1)
        assert away.min() < stride and away.max() <= reach


def of_convolution(name, last):
    return {f"{name}.{parameter}" for parameter in ("weight", *last)}


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(("norm", "last"), [("BN", NORM), ("", {"bias"})])
def test_names_and_shapes_of_the_parameters(stride, norm, last):
    """Trained models know the parts by these names."""
    names = {"predict.weight", "predict.bias"}
    for part in ("levels.0", "levels.1", "fuse"):
        names |= of_convolution(f"decoder.{part}", last)
    for number in range({4: 0, 2: 1, 1: 2}[stride]):
        names |= of_convolution(f"decoder.details.{number}", last)
        names |= of_convolution(f"decoder.refinements.{number}.fuse", last)
        names |= of_convolution(f"decoder.refinements.{number}.project", {"bias"})
    state = tiny_head(stride, norm=norm, seeds=True).state_dict()
    assert set(state) == names
    # Three semantic outputs, four of the embedding, seed and bandwidth: one layer for all.
    assert state["predict.weight"].shape == (3 + 4 + 2, 8, 1, 1)


def test_stride_one_adds_half_as_wide_a_stage():
    """The first detail reads the image at its own stride, and the next one reads that."""
    fine, coarse = decoder_of(1).state_dict(), decoder_of(2).state_dict()
    assert fine["details.0.weight"].shape == (5, 3, 3, 3)
    assert fine["details.1.weight"].shape == (6, 5, 3, 3)
    assert coarse["details.0.weight"].shape == (6, 3, 3, 3)
    assert fine["refinements.0.project.weight"].shape == (6, 7, 1, 1)
    assert fine["refinements.1.project.weight"].shape == (5, 6, 1, 1)
    assert set(fine) - set(coarse) == {
        *(f"details.1.{name}" for name in ("weight", "bias")),
        *(
            f"refinements.1.{part}.{name}"
            for part in ("project", "fuse")
            for name in ("weight", "bias")
        ),
    }


# Pixels from the rim of an image in which its padding is seen: the 3 x 3 convolutions at strides 8,
# 4, 2 and 1, and the enlarging to 4, 2 and 1, one cell each of the coarser stride.
HALOS = {4: 8 + 8 + 4, 2: 8 + 8 + 4 + 4 + 2, 1: 8 + 8 + 4 + 4 + 2 + 2 + 1}


def with_statistics(model):
    """Batch norm as after a training: statistics that are not 0 and 1, and other scales."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.uniform_(-1, 1, generator=generator)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2, generator=generator)
    return model


@pytest.mark.parametrize("stride", HALOS)
def test_an_image_in_a_padded_batch_is_as_alone_but_for_its_rim(build_tiny, stride):
    options = {"seeds": True, "position_unit": 8.0, "norm": "BN"}
    model = with_statistics(build_tiny(stride=stride, **options)).eval()
    small, large = item(64, 64), item(96, 112)
    with torch.no_grad():
        alone, _ = model.network([small])
        padded, _ = model.network([small, large])
        padded = {name: x[:1, ..., : 64 // stride, : 64 // stride] for name, x in padded.items()}
        inner = (64 - HALOS[stride]) // stride
        for name, x in alone.items():
            assert x.shape == padded[name].shape
            a, b = (y[..., :inner, :inner] for y in (x, padded[name]))
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        # The rim does differ: what is compared is not blind.
        assert (alone["embedding"] - padded["embedding"]).abs().max() > 1e-2


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
