"""One limit of pixels for every reader: what is larger is a sentence before memory is taken."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog
from forked import server
from PIL import Image

from instance_seg_common.config import MAX_PIXELS
from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.images import image_header, read_pixels, read_stock
from instance_seg_common.data.label_images import read_label
from instance_seg_common.data.mapper import build_train_mapper
from instance_seg_common.data.pixel_limit import set_pixel_limit
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError


@pytest.fixture(autouse=True)
def _default_limit():
    yield
    set_pixel_limit(MAX_PIXELS)


def png_bomb(width, height):
    """A PNG of a few bytes whose header states any size."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"\0" * 100)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_bomb(path, width, height):
    """A TIFF whose header states any size."""
    tifffile.imwrite(path, np.zeros((4, 5), np.uint16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as opened:
        tags = opened.pages[0].tags
        tags["ImageWidth"].overwrite(width)
        tags["ImageLength"].overwrite(height)


def jp2_bomb(path, width, height):
    Image.new("RGB", (20, 10)).save(path)
    data = bytearray(path.read_bytes())
    siz = data.index(b"\xff\x4f\xff\x51") + 8
    data[siz : siz + 8] = struct.pack(">II", width, height)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("ending", ["png", "tif", "jp2", "ppm", "bmp"])
def test_bombs_are_a_sentence(tmp_path, ending):
    path, size = tmp_path / f"a.{ending}", (60_000, 50_000)
    if ending == "png":
        path.write_bytes(png_bomb(*size))
    elif ending == "tif":
        tiff_bomb(path, *size)
    elif ending == "jp2":
        jp2_bomb(path, *size)
    elif ending == "ppm":
        path.write_bytes(b"P6 60000 50000 255 ")
    else:
        Image.new("RGB", (20, 10)).save(path)
        data = bytearray(path.read_bytes())
        data[18:26] = struct.pack("<ii", *size)
        path.write_bytes(bytes(data))
    words = (
        r"60000x50000 pixels, 3,000,000,000 in all; INPUT.MAX_PIXELS allows 2,000,000,000.*tiles"
    )
    for read in (image_header, read_pixels, read_stock):
        with pytest.raises(UserError, match=words):
            read(path)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_scan_beyond_pillows_own_limit_is_read(tmp_path, ending):
    """13,500 x 13,500 pixels, which Pillow calls a bomb."""
    path = tmp_path / f"a.{ending}"
    side = 13_500
    pixels = np.zeros((side, side), np.uint8)
    pixels[::1000] = 200
    if ending == "png":
        Image.fromarray(pixels).save(path, compress_level=1)
    else:
        tifffile.imwrite(path, pixels, compression="zlib", photometric="minisblack")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_header(path).size == (side, side)
        assert np.array_equal(read_pixels(path)[:, :, 0], pixels)
        assert read_stock(path).shape == (side, side, 3)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)  # the limit of other code in this process is what it was


def test_a_config_sets_the_limit_of_every_reader(folders, fresh_name, two_squares, tiny_cfg):
    folders.add("a", two_squares)
    register_label_map_dataset(fresh_name, folders.root / "images", folders.root / "labels")
    record = DatasetCatalog.get(fresh_name)[0]
    load_cfg("", ["INPUT.MAX_PIXELS", "599"])
    words = "30x20 pixels, 600 in all; INPUT.MAX_PIXELS allows 599"
    for read in (image_header, read_pixels, read_stock):
        with pytest.raises(UserError, match=words):
            read(folders.path("images"))
    with pytest.raises(UserError, match=words):
        DatasetCatalog.get(fresh_name)
    image, label = check_dataset(fresh_name).errors
    assert words in image.sentence and words in label.sentence
    # The mapper has its own config, also in a process of its own.
    assert build_train_mapper(tiny_cfg)(record)["image"].shape[0] == 3
    tiny_cfg.INPUT.MAX_PIXELS = 599
    mapper = build_train_mapper(tiny_cfg)
    with server().Pool(1) as pool, pytest.raises(UserError, match=words):
        pool.apply(mapper, (record,))
    load_cfg("", ["INPUT.MAX_PIXELS", "600"])
    assert image_header(folders.path("images")).size == (20, 30)


def test_labels_have_the_same_limit(tmp_path):
    path = tmp_path / "a.png"
    labels = np.zeros((13_500, 13_500), np.uint16)
    labels[5:9, 5:9] = 300
    Image.fromarray(labels).save(path, compress_level=1)
    assert np.array_equal(read_label(path), labels)
    set_pixel_limit(1000)
    with pytest.raises(UserError, match="13500x13500 pixels"):
        read_label(path)


@pytest.mark.parametrize("value", ["0", "-3"])
def test_a_limit_that_is_none(value):
    with pytest.raises(UserError, match=f"INPUT.MAX_PIXELS is {value}; give the number of pixels"):
        load_cfg("", ["INPUT.MAX_PIXELS", value])


def test_without_a_config_the_default_holds():
    assert load_cfg("").INPUT.MAX_PIXELS == MAX_PIXELS == 2_000_000_000
