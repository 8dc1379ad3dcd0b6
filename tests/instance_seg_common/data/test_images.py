"""Maps of ignored regions have one rule."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.images import read_ignore_map
from instance_seg_common.errors import UserError


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
