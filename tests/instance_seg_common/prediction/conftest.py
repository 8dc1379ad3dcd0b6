"""A predictor without weights, and images with bright discs on a dark ground."""

import pytest
from bright_discs import discs

from instance_seg_common.prediction import load_predictor


@pytest.fixture(scope="session")
def classical(repository_root):
    """Otsu and watershed with the tiles that its config has: none."""
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    return load_predictor(str(config), ["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="session")
def tiled(repository_root):
    """The same in tiles of at most 80 pixels."""
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    opts = ["MODEL.DEVICE", "cpu", "TEST.TILE_SIZE", "80", "TEST.TILE_OVERLAP", "24"]
    return load_predictor(str(config), opts)


@pytest.fixture(scope="session")
def image():
    """(H, W, 3) uint8."""
    return discs()[0]


@pytest.fixture(scope="session")
def count():
    """Of the objects of ``image``."""
    return discs()[1]
