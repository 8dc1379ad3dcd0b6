"""Images of every depth, format, number of channels and compression come back as written."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from detectron2.data.detection_utils import read_image
from PIL import Image, features

from instance_seg_common.data.images import image_header, read_pixels, read_stock
from instance_seg_common.data.reading import Reading
from instance_seg_common.errors import UserError

H, W = 37, 45
WHOLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
REAL = ("float16", "float32", "float64")
# Of TIFF: lossless for every type that they take.
COMPRESSIONS = ("zlib", "lzw", "zstd", "packbits", "lzma", "deflate", "adobe_deflate")
SPECIAL_COMPRESSIONS = ("webp", "png", "jpegxl", "jpeg2000", "jpeg_xr", "lerc", "jpegls", "eer")


def pixels_of(dtype, channels=1, *, seed=0, size=(H, W)):
    """Random (H, W, C) over the whole range of the type; no channel like another."""
    rng = np.random.default_rng(seed)
    shape = (*size, channels)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return (rng.standard_normal(shape) * 1000).astype(dtype)


def assert_reads(path, expected, reading=None):
    reading = reading or Reading()
    header, pixels = image_header(path, reading), read_pixels(path, reading)
    assert pixels.dtype == expected.dtype and pixels.dtype.isnative
    assert np.array_equal(pixels, expected)
    assert (*header.size, header.channels) == expected.shape
    assert header.dtype == str(expected.dtype)
    return header


@pytest.mark.parametrize("dtype", WHOLE + REAL)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_of_every_type(tmp_path, dtype, channels, planar):
    pixels = pixels_of(dtype, channels)
    path, stored = tmp_path / "a.tif", pixels
    if channels == 1:
        stored = pixels[:, :, 0]
    elif planar == "separate":
        stored = np.moveaxis(pixels, 2, 0)
    config = {"planarconfig": planar} if channels > 1 else {}
    tifffile.imwrite(path, stored, photometric="minisblack", metadata=None, **config)
    assert_reads(path, pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_tiff_of_every_layout(tmp_path, byteorder, bigtiff, tile, compression):
    path, pixels = tmp_path / "a.tif", pixels_of("uint16", 3)
    tifffile.imwrite(
        path, pixels, photometric="rgb", byteorder=byteorder, bigtiff=bigtiff, tile=tile,
        compression=compression,
    )  # fmt: skip
    assert_reads(path, pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tiff_compressions_of_types(tmp_path, dtype, predictor, compression):
    if predictor and compression == "packbits":
        pytest.skip("packbits has no predictor")
    path, pixels = tmp_path / "a.tif", pixels_of(dtype, 4)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", planarconfig="contig", compression=compression,
        predictor=predictor,
    )  # fmt: skip
    assert_reads(path, pixels)


@pytest.mark.parametrize("compression", SPECIAL_COMPRESSIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_of_rare_compressions_is_what_tifffile_reads(tmp_path, compression, channels, dtype):
    path, pixels = tmp_path / "a.tif", pixels_of(dtype, channels)
    stored = pixels[:, :, 0] if channels == 1 else pixels
    kind = "minisblack" if channels == 1 else "rgb"
    options = {"lossless": True} if compression == "webp" else {}
    try:
        tifffile.imwrite(
            path, stored, photometric=kind, compression=compression, compressionargs=options
        )
    except Exception as error:
        pytest.skip(f"not written by tifffile: {error}")
    expected = tifffile.imread(path).reshape(H, W, channels)
    assert_reads(path, expected)


def test_jpeg_in_tiff_stays_what_detectron2_reads(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(64))[:, :, None] + np.array([0, 40, 90])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth.astype(np.uint8), photometric="rgb", compression="jpeg")
    assert image_header(path).stock
    assert np.array_equal(read_stock(path), read_image(str(path), "RGB"))
    assert np.array_equal(read_pixels(path), read_image(str(path), "RGB"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_in_full_depth(tmp_path, channels):
    path, pixels = tmp_path / "a.png", pixels_of("uint16", channels)
    path.write_bytes(imagecodecs.png_encode(pixels.squeeze()))
    header = assert_reads(path, pixels)
    assert header.alpha == {1: None, 2: 1, 3: None, 4: 3}[channels]
    assert not header.stock


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("largest", [1023, 4095, 65535])
def test_pnm_of_16_bits_keeps_its_values(tmp_path, channels, largest):
    pixels = pixels_of("uint16", channels) & largest
    path = tmp_path / ("a.pgm" if channels == 1 else "a.ppm")
    head = f"P{5 if channels == 1 else 6}\n# words\n{W} {H}\n{largest}\n"
    path.write_bytes(head.encode() + pixels.astype(">u2").tobytes())
    assert_reads(path, pixels)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_jpeg_2000(tmp_path, dtype, channels, codec):
    path, pixels = tmp_path / f"a.{codec}", pixels_of(dtype, channels)
    path.write_bytes(
        imagecodecs.jpeg2k_encode(pixels.squeeze(), level=0, codecformat=codec, mct=False)
    )
    header = assert_reads(path, pixels)
    assert header.stock == (dtype == "uint8" and channels in (1, 3))


def test_jpeg_2000_of_12_bits(tmp_path):
    path, pixels = tmp_path / "a.jp2", pixels_of("uint16", 3) >> 4
    data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", bitspersample=12)
    path.write_bytes(data)
    assert_reads(path, pixels)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "tif", "jp2", "webp"])
def test_opacity_is_known(tmp_path, mode, ending):
    if (mode, ending) == ("LA", "webp"):
        pytest.skip("WebP has no grey")
    channels = len(mode)
    pixels, path = pixels_of("uint8", channels), tmp_path / f"a.{ending}"
    pixels[:, :, -1] |= 1  # WebP drops the colours of what cannot be seen
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(pixels, mode).save(path, **options)
    header = assert_reads(path, pixels)
    assert header.alpha == channels - 1 and header.stock
    assert np.array_equal(read_stock(path), read_image(str(path), "RGB"))


def test_a_band_beside_colours_is_a_channel_and_no_opacity(tmp_path):
    """Near infrared beside RGB: Pillow reads it as RGB and drops the fourth in silence."""
    path, pixels = tmp_path / "a.tif", pixels_of("uint8", 4)
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unspecified"])
    header = assert_reads(path, pixels)
    assert header.alpha is None and not header.stock


@pytest.mark.parametrize(
    ("dtype", "inverted"), [("uint8", True), ("uint16", True), ("float32", False)]
)
def test_where_white_is_zero(tmp_path, dtype, inverted):
    path, pixels = tmp_path / "a.tif", pixels_of(dtype)
    tifffile.imwrite(path, pixels[:, :, 0], photometric="miniswhite")
    expected = np.iinfo(dtype).max - pixels if inverted else pixels
    assert_reads(path, expected)


def test_a_palette_of_16_bits_is_looked_up(tmp_path):
    path, indices = tmp_path / "a.tif", pixels_of("uint16")[:, :, 0]
    colors = np.random.default_rng(1).integers(0, 65536, (3, 65536), dtype=np.uint16)
    tifffile.imwrite(path, indices, photometric="palette", colormap=colors)
    assert_reads(path, np.moveaxis(colors[:, indices], 0, 2))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_a_sentence(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((H, W), dtype))
    with pytest.raises(UserError, match=f"a.tif has pixels of type {dtype}; store whole or real"):
        image_header(tmp_path / "a.tif")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_a_sentence(tmp_path, wrong):
    pixels = pixels_of("float32")[:, :, 0]
    pixels[3, 4:6] = wrong
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(UserError, match="a.tif has 2 values that are nan or infinite"):
        read_pixels(tmp_path / "a.tif")


def test_lab_colours_are_a_sentence(tmp_path):
    Image.new("LAB", (5, 4)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif stores its colours as \w*LAB.*RGB or grey"):
        image_header(tmp_path / "a.tif")


PLAIN_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]


@pytest.mark.parametrize("mode", PLAIN_MODES)
@pytest.mark.parametrize(
    "ending", ["png", "tif", "jpg", "webp", "bmp", "gif", "ppm", "pgm", "jp2", "avif"]
)
def test_what_detectron2_reads_well_stays_bit_for_bit(tmp_path, mode, ending):
    path = tmp_path / f"a.{ending}"
    picture = Image.fromarray(pixels_of("uint8", 3)).convert(mode)
    try:
        picture.save(path)
    except (OSError, ValueError, KeyError) as error:
        pytest.skip(f"not written by Pillow: {error}")
    assert image_header(path).stock
    for image_format in ("RGB", "BGR", "L"):
        assert np.array_equal(
            read_stock(path, image_format), read_image(str(path), image_format)
        ), image_format
    native = {"1": 1, "L": 1, "LA": 2, "RGBA": 4}.get(Image.open(path).mode, 3)
    assert read_pixels(path).shape == (H, W, native)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_stretched_as_detectron2_does(tmp_path, bits):
    path, pixels = tmp_path / "a.png", pixels_of("uint8")[:, :, 0] >> (8 - bits)
    Image.fromarray((pixels * (255 // (2**bits - 1))).astype(np.uint8)).save(path, bits=bits)
    assert np.array_equal(read_stock(path), read_image(str(path), "RGB"))


def test_real_images_stay_bit_for_bit(shared_data):
    paths = sorted(shared_data.rglob("*.png"))[::40] + sorted(shared_data.rglob("*.jpg"))[::10]
    photographs = [path for path in paths if "label" not in str(path)]
    assert len(photographs) > 10
    for path in photographs:
        assert image_header(path).stock, path
        assert np.array_equal(read_stock(path), read_image(str(path), "RGB")), path


DAMAGED = {
    "png16": ("a.png", lambda p: imagecodecs.png_encode(p.astype(np.uint16))),
    "jp2": ("a.jp2", lambda p: imagecodecs.jpeg2k_encode(p.astype(np.uint16), codecformat="jp2")),
    "jpg": ("a.jpg", lambda p: imagecodecs.jpeg_encode(p)),
    "ppm": ("a.ppm", lambda p: b"P6\n45 37\n65535\n" + p.astype(">u2").tobytes()),
}


@pytest.mark.parametrize("kind", [*DAMAGED, "tif", "tif16"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_files_that_are_cut_off_are_a_sentence(tmp_path, kind, part):
    pixels = pixels_of("uint8", 3)
    if kind in DAMAGED:
        name, encode = DAMAGED[kind]
        (tmp_path / name).write_bytes(encode(pixels))
    else:
        name, dtype = f"{kind}.tif", np.uint8 if kind == "tif" else np.uint16
        tifffile.imwrite(tmp_path / name, pixels.astype(dtype))
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match=f"{name}.* cannot be read .*replace the file"):
        read_pixels(path)


FOREIGN = {
    "a.jxl": ("JPEG XL", lambda p: imagecodecs.jpegxl_encode(p)),
    "b.jpg": (
        "JPEG of 12 bits",
        lambda p: imagecodecs.jpeg_encode(p.astype(np.uint16) << 4, bitspersample=12),
    ),
    "c.npy": ("NumPy's npy", lambda p: b"\x93NUMPY" + bytes(200)),
    "d.dcm": ("DICOM", lambda p: bytes(128) + b"DICM" + bytes(200)),
    "e.heic": ("HEIC", lambda p: b"\0\0\0\x18ftypheic" + bytes(200)),
    "f.png": (
        "Git LFS' pointer",
        lambda p: b"version https://git-lfs.github.com/spec/v1\noid sha256",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_sound_files_of_other_kinds_are_not_called_broken(tmp_path, name):
    kind, encode = FOREIGN[name]
    (tmp_path / name).write_bytes(encode(pixels_of("uint8", 3)))
    with pytest.raises(UserError, match=f"{name} is {kind}.* which is not read here; convert it"):
        image_header(tmp_path / name)


def test_avif_of_more_than_8_bits_is_said(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    for bits, shift in ((8, 0), (10, 2)):
        pixels = pixels_of("uint8", 3).astype(np.uint16) << shift
        data = imagecodecs.avif_encode(
            pixels.astype(np.uint8) if bits == 8 else pixels, bitspersample=bits
        )
        (tmp_path / "a.avif").write_bytes(data)
        assert bool(image_header(tmp_path / "a.avif").rule) == (bits > 8)


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"II*\0\x08\0\0\0\0\0\0\0", b"MM\0+garbage", b"P6 9"]
)
def test_bytes_that_are_no_image(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match="a.tif cannot be read .*replace the file"):
        read_pixels(tmp_path / "a.tif")


def test_no_image_is_a_sentence(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    for name in ("a.png", "absent.png"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            image_header(tmp_path / name)
