"""Label images of every kind that keeps ids as they are."""

import numpy as np
import pytest
from PIL import Image

from instance_seg_common.data.label_images import read_label
from instance_seg_common.errors import UserError


def test_eight_bit_and_palette_labels(folders, two_squares):
    small = (two_squares > 0).astype(np.uint8) * 3
    folders.write("labels", small, "grey.png")
    palette = Image.fromarray(small, mode="P")
    palette.putpalette([i for i in range(256) for _ in range(3)])
    palette.save(folders.path("labels", "palette.png"))
    for name in ("grey.png", "palette.png"):
        assert np.array_equal(read_label(folders.path("labels", name)), small)


def test_lossy_label(folders, two_squares):
    path = folders.write("labels", two_squares.astype(np.uint8), "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is stored as JPEG"):
        read_label(path)
