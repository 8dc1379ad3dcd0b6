"""Images of any depth and number of channels as pictures, and what is said of them."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from instance_seg_common.data.reading import Reading
from instance_seg_common.visualization import panels
from instance_seg_common.visualization.false_colors import (
    display_image,
    display_note,
    load_image,
    note_of,
)


def noise(channels, dtype, seed=0):
    values = np.random.default_rng(seed).random((40, 50, channels))
    return (values * 4000 + 500).astype(dtype)


def slow_stretch(values):
    """[0, 1] between the 1st and the 99th percentile, by sorting."""
    low, high = (np.sort(values.ravel().astype(float)) for _ in range(2))
    last = values.size - 1

    def at(fraction, ordered):
        below = int(np.floor(fraction * last))
        part = fraction * last - below
        return ordered[below] * (1 - part) + ordered[min(below + 1, last)] * part

    low, high = at(0.01, low), at(0.99, high)
    return np.clip((values - low) / (high - low), 0, 1)


def test_8_bit_colours_are_unchanged():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    assert display_image(pixels) is pixels
    assert np.array_equal(display_image(pixels[:, :, :1]), pixels[:, :, [0, 0, 0]])
    assert note_of(3, "uint8") == note_of(1, "uint8") == ""


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64", "int16"])
def test_deep_grey_between_its_percentiles(dtype):
    pixels = noise(1, dtype)
    expected = 255 * slow_stretch(pixels[:, :, 0])
    picture = display_image(pixels)
    assert picture.dtype == np.uint8 and picture.shape == (40, 50, 3)
    assert abs(picture.astype(float) - expected[:, :, None]).max() <= 0.51
    assert note_of(1, dtype) == f"{dtype}, contrast from 1 % to 99 %"


def test_each_of_three_channels_has_its_own_contrast():
    pixels = noise(3, "uint16") * np.array([1, 2, 10], np.uint16)
    picture = display_image(pixels)
    for channel in range(3):
        expected = 255 * slow_stretch(pixels[:, :, channel])
        assert abs(picture[:, :, channel] - expected).max() <= 0.51


def test_two_channels_are_green_and_magenta():
    picture = display_image(noise(2, "uint8"))
    green, magenta = (slow_stretch(noise(2, "uint8")[:, :, i]) * 255 for i in range(2))
    assert abs(picture[:, :, 1] - green).max() <= 0.51
    assert abs(picture[:, :, 0] - magenta).max() <= 0.51
    assert np.array_equal(picture[:, :, 0], picture[:, :, 2])
    assert note_of(2, "uint8") == ("channels 0 green, 1 magenta of 2; contrast from 1 % to 99 %")


@pytest.mark.parametrize("channel", range(4))
def test_an_object_in_any_of_four_channels_is_seen(channel):
    pixels = np.full((40, 50, 4), 100, np.uint8)
    pixels[10:20, 10:20, channel] = 200
    picture = display_image(pixels)
    assert (picture[10:20, 10:20].max(axis=2) == 255).all()
    assert picture[0, 0].max() == 0


@pytest.mark.parametrize(
    ("channels", "shown"),
    [
        (4, "channels 0 red, 1 green, 2 blue, 3 grey of 4"),
        (5, "channels 0 red, 1 green, 2 blue, 3 grey, 4 cyan of 5"),
        (13, "channels 0 red, 1 green, 2 blue of 13"),
    ],
)
def test_which_channels_are_shown_is_said(channels, shown):
    assert note_of(channels, "uint8") == f"{shown}; contrast from 1 % to 99 %"
    assert display_image(noise(channels, "float32")).shape == (40, 50, 3)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int8"])
def test_constant_and_almost_constant_channels(dtype):
    assert (display_image(np.full((9, 9, 1), 7, dtype)) == 0).all()
    pixels = np.zeros((40, 50, 1), dtype)
    pixels[3, 3] = 100  # one pixel in 2000
    assert display_image(pixels)[3, 3].tolist() == [255, 255, 255]


def test_pictures_say_what_was_done(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "deep.tif", noise(1, "uint16")[:, :, 0])
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "plain.png")
    headers = []
    original = panels.drawing.side_by_side
    monkeypatch.setattr(
        panels.drawing,
        "side_by_side",
        lambda some, header, *rest: (headers.append(header), original(some, header, *rest))[1],
    )
    for name in ("deep.tif", "plain.png"):
        record = {"file_name": str(tmp_path / name), "height": 40, "width": 50, "annotations": []}
        panels.annotation_panel(record)
    assert headers[0].endswith("deep.tif   uint16, contrast from 1 % to 99 %   50 x 40 pixels")
    assert headers[1].endswith("50 x 40 pixels")


def test_the_reading_of_a_record_counts(tmp_path):
    pixels = noise(5, "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    record = {"file_name": str(tmp_path / "a.tif"), "reading": Reading(channels=(4,))}
    assert np.array_equal(load_image(record), display_image(pixels[:, :, 4:]))
    assert display_note(record) == "uint16, contrast from 1 % to 99 %"
    stack = noise(3, "uint16").transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "b.tif", stack, metadata=None, photometric="minisblack")
    record = {"file_name": str(tmp_path / "b.tif"), "reading": Reading(planes="each", plane=2)}
    assert np.array_equal(load_image(record), display_image(stack[2][:, :, None]))
