"""Label images of every kind that keeps ids as they are, written by others."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from instance_seg_common.data.image_header import EXIF_ORIENTATION
from instance_seg_common.data.label_images import read_colors, read_label, read_object
from instance_seg_common.data.label_pixels import number_of_channels
from instance_seg_common.errors import UserError

INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]
FLOATS = [np.float16, np.float32, np.float64]


def write_tiff(folders, array, name="a.tif", **options):
    path = folders.path("labels", name)
    tifffile.imwrite(path, array, **options)
    return path


def test_eight_bit_and_palette_labels(folders, two_squares):
    small = (two_squares > 0).astype(np.uint8) * 3
    folders.write("labels", small, "grey.png")
    palette = Image.fromarray(small, mode="P")
    palette.putpalette([i for i in range(256) for _ in range(3)])
    palette.save(folders.path("labels", "palette.png"))
    palette.save(folders.path("labels", "palette.tif"))
    for name in ("grey.png", "palette.png", "palette.tif"):
        assert np.array_equal(read_label(folders.path("labels", name)), small)


def test_lossy_label(folders, two_squares):
    path = folders.write("labels", two_squares.astype(np.uint8), "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is stored as JPEG"):
        read_label(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_whole_numbers_of_every_type_byte_order_and_size(folders, dtype, order, bigtiff):
    labels = np.zeros((20, 30), dtype)
    labels[3:7, 2:6], labels[8:14, 10:15] = 7, 100
    path = write_tiff(folders, labels, byteorder=order, bigtiff=bigtiff)
    found = read_label(path)
    assert np.array_equal(found, labels)
    assert found.dtype.kind in "ui" and found.dtype.isnative


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits", "jpegxl"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_compressed_and_tiled(folders, two_squares, compression, tile):
    if compression == "jpegxl":
        path = write_tiff(folders, two_squares, compression="jpegxl", tile=tile,
                          compressionargs={"lossless": True})  # fmt: skip
    else:
        predictor = compression in ("lzw", "zlib")
        path = write_tiff(
            folders, two_squares, compression=compression, tile=tile, predictor=predictor
        )
    assert np.array_equal(read_label(path), two_squares)


@pytest.mark.parametrize(
    ("dtype", "highest"),
    [(np.uint64, 2**64 - 1), (np.int64, 2**63 - 1), (np.uint32, 2**32 - 1), (np.float64, 2**53),
     (np.float32, 2**24), (np.float16, 2**11)],
)  # fmt: skip
def test_the_highest_ids_are_exact(folders, dtype, highest):
    labels = np.zeros((4, 5), dtype)
    labels[0], labels[1] = highest, highest - 1
    found = read_label(write_tiff(folders, labels))
    assert np.unique(found).tolist() == [0, highest - 1, highest]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 5), -1, np.int64), "negative ids (lowest -1)"),
        (np.full((4, 5), -2, np.float32), "negative ids (lowest -2)"),
        (np.full((4, 5), 1.5, np.float64), "fractions or nan"),
        (np.full((4, 5), np.nan, np.float32), "fractions or nan"),
        (np.full((4, 5), np.inf, np.float16), "fractions or nan"),
        (np.full((4, 5), 2**54, np.float64), "above 9007199254740992"),
        (np.full((4, 5), 2**25, np.float32), "above 16777216"),
        (np.full((4, 5), 1j, np.complex64), "type complex64"),
    ],
)
def test_values_that_are_no_ids(folders, array, words):
    with pytest.raises(UserError) as caught:
        read_label(write_tiff(folders, array))
    assert words in str(caught.value) and "a.tif" in str(caught.value)


@pytest.mark.parametrize("metadata", [{"axes": "ZYX"}, {"axes": "TYX"}, None])
def test_several_planes_are_not_guessed(folders, two_squares, metadata):
    stack = np.stack([two_squares, two_squares * 2, two_squares * 0])
    imagej = metadata is not None
    path = write_tiff(folders, stack, imagej=imagej, metadata=metadata, photometric="minisblack")
    with pytest.raises(UserError, match="has 3 planes"):
        read_label(path)
    assert np.array_equal(read_label(path, plane=1), two_squares * 2)


def test_an_animated_gif_has_planes(folders, two_squares):
    frames = [Image.fromarray((two_squares > n).astype(np.uint8)) for n in (0, 7)]
    frames[0].save(folders.path("labels", "a.gif"), save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="has 2 planes"):
        read_label(folders.path("labels", "a.gif"))


def three_times(labels, alpha=None):
    channels = [labels] * 3 + ([] if alpha is None else [np.full_like(labels, alpha)])
    return np.stack(channels, axis=2)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equal_channels_are_one(folders, two_squares, ending, alpha, dtype):
    labels = np.where(two_squares == 1000, 200 if dtype == np.uint8 else 1000, two_squares)
    labels = labels.astype(dtype)
    pixels = three_times(labels, None if alpha is None else np.iinfo(dtype).max)
    path = folders.path("labels", f"a.{ending}")
    if ending == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")
    assert np.array_equal(read_label(path), labels)
    assert number_of_channels(path) == pixels.shape[2]


def test_planar_channels(folders, two_squares):
    pixels = np.stack([two_squares] * 3)
    path = write_tiff(folders, pixels, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_label(path), two_squares)


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(1800, dtype=np.uint8).reshape(20, 30, 3),
        three_times(np.ones((20, 30), np.uint8), alpha=100),
    ],
)
def test_channels_that_differ(folders, pixels):
    path = folders.write("labels", pixels)
    with pytest.raises(UserError, match=r"channels that differ.*instances: colors"):
        read_label(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_as_to_images(folders, orientation):
    from detectron2.data.detection_utils import read_image

    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    tag = (EXIF_ORIENTATION, "H", 1, orientation, True)
    path = write_tiff(folders, labels, extratags=[tag])
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    png = folders.write("labels", labels, exif=exif)
    assert np.array_equal(read_label(path), read_image(str(png)))
    assert np.array_equal(read_label(png), read_image(str(png)))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16)}])
def test_a_tiff_that_is_cut_off_is_no_label(folders, options, share):
    labels = np.random.default_rng(0).integers(0, 60000, (64, 64)).astype(np.uint16)
    path = write_tiff(folders, labels, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"a\.tif cannot be read"):
        read_label(path)


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"MM\0+", b"x" * 99, struct.pack("<HHI", 1, 2, 3)]
)
def test_what_is_no_image(folders, content):
    path = folders.path("labels", "a.tif")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif cannot be read"):
        read_label(path)


def colored(two_squares, dtype=np.uint8):
    colors = np.zeros((*two_squares.shape, 3), dtype)
    colors[two_squares == 7], colors[two_squares == 1000] = (255, 0, 0), (255, 0, 1)
    return colors


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_colour_is_a_number(folders, two_squares, dtype):
    path = folders.path("labels")
    path.write_bytes(imagecodecs.png_encode(colored(two_squares, dtype)))
    found = read_colors(path)
    bits = 8 * np.dtype(dtype).itemsize
    assert np.unique(found).tolist() == [0, 255 << 2 * bits, (255 << 2 * bits) + 1]
    assert np.array_equal(found > 0, two_squares > 0)


def test_colours_of_a_palette_and_transparent_background(folders, two_squares):
    indices = Image.fromarray(
        (1 * (two_squares > 0) + 4 * (two_squares > 7)).astype(np.uint8), mode="P"
    )
    indices.putpalette([0, 0, 0, 9, 9, 9, *[0] * 9, 1, 2, 3])
    indices.save(folders.path("labels", "palette.png"))
    found = read_colors(folders.path("labels", "palette.png"))
    assert np.unique(found).tolist() == [0, 0x010203, 0x090909]
    pixels = np.dstack([colored(two_squares) | 64, np.uint8(255) * (two_squares > 0)])
    path = folders.write("labels", pixels, "alpha.png")
    assert np.array_equal(read_colors(path) > 0, two_squares > 0)
    pixels[3, 2, 3] = 100
    with pytest.raises(UserError, match="half transparent"):
        read_colors(folders.write("labels", pixels, "alpha.png"))


def test_one_object(folders, two_squares):
    path = folders.write("labels", (two_squares > 0).astype(np.uint8) * 255)
    assert np.array_equal(read_object(path), two_squares > 0)
    with pytest.raises(UserError, match=r"the values 7, 1000 besides 0.*leave `instances` out"):
        read_object(folders.write("labels", two_squares))


@pytest.mark.parametrize("ending", ["gif", "png"])
def test_each_plane_of_a_label_is_read(folders, ending):
    planes = [np.full((20, 30), 40 * number, np.uint8) for number in (1, 2, 3)]
    for plane in planes:
        plane[:5] = 0
    path = folders.path("labels", f"a.{ending}")
    first, *others = (Image.fromarray(plane) for plane in planes)
    first.save(path, save_all=True, append_images=others)
    for number, plane in enumerate(planes):
        read = read_label(path, plane=number)
        assert np.array_equal(read > 0, plane > 0)
    assert len({int(read_label(path, plane=number).max()) for number in range(3)}) == 3


def test_a_label_beyond_pillows_own_limit_is_counted_too(folders, monkeypatch):
    path = folders.write("labels", np.ones((20, 30), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # an error from 200 on
    assert number_of_channels(path) == 1
    assert read_label(path).sum() == 600
