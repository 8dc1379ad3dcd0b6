"""The side of a pixel, as TIFF files say it."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from instance_seg_common.data.pixel_size import pixel_size_of

PIXELS = np.zeros((8, 8), np.uint16)


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        (0.25, {"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}}),
        (
            0.5,
            {
                "ome": True,
                "metadata": {
                    "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm",
                },
            },
        ),
        (None, {"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}}),
        (None, {"ome": True, "metadata": {}}),
        (0.2, {"imagej": True, "resolution": (5, 5), "metadata": {"unit": "um"}}),
        (0.2, {"imagej": True, "resolution": (5, 5), "metadata": {"unit": "micron"}}),
        (0.2, {"imagej": True, "resolution": (5000, 5000), "metadata": {"unit": "mm"}}),
        (None, {"imagej": True, "resolution": (5, 5), "metadata": {"unit": "pixel"}}),
        (None, {"imagej": True, "metadata": {}}),
        (0.5, {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}),
        (None, {"resolution": (72, 72), "resolutionunit": "INCH"}),
        (None, {}),
        (0.252, {"description": "Aperio Image Library|AppMag = 40|MPP = 0.2520|Left = 1"}),
    ],
)  # fmt: skip
def test_what_a_tiff_says(tmp_path, expected, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, **options)
    found = pixel_size_of(path)
    assert found == (None if expected is None else pytest.approx(expected))


def test_other_files_and_damaged_ones_say_nothing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", dpi=(300, 300))
    (tmp_path / "b.tif").write_bytes(b"II*\0 and nothing else")
    assert pixel_size_of(tmp_path / "a.png") is None
    assert pixel_size_of(tmp_path / "b.tif") is None
