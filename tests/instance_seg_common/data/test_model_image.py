"""From files and pixels of any depth and number of channels to what a model takes."""

import logging
from collections import Counter

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from instance_seg_common.data.model_image import given_model_image, open_model_image
from instance_seg_common.data.normalization import stretched
from instance_seg_common.data.reading import READING, Reading
from instance_seg_common.errors import UserError

SIZE = (12, 17)


def read_model_image(cfg, record):
    return open_model_image(cfg, record).cut()


def pixels_to_model_image(cfg, pixels):
    return given_model_image(cfg, pixels).cut()


@pytest.fixture
def cfg_of(stock_cfg):
    """cfg_of(channels, **INPUT keys) -> a config of so many channels."""

    def make(channels=3, **keys):
        cfg = stock_cfg.clone()
        cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [1.0] * channels
        for key, value in keys.items():
            cfg.INPUT[key] = value
        return cfg

    return make


def noise(channels=3, dtype=np.uint8, largest=255):
    values = np.random.default_rng(0).integers(0, largest + 1, (*SIZE, channels))
    return values.astype(dtype)


def record_of(folder, pixels, name="a.png", **reading):
    """A record of a file with these pixels: what Pillow writes, else a TIFF."""
    path = folder / name
    if path.suffix == ".tif":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    else:
        Image.fromarray(pixels.squeeze()).save(path)
    return {"file_name": str(path), **({READING: Reading(**reading)} if reading else {})}


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("order", ["BGR", "RGB", "L", "YUV-BT.601"])
def test_8_bit_files_are_what_detectron2_reads(cfg_of, tmp_path, order, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(noise(4), "RGBA").convert("RGB").convert(mode).save(path)
    image = read_model_image(cfg_of(FORMAT=order), {"file_name": str(path)})
    expected = read_image(str(path), order)
    assert image.dtype == expected.dtype
    assert np.array_equal(image, np.broadcast_to(expected, image.shape))


def test_grey_of_8_bits_for_a_model_of_one_channel(cfg_of, tmp_path):
    pixels = noise(1)
    record = record_of(tmp_path, pixels)
    assert np.array_equal(read_model_image(cfg_of(1), record), pixels)
    assert np.array_equal(read_model_image(cfg_of(1, FORMAT="L"), record), pixels)


def test_colours_for_a_model_of_grey(cfg_of, tmp_path):
    record = record_of(tmp_path, noise(3))
    image = read_model_image(cfg_of(1, FORMAT="L"), record)
    assert np.array_equal(image, read_image(record["file_name"], "L"))
    with pytest.raises(UserError, match=r'a\.png has 3 channels.* 1.*INPUT\.FORMAT: "L"'):
        read_model_image(cfg_of(1), record)
    deep = pixels_to_model_image(cfg_of(1, FORMAT="L"), noise(3, np.uint16, 60_000))
    expected = noise(3, np.uint16, 60_000) @ np.array([0.299, 0.587, 0.114])
    assert np.allclose(deep[:, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint32, np.float32, float])
def test_fixed_leaves_deep_values_as_they_are(cfg_of, dtype):
    pixels = noise(3, dtype, 30_000)
    image = pixels_to_model_image(cfg_of(FORMAT="RGB"), pixels)
    assert image.dtype == np.float32 and np.array_equal(image, pixels)
    assert np.array_equal(pixels_to_model_image(cfg_of(FORMAT="BGR"), pixels), pixels[:, :, ::-1])


def test_one_deep_channel_is_repeated(cfg_of, tmp_path):
    pixels = noise(1, np.uint16, 60_000)
    image = read_model_image(cfg_of(), record_of(tmp_path, pixels))
    assert image.shape == (*SIZE, 3) and np.array_equal(image, np.repeat(pixels, 3, axis=2))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_the_order_of_other_numbers_of_channels_is_that_of_the_file(cfg_of, tmp_path, channels):
    pixels = noise(channels, np.uint16, 4095)
    record = record_of(tmp_path, pixels, "a.tif")
    assert np.array_equal(read_model_image(cfg_of(channels), record), pixels)
    sentence = rf"a\.tif has {channels} channels.* 3.*INPUT\.CHANNELS|a\.tif has 2 channels"
    with pytest.raises(UserError, match=sentence):
        read_model_image(cfg_of(), record)


def test_channels_are_chosen_by_the_config_and_first_by_the_data_set(cfg_of, tmp_path):
    pixels = noise(5, np.uint16, 4095)
    record = record_of(tmp_path, pixels, "a.tif")
    assert np.array_equal(read_model_image(cfg_of(2, CHANNELS=[4, 1]), record), pixels[..., [4, 1]])
    own = record_of(tmp_path, pixels, "b.tif", channels=(3, 0))
    assert np.array_equal(read_model_image(cfg_of(2, CHANNELS=[4, 1]), own), pixels[..., [3, 0]])
    # Three chosen channels count as R, G and B.
    image = read_model_image(cfg_of(CHANNELS=[0, 1, 2], FORMAT="BGR"), record)
    assert np.array_equal(image, pixels[..., [2, 1, 0]])
    one = read_model_image(cfg_of(CHANNELS=[4]), record)
    assert np.array_equal(one, np.repeat(pixels[..., 4:], 3, axis=2))
    given = pixels_to_model_image(cfg_of(2, CHANNELS=[4, 1]), pixels)
    assert np.array_equal(given, pixels[..., [4, 1]])
    with pytest.raises(UserError, match=r"5 channels.*INPUT\.CHANNELS is \[7\]"):
        pixels_to_model_image(cfg_of(1, CHANNELS=[7]), pixels)


def test_alpha_is_left_out_unless_the_model_has_a_channel_for_it(cfg_of, tmp_path):
    pixels = noise(4)
    record = record_of(tmp_path, pixels)
    assert np.array_equal(read_model_image(cfg_of(FORMAT="RGB"), record), pixels[..., :3])
    assert np.array_equal(read_model_image(cfg_of(4), record), pixels)


def slow_stretch(channel, low, high):
    """One channel by sorting, percentiles between two values in proportion."""
    values = sorted(float(v) for v in channel.ravel())

    def percentile(q):
        position = q / 100 * (len(values) - 1)
        below = int(position)
        above = min(below + 1, len(values) - 1)
        return values[below] + (position - below) * (values[above] - values[below])

    a, b = percentile(low), percentile(high)
    return [[255 * (float(v) - a) / (b - a) for v in row] for row in channel]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_percentiles_become_0_and_255_by_channel(dtype):
    pixels = noise(2, dtype, 255)
    pixels[..., 1] //= 3
    result = stretched(pixels, (1.0, 99.8))
    assert result.dtype == np.float32
    for index in range(2):
        assert np.allclose(result[..., index], slow_stretch(pixels[..., index], 1.0, 99.8))
    assert result.min() < 0 and result.max() > 255  # not clipped


def test_the_same_picture_at_any_depth_is_the_same_input(cfg_of):
    pixels = noise(3)
    cfg = cfg_of(NORMALIZATION="percentile")
    expected = pixels_to_model_image(cfg, pixels)
    for deep in (
        pixels.astype(np.uint16) * 257,
        pixels.astype(np.uint16) * 16 + 100,
        pixels.astype(np.uint32) * 16_843_009,
        pixels / 255.0,
        np.float32(pixels) - 1000,
    ):
        assert np.allclose(pixels_to_model_image(cfg, deep), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", [0, 7, 65_535])
def test_a_flat_channel_is_0(level):
    pixels = noise(2, np.uint16, 999)
    pixels[..., 0] = level
    result = stretched(pixels, (1.0, 99.8))
    assert (result[..., 0] == 0).all() and result[..., 1].any()


def test_a_few_bright_pixels_on_0_are_kept():
    pixels = np.zeros((100, 100, 1), np.uint16)
    pixels[50, 50] = 4000
    result = stretched(pixels, (1.0, 99.8))
    assert result[50, 50, 0] == 255 and np.count_nonzero(result) == 1


@pytest.mark.parametrize("way", ["fixed", "percentile"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_a_sentence(cfg_of, value, way):
    pixels = noise(3, np.float32)
    pixels[3, 5, 1] = value
    with pytest.raises(UserError, match="1 pixels .*NaN or infinite.* row 3, column 5"):
        pixels_to_model_image(cfg_of(NORMALIZATION=way), pixels)


def test_deep_values_under_fixed_are_said_once(cfg_of, caplog, monkeypatch):
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    with caplog.at_level(logging.WARNING):
        pixels_to_model_image(cfg_of(), noise())
        pixels_to_model_image(cfg_of(NORMALIZATION="percentile"), noise(3, np.uint16, 60_000))
        assert not caplog.records
        for _ in range(2):
            pixels_to_model_image(cfg_of(), noise(3, np.uint16, 60_000))
    (record,) = caplog.records
    assert "values of uint16" in record.getMessage() and "PIXEL_MEAN" in record.getMessage()


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"NORMALIZATION": "percentil"}, "INPUT.NORMALIZATION"),
        ({"PERCENTILES": [99, 1]}, "INPUT.PERCENTILES"),
        ({"PERCENTILES": [1]}, "INPUT.PERCENTILES"),
        ({"CHANNELS": [-1]}, "INPUT.CHANNELS"),
        ({"FORMAT": "HSV", "NORMALIZATION": "percentile"}, "INPUT.FORMAT"),
    ],
)
def test_keys_that_cannot_be_used_are_named(cfg_of, keys, word):
    with pytest.raises(UserError, match=word):
        pixels_to_model_image(cfg_of(**keys), noise())


def test_std_of_another_length_is_a_sentence(cfg_of):
    cfg = cfg_of()
    cfg.MODEL.PIXEL_STD = [1.0]
    with pytest.raises(UserError, match="PIXEL_STD"):
        pixels_to_model_image(cfg, noise())


@pytest.mark.parametrize("pixels", [np.zeros((2, 3, 4, 1)), np.zeros((4, 4), complex)])
def test_pixels_that_are_no_image_are_a_sentence(cfg_of, pixels):
    with pytest.raises(UserError, match="height, width"):
        pixels_to_model_image(cfg_of(), pixels)
