"""Image files that Detectron2 would misread are named; maps of ignored regions have one rule."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from instance_seg_common.data import register_coco_dataset, register_label_map_dataset
from instance_seg_common.data.images import (
    image_header,
    load_image,
    read_ignore_map,
)
from instance_seg_common.errors import UserError

DEEP = [
    (np.full((4, 5), 300, np.uint16), "a.png"),
    (np.full((4, 5), 300, np.uint16), "a.tif"),
    (np.full((4, 5), 300, np.int32), "a.tif"),
    (np.full((4, 5), 0.5, np.float32), "a.tif"),
]


@pytest.mark.parametrize(("pixels", "name"), DEEP)
def test_more_than_eight_bits_are_a_sentence(tmp_path, pixels, name):
    Image.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} has more than 8 bits .*scale it to 8 bits"):


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_eight_bits_pass(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.new(mode, (5, 4)).save(path)
    assert image_header(path) == ((4, 5), mode)


def test_no_image_is_a_sentence(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    for name in ("a.png", "absent.png"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):


def test_a_deep_image_stops_the_loading_of_label_maps(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    folders.write("images", np.full((20, 30), 300, np.uint16))
    register_label_map_dataset(fresh_name, folders.root / "images", folders.root / "labels")
    with pytest.raises(UserError, match="a.png has more than 8 bits"):
        DatasetCatalog.get(fresh_name)


def test_a_deep_image_stops_the_loading_of_coco(fresh_name, folders):
    folders.write("images", np.full((20, 30), 300, np.uint16))
    (folders.root / "set.json").write_text(
        '{"images": [{"id": 5, "file_name": "a.png", "height": 20, "width": 30}],'
        ' "annotations": [], "categories": [{"id": 9, "name": "dog"}]}'
    )
    register_coco_dataset(fresh_name, folders.root / "set.json", folders.root / "images")
    with pytest.raises(UserError, match="a.png has more than 8 bits"):
        DatasetCatalog.get(fresh_name)


def test_ignore_map(tmp_path):
    values = np.array([[0, 255, 254], [255, 1, 220]], np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_ignore_map(tmp_path / "a.png", (2, 3)), values == 255)
    Image.fromarray(values > 253).save(tmp_path / "bits.png")
    assert np.array_equal(read_ignore_map(tmp_path / "bits.png", (2, 3)), values > 253)


def palette_image(size):
    image = Image.new("P", size, 255)
    image.putpalette([220] * 768)
    return image


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (palette_image((3, 2)), "mode P.*one channel of 8 bits"),
        (Image.new("RGB", (3, 2)), "mode RGB.*one channel of 8 bits"),
        (Image.new("I;16", (3, 2)), "mode I;16.*one channel of 8 bits"),
        (Image.new("L", (2, 3)), "2x3 pixels.*3x2"),
    ],
)
def test_ignore_maps_that_cannot_be_meant(tmp_path, fresh_name, folders, two_squares, image, words):
    image.save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"a.png.*{words}"):
        read_ignore_map(tmp_path / "a.png", (2, 3))


def test_a_wrong_ignore_map_stops_the_loading(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    palette_image((30, 20)).save(folders.path("ignore"))
    register_label_map_dataset(
        fresh_name,
        folders.root / "images",
        folders.root / "labels",
        ignore_dir=folders.root / "ignore",
    )
    with pytest.raises(UserError, match="ignore.a.png.*mode P"):
        DatasetCatalog.get(fresh_name)


def test_a_deep_image_is_a_sentence(tmp_path):
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="deep.png has more than 8 bits"):
        load_image(tmp_path / "deep.png")


def test_unreadable_image_is_a_sentence(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for name in ("broken.png", "absent.png"):
        with pytest.raises(UserError, match=name):
            load_image(tmp_path / name)
