"""Small data sets on disk for the tests of the data package."""

import uuid

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image


@pytest.fixture
def fresh_name():
    """A data set name; whatever is registered under it is removed after the test."""
    name = f"test_{uuid.uuid4().hex}"
    yield name
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


class Folders:
    """images/, labels/, classes/ below a folder, filled by arrays."""

    def __init__(self, root):
        self.root = root
        for part in ("images", "labels", "classes", "ignore"):
            (root / part).mkdir()

    def path(self, part, name="a.png"):
        return self.root / part / name

    def write(self, part, array, name="a.png", **options):
        Image.fromarray(array).save(self.path(part, name), **options)
        return self.path(part, name)

    def add(self, stem, labels, classes=None):
        """An image with noise, its labels and, if given, its class ids."""
        noise = np.random.default_rng(0).integers(0, 255, (*labels.shape, 3), dtype=np.uint8)
        self.write("images", noise, f"{stem}.png")
        self.write("labels", labels, f"{stem}.png")
        if classes is not None:
            self.write("classes", classes, f"{stem}.png")


@pytest.fixture
def folders(tmp_path):
    """Empty folders images/, labels/, classes/, ignore/."""
    return Folders(tmp_path)


@pytest.fixture
def two_squares():
    """(20, 30) uint16: id 7 is 4x4 pixels at x 2, y 3; id 1000 is 5 wide, 6 high at x 10, y 8."""
    labels = np.zeros((20, 30), np.uint16)
    labels[3:7, 2:6] = 7
    labels[8:14, 10:15] = 1000
    return labels
