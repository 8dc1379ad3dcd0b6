"""Augmentations of images of any number of channels and of float values."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from instance_seg_common.data.augmented import augmented
from instance_seg_common.data.mapper import build_augmentations
from instance_seg_common.errors import UserError

EVERY = {
    "flip": T.RandomFlip(1.0),
    "vertical flip": T.RandomFlip(1.0, horizontal=False, vertical=True),
    "resize": T.Resize((20, 26)),
    "shortest edge": T.ResizeShortestEdge(24),
    "scale": T.ResizeScale(0.4, 0.6, 40, 40),
    "rotation": T.RandomRotation([30, 30]),
    "quarter turn": T.RandomRotation([90], sample_style="choice"),
    "crop": T.RandomCrop("absolute", (16, 20)),
    "fixed crop": T.FixedSizeCrop((64, 64)),
    "extent": T.RandomExtent((0.5, 0.9), (0.1, 0.1)),
    "contrast": T.RandomContrast(0.5, 2.0),
    "brightness": T.RandomBrightness(1.5, 3.0),
}


def noise(channels, dtype, size=(40, 52)):
    values = np.random.default_rng(channels).integers(0, 256, (*size, channels))
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", EVERY)
def test_every_augmentation_keeps_channels_and_dtype(name, channels, dtype):
    ignored = np.zeros((40, 52), np.uint8)
    result, transforms = augmented(noise(channels, dtype), [EVERY[name]], sem_seg=ignored)
    assert result.image.dtype == dtype
    assert result.image.shape == (*result.sem_seg.shape, channels)
    assert transforms.apply_segmentation(ignored).shape == result.sem_seg.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("name", ["resize", "rotation", "extent", "flip", "crop", "scale"])
def test_a_channel_does_not_depend_on_the_others(name, channels, dtype):
    """A fourth channel is no alpha: where it is 0 the others stay."""
    image = noise(channels, dtype)
    image[:, :, -1] = 0
    for index in range(channels):
        np.random.seed(5)
        together = augmented(image, [EVERY[name]])[0].image[:, :, index]
        np.random.seed(5)
        alone = augmented(image[:, :, index : index + 1], [EVERY[name]])[0].image[:, :, 0]
        assert np.array_equal(together, alone)


@pytest.mark.parametrize("name", EVERY)
def test_colours_of_8_bits_are_those_of_detectron2(name):
    image = noise(3, np.uint8)
    np.random.seed(7)
    ours = augmented(image, [EVERY[name]])[0].image
    np.random.seed(7)
    stock = T.AugInput(image)
    T.AugmentationList([EVERY[name]])(stock)
    assert np.array_equal(ours, stock.image)


@pytest.mark.parametrize("size", [(10, 13), (20, 26), (80, 104)])
def test_a_float_image_is_resized_as_one_of_8_bits_but_not_rounded(size):
    image = noise(3, np.uint8)
    (eight, _), (floats, _) = (augmented(x, [T.Resize(size)]) for x in (image, np.float32(image)))
    assert np.abs(eight.image - floats.image).max() <= 1.0
    assert (floats.image != np.round(floats.image)).any()


def test_making_a_float_image_smaller_averages():
    """A chessboard of 0 and 1,000 is 500 all over at a quarter of its size, not 0 or 1,000."""
    rows, columns = np.indices((64, 64))
    board = ((rows + columns) % 2 * 1000.0).astype(np.float32)[:, :, None]
    small = augmented(board, [T.Resize((16, 16))])[0].image
    assert np.allclose(small[2:-2, 2:-2], 500, atol=1)


def test_deep_values_are_not_clipped():
    image = noise(1, np.float32) * 257
    bright = augmented(image, [T.RandomBrightness(2.0, 2.0)])[0].image
    assert np.allclose(bright, 2 * image) and bright.max() > 100_000


def test_augmentations_of_colours_are_refused_for_other_images(tiny_cfg):
    tiny_cfg.MODEL.PIXEL_MEAN = tiny_cfg.MODEL.PIXEL_STD = [1.0] * 4
    for name, arguments in (("RandomSaturation", [0.5, 2.0]), ("RandomLighting", [1.0])):
        tiny_cfg.INPUT.AUGMENTATIONS = [[name, arguments]]
        with pytest.raises(UserError, match=f"{name}.* 3 channels.*4"):
            build_augmentations(tiny_cfg, True)
