"""Which files a user names, and names of results that never collide."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from instance_seg_common.data.reading import PLAIN, Reading
from instance_seg_common.errors import UserError
from instance_seg_common.prediction.inputs import find_inputs

PIXELS = np.zeros((6, 5), np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Images on three levels, two of one stem, a text, a hidden file, a damaged image."""
    for path in ["a.png", "a.jpg", "b.v2.png", "deep/a.png", "deep/er/c.png", ".hidden.png"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / path)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0")
    return tmp_path


def names(tree, *named, **options):
    inputs = find_inputs(
        [str(path) for path in named], output=tree / "out", reading=PLAIN, **options
    )
    return {str(image.path.relative_to(tree)): image.name for image in inputs.images}


def test_a_folder(tree):
    expected = {"a.jpg": "a.jpg", "a.png": "a.png", "b.v2.png": "b.v2", "damaged.tif": "damaged"}
    assert names(tree, tree) == expected
    inputs = find_inputs([str(tree)], output=tree / "out", reading=PLAIN)
    assert inputs.others == [tree / "notes.txt"]


def test_folders_of_folders_keep_their_places(tree):
    found = names(tree, tree, recursive=True)
    assert found["deep/a.png"] == "deep/a" and found["deep/er/c.png"] == "deep/er/c"
    assert ".hidden.png" not in found


def test_results_of_an_earlier_run_are_no_inputs(tree):
    (tree / "out" / "label-map").mkdir(parents=True)
    Image.fromarray(PIXELS).save(tree / "out" / "label-map" / "a.png")
    assert not [path for path in names(tree, tree, recursive=True) if path.startswith("out")]
    assert not [path for path in names(tree, tree / "**/*.png") if path.startswith("out")]


def test_patterns(tree):
    assert names(tree, tree / "*.png") == {"a.png": "a", "b.v2.png": "b.v2"}
    found = names(tree, tree / "**" / "*.png")
    assert found["deep/er/c.png"] == "deep/er/c" and found["a.png"] == "a"
    with pytest.raises(UserError, match="fits no file"):
        names(tree, tree / "*.bmp")


def test_a_file_named_twice_is_one_image_and_equal_names_get_numbers(tree):
    assert len(names(tree, tree / "a.png", tree / "a.png")) == 1
    found = names(tree, tree / "a.png", tree / "deep" / "a.png")
    assert found == {"a.png": "a.png", "deep/a.png": "a.png_2"}


def test_what_is_not_there(tree):
    with pytest.raises(UserError, match="no file or folder"):
        names(tree, tree / "absent.png")
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="--recursive"):
        names(tree, tree / "empty")


def test_planes_of_a_stack_are_images(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((3, 6, 5), np.uint8), photometric="minisblack")
    Image.fromarray(PIXELS).save(tmp_path / "one.png")
    inputs = find_inputs(
        [str(tmp_path)], output=Path("out"), reading=Reading(planes="each"), recursive=False
    )
    assert [image.name for image in inputs.images] == [
        "one", "s_plane0", "s_plane1", "s_plane2",
    ]  # fmt: skip
    assert [image.plane for image in inputs.images] == [None, 0, 1, 2]
