"""Stacks, frames and channels: what is what by metadata or a rule that is said, and the way out."""

import logging
import re

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog
from PIL import Image

from instance_seg_common.config import get_cfg_with_plugins
from instance_seg_common.data import (
    register_coco_dataset,
    register_from_config,
    register_label_map_dataset,
)
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.image_header import PILLOW
from instance_seg_common.data.images import image_header, read_pixels
from instance_seg_common.data.reading import PLAIN, Reading
from instance_seg_common.errors import UserError

OME = {"ome": True}
IMAGEJ = {"imagej": True}


def stack(*shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def write(path, pixels, axes=None, **options):
    if axes:
        options["metadata"] = {"axes": axes}
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)


# Array, options of tifffile, channels and planes, words of the rule.
AXES = [
    ((40, 50), {}, 1, 1, ""),
    ((1, 40, 50), {}, 1, 1, ""),
    ((40, 50, 1), {}, 1, 1, ""),
    ((1, 40, 50, 1), {}, 1, 1, ""),
    ((40, 50, 5), {}, 5, 1, "last axis of 5 is by far the shortest"),
    ((40, 50, 10), {}, 10, 1, "last axis of 10 is by far the shortest"),
    ((1, 40, 50, 5), {}, 5, 1, "last axis of 5 is by far the shortest"),
    ((3, 40, 50, 5), {}, 5, 3, "last axis of 5 is by far the shortest, .*; Q=3 is planes"),
    ((40, 50, 11), {}, 1, 40, "Q=40 is planes"),
    ((5, 40, 50), {}, 1, 5, "Q=5 is planes"),
    ((5, 40, 50), {"metadata": None}, 1, 5, "I=5 is planes"),
    ((40, 50, 5), {"planarconfig": "contig"}, 5, 1, "5 samples of a pixel are channels"),
    ((5, 40, 50), {"planarconfig": "separate"}, 5, 1, "5 samples of a pixel are channels"),
    ((5, 40, 50), {"axes": "CYX", **OME}, 5, 1, "C=5 by its ome metadata"),
    ((5, 40, 50), {"axes": "ZYX", **OME}, 1, 5, "Z=5 is planes"),
    ((5, 40, 50), {"axes": "TYX", **OME}, 1, 5, "T=5 is planes"),
    ((2, 3, 4, 40, 50), {"axes": "TZCYX", **OME}, 4, 6, "C=4 .*; T=2 and Z=3 are planes"),
    ((2, 4, 3, 40, 50), {"axes": "TCZYX", **OME}, 4, 6, "C=4 .*; T=2 and Z=3 are planes"),
    ((5, 40, 50), {"axes": "CYX", **IMAGEJ}, 5, 1, "C=5 by its imagej metadata"),
    ((5, 40, 50), {"axes": "ZYX", **IMAGEJ}, 1, 5, "Z=5 is planes"),
    ((2, 3, 4, 40, 50), {"axes": "TZCYX", **IMAGEJ}, 4, 6, "C=4 .*; T=2 and Z=3 are planes"),
    ((40, 50, 5), {"axes": "YXC"}, 5, 1, "C=5 by its shaped metadata"),
    ((5, 40, 50), {"axes": "CYX"}, 5, 1, "C=5 by its shaped metadata"),
    ((5, 40, 50), {"axes": "ZYX"}, 1, 5, "Z=5 is planes"),
]


@pytest.mark.parametrize(("shape", "options", "channels", "planes", "rule"), AXES)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_axes(tmp_path, shape, options, channels, planes, rule, bigtiff):
    if bigtiff and "imagej" in options:
        pytest.skip("ImageJ has no BigTIFF")
    pixels, path = stack(*shape), tmp_path / "a.tif"
    write(path, pixels, **options, bigtiff=bigtiff)
    header = image_header(path, Reading(planes="each"))
    assert (header.channels, header.planes) == (channels, planes)
    assert re.search(rule, header.rule) and bool(rule) == bool(header.rule)
    letters = options.get("axes") or {
        2: "YX", 3: "CYX" if options.get("planarconfig") == "separate" else None, 4: None,
    }.get(pixels.ndim)  # fmt: skip
    for plane, expected in enumerate(slow_planes(pixels.squeeze(), letters, channels, planes)):
        found = read_pixels(path, Reading(planes="each", plane=plane))
        assert np.array_equal(found, expected), plane


def slow_planes(pixels, letters, channels, planes):
    """(H, W, C) of each plane, by loops."""
    if letters is None and planes == 1:
        return [pixels.reshape(40, 50, channels)]
    if letters is None:
        return [
            p.reshape(*p.shape[:2], channels) for p in pixels.reshape(planes, *pixels.shape[1:])
        ]
    if letters == "YXC":
        return [pixels]
    others = [axis for axis in letters if axis not in "YXC"]
    result = []
    for index in np.ndindex(*[pixels.shape[letters.index(a)] for a in others]):
        where = dict(zip(others, index))
        chosen = pixels[tuple(where.get(axis, slice(None)) for axis in letters)]
        result.append(chosen[:, :, None] if chosen.ndim == 2 else np.moveaxis(chosen, 0, 2))
    return result


def test_a_stack_is_an_error_that_names_the_ways_out(tmp_path):
    write(tmp_path / "a.tif", stack(3, 4, 40, 50), "TZYX", **OME)
    for read in (image_header, read_pixels):
        with pytest.raises(UserError) as caught:
            read(tmp_path / "a.tif")
        text = str(caught.value)
        assert "a.tif has 12 planes (T=3 time points, Z=4 slices)" in text
        assert "`planes: first`" in text and "`planes: each`" in text
        assert "channels" not in text


@pytest.mark.parametrize("options", [{}, {"metadata": None}], ids=["shaped", "pages"])
def test_channels_make_an_unnamed_axis_the_channels(tmp_path, options):
    pixels = stack(5, 40, 50)
    write(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(UserError, match=r"5 planes.*`channels: \[0, 1, 2\]` takes them for"):
        image_header(tmp_path / "a.tif")
    reading = Reading(channels=(4, 0))
    header = image_header(tmp_path / "a.tif", reading)
    assert "channels are given" in header.rule and header.channels == 2
    expected = np.stack([pixels[4], pixels[0]], axis=2)
    assert np.array_equal(read_pixels(tmp_path / "a.tif", reading), expected)
    # With planes: each, the axis stays planes, and the channel is that of a plane.
    each = Reading(planes="each", plane=3, channels=(0,))
    assert np.array_equal(read_pixels(tmp_path / "a.tif", each)[:, :, 0], pixels[3])


def test_channels_never_override_metadata(tmp_path):
    write(tmp_path / "a.tif", stack(5, 40, 50), "ZYX", **OME)
    with pytest.raises(UserError, match="5 planes"):
        image_header(tmp_path / "a.tif", Reading(channels=(0, 1, 2)))


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_channels_of_colours(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(stack(40, 50, 3, dtype="uint8")).save(path)
    assert np.array_equal(
        read_pixels(path, Reading(channels=(2, 0))), read_pixels(path)[:, :, [2, 0]]
    )
    assert image_header(path, Reading(channels=(2, 0))).channels == 2
    with pytest.raises(UserError, match=r"has 3 channels, and channels: \[0, 3\] asks .* 3; they"):
        image_header(path, Reading(channels=(0, 3)))


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif", "mpo"])
def test_frames_are_planes(tmp_path, ending):
    frames = [np.full((40, 50, 3), value, np.uint8) for value in (40, 90, 200)]
    path = tmp_path / f"a.{ending}"
    pictures = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True} if ending == "webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    with pytest.raises(UserError, match="3 planes"):
        image_header(path)
    for plane, frame in enumerate(frames):
        pixels = read_pixels(path, Reading(planes="each", plane=plane))
        assert abs(pixels.astype(int) - frame).max() <= (3 if ending == "mpo" else 0)
    assert np.array_equal(
        read_pixels(path, Reading(planes="first")),
        read_pixels(path, Reading(planes="each", plane=0)),
    )


def test_each_without_a_plane_reads_nothing(tmp_path):
    write(tmp_path / "a.tif", stack(5, 40, 50))
    assert image_header(tmp_path / "a.tif", Reading(planes="each")).planes == 5
    with pytest.raises(UserError, match="5 planes"):
        read_pixels(tmp_path / "a.tif", Reading(planes="each"))


def test_previews_of_a_photograph_are_no_planes(tmp_path):
    """Phones write a smaller picture or a gain map behind the photograph."""
    photograph, preview = (Image.new("RGB", size, (9, 99, 200)) for size in ((50, 40), (10, 8)))
    photograph.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    header = image_header(tmp_path / "a.jpg")
    assert header.planes == 1 and header.size == (40, 50) and "MPO" in header.rule


@pytest.mark.parametrize("options", [{}, {"metadata": None}], ids=["pyramid", "pages"])
def test_reduced_pages_are_no_planes(tmp_path, options):
    pixels = stack(40, 50, 3, dtype="uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, photometric="rgb", **options)
        writer.write(pixels[::2, ::2], photometric="rgb", subfiletype=1, **options)
    header = image_header(tmp_path / "a.tif")
    assert header.planes == 1 and header.stock and header.decoder == PILLOW
    assert np.array_equal(read_pixels(tmp_path / "a.tif"), pixels)


def test_pyramids_are_read_at_their_full_size(tmp_path):
    pixels = stack(64, 96, 3, dtype="uint8")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(pixels, photometric="rgb", subifds=1, tile=(32, 32))
        writer.write(pixels[::2, ::2], photometric="rgb", subfiletype=1, tile=(32, 32))
    header = image_header(tmp_path / "a.ome.tif")
    assert (header.planes, header.size) == (1, (64, 96))
    assert np.array_equal(read_pixels(tmp_path / "a.ome.tif"), pixels)


def test_pages_of_several_sizes_are_planes_each_of_its_own_size(tmp_path):
    pages = [stack(40, 50), stack(30, 20), stack(30, 20)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", metadata=None)
    with pytest.raises(UserError, match="3 planes"):
        image_header(tmp_path / "a.tif")
    for plane, page in enumerate(pages):
        reading = Reading(planes="each", plane=plane)
        assert image_header(tmp_path / "a.tif", reading).size == page.shape
        assert np.array_equal(read_pixels(tmp_path / "a.tif", reading)[:, :, 0], page)


def test_ome_metadata_that_names_other_files(tmp_path):
    """Each file of a series is an image of its own; no plane of it is made up."""
    xml = """<?xml version="1.0" encoding="UTF-8"?>
    <OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50"
    SizeY="40" SizeZ="1" SizeC="1" SizeT="2">
    <TiffData IFD="0" FirstT="0" PlaneCount="1"><UUID FileName="t0.ome.tif">urn:uuid:0</UUID>
    </TiffData><TiffData IFD="0" FirstT="1" PlaneCount="1"><UUID FileName="t1.ome.tif">urn:uuid:1
    </UUID></TiffData></Pixels></Image></OME>"""
    pixels = stack(2, 40, 50)
    for i in range(2):
        tifffile.imwrite(
            tmp_path / f"t{i}.ome.tif", pixels[i], description=xml, metadata=None,
            photometric="minisblack",
        )  # fmt: skip
    for i in range(2):
        assert image_header(tmp_path / f"t{i}.ome.tif").planes == 1
        assert np.array_equal(read_pixels(tmp_path / f"t{i}.ome.tif")[:, :, 0], pixels[i])


# Data sets.


@pytest.fixture
def stacks(folders):
    """Two stacks of three planes with as many planes of labels, and an image of one plane."""
    labels = np.zeros((3, 20, 30), np.uint16)
    for plane in range(3):
        labels[plane, 2:8, 3 + plane : 9 + plane] = 5 + plane
    labels[1, 12:18, 20:28] = 9
    for name in "ab":
        write(folders.path("images", f"{name}.tif"), stack(3, 20, 30), "ZYX", **OME)
        write(folders.path("labels", f"{name}.tif"), labels, metadata=None)
    write(folders.path("images", "c.tif"), stack(20, 30))
    write(folders.path("labels", "c.tif"), labels[0])
    return folders, labels


def register(name, folders, **options):
    register_label_map_dataset(name, folders.root / "images", folders.root / "labels", **options)


def test_stacks_are_an_error_by_default(stacks, fresh_name):
    register(fresh_name, stacks[0])
    with pytest.raises(UserError, match=r"a\.tif has 3 planes \(Z=3 slices\).*`planes: first`"):
        DatasetCatalog.get(fresh_name)
    report = check_dataset(fresh_name)
    assert [e.kind for e in report.errors if "planes: each" in e.sentence]


def test_every_plane_is_an_image(stacks, fresh_name, caplog):
    folders, labels = stacks
    register(fresh_name, folders, planes="each")
    with caplog.at_level(logging.INFO):
        records = DatasetCatalog.get(fresh_name)
    ids = [record["image_id"] for record in records]
    assert ids == [*(f"a_plane{i}" for i in range(3)), *(f"b_plane{i}" for i in range(3)), "c"]
    assert [len(record["annotations"]) for record in records] == [1, 2, 1, 1, 2, 1, 1]
    assert [r["annotations"][0]["bbox"][0] for r in records] == [3, 4, 5, 3, 4, 5, 3]
    assert [r["reading"].plane for r in records] == [0, 1, 2, 0, 1, 2, None]
    assert [m for m in caplog.messages if "Z=3 is planes (6 files" in m]
    report = check_dataset(fresh_name)
    assert report.ok, report.text()
    assert report.instances_per_image == [1, 2, 1, 1, 2, 1, 1]
    (notice,) = [n for n in report.notices if n.kind == "axes by a rule"]
    assert "Z=3 is planes" in notice.sentence


def test_the_first_plane_of_each_file(stacks, fresh_name):
    folders, labels = stacks
    register(fresh_name, folders, planes="first")
    records = DatasetCatalog.get(fresh_name)
    assert [record["image_id"] for record in records] == ["a", "b", "c"]
    assert all(record["annotations"][0]["bbox"][0] == 3 for record in records)
    assert all(record["reading"] == Reading(planes="first") for record in records)
    assert check_dataset(fresh_name).ok


def test_labels_of_another_number_of_planes(stacks, fresh_name):
    folders, labels = stacks
    write(folders.path("labels", "a.tif"), labels[:2], metadata=None)
    register(fresh_name, folders, planes="each")
    words = r"a\.tif has 3 planes but its label .*a\.tif has 2"
    with pytest.raises(UserError, match=words):
        DatasetCatalog.get(fresh_name)
    (error,) = check_dataset(fresh_name).errors
    assert error.kind == "planes differ" and "has 3 planes but its label" in error.sentence


def test_a_stack_of_labels_for_one_image_is_an_error(folders, fresh_name, two_squares):
    folders.add("a", two_squares)
    folders.path("labels").unlink()
    write(folders.path("labels", "a.tif"), np.stack([two_squares] * 3), metadata=None)
    register(fresh_name, folders)
    with pytest.raises(UserError, match=r"Label .*a\.tif has 3 planes .*and its image is one"):
        DatasetCatalog.get(fresh_name)


def test_defaults_leave_no_trace(folders, fresh_name, two_squares):
    folders.add("a", two_squares)
    register(fresh_name, folders)
    (record,) = DatasetCatalog.get(fresh_name)
    assert "reading" not in record


def test_each_with_maps_of_ignored_regions(folders, fresh_name):
    with pytest.raises(UserError, match="planes: each and ignore_dir"):
        register(fresh_name, folders, planes="each", ignore_dir=folders.root / "ignore")


def test_each_with_coco(tmp_path, fresh_name):
    with pytest.raises(UserError, match="planes: each is not possible with COCO"):
        register_coco_dataset(fresh_name, tmp_path / "a.json", tmp_path, planes="each")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"planes": "all"}, "planes is 'all'; give one of: error, first, each"),
        ({"exif": True}, "exif is True; give one of: apply, ignore"),
        ({"channels": 3}, "channels is 3; give a list of channel numbers"),
        ({"channels": [0, -1]}, "channels is .*; give a list of channel numbers"),
        ({"channels": ["red"]}, "channels is .*; give a list of channel numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["label_map", "coco"])
def test_values_that_do_not_exist(tmp_path, fresh_name, kind, keys, words):
    files = {"json_file": "a.json"} if kind == "coco" else {"label_dir": "labels"}
    cfg = get_cfg_with_plugins()
    entry = {"name": fresh_name, "format": kind, "image_dir": "images", **files, **keys}
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(UserError, match=rf"DATASETS.REGISTER\[0\].*{words}"):
        register_from_config(cfg)


def test_keys_of_a_config_reach_the_records(folders, fresh_name, two_squares):
    write(folders.path("images", "a.tif"), stack(5, 20, 30))
    folders.write("labels", two_squares)
    cfg = get_cfg_with_plugins()
    cfg.DATASETS.REGISTER = [
        {"name": fresh_name, "format": "label_map", "image_dir": str(folders.root / "images"),
         "label_dir": str(folders.root / "labels"), "channels": [0, 2], "exif": "ignore"}
    ]  # fmt: skip
    register_from_config(cfg)
    (record,) = DatasetCatalog.get(fresh_name)
    assert record["reading"] == Reading(channels=(0, 2), exif="ignore")
    assert read_pixels(record["file_name"], record["reading"]).shape == (20, 30, 2)


def test_a_check_reports_depths_and_channels(folders, fresh_name, two_squares):
    for number, pixels in enumerate((stack(20, 30), stack(20, 30, dtype="uint8"))):
        write(folders.path("images", f"{number}.tif"), pixels)
        folders.write("labels", two_squares, f"{number}.png")
    register(fresh_name, folders)
    report = check_dataset(fresh_name)
    assert report.ok
    assert "image files: uint16, 1 channel (1); uint8, 1 channel (1)" in report.text()
    (notice,) = report.notices
    assert notice.kind == "several depths" and "uint8, others of the set are uint16" in (
        notice.sentence
    )


@pytest.mark.parametrize(("numbers", "mixed"), [((1, 3), False), ((1, 5, 5), True), ((2, 3), True)])
def test_a_check_says_once_that_numbers_of_channels_differ(
    folders, fresh_name, two_squares, numbers, mixed
):
    for index, number in enumerate(numbers):
        pixels = np.zeros((20, 30, number), np.uint8)
        tifffile.imwrite(
            folders.path("images", f"{index}.tif"), pixels if number > 1 else pixels[..., 0],
            photometric="rgb" if number == 3 else "minisblack", planarconfig="contig",
        )  # fmt: skip
        folders.write("labels", two_squares, f"{index}.png")
    register(fresh_name, folders)
    notices = [n for n in check_dataset(fresh_name).notices if n.kind.startswith("several numbers")]
    assert len(notices) == mixed


def test_equal_readings_are_equal():
    assert Reading() == PLAIN == Reading(channels=[])
    assert hash(Reading(channels=[0, 1])) == hash(Reading(channels=(0, 1)))
