"""Which images a tool works on, and the bar that shows how far it is."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from instance_seg_common.engine import chosen_images


@pytest.fixture
def images(tmp_path):
    """A folder of three images of noise."""
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(255, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"cell{index}.png")
    return path


@pytest.fixture
def folder(images, tmp_path):
    """Two images under names out of order, a file that is none, and a folder."""
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    for name, index in (("b.png", 0), ("a.tif", 1)):
        Image.open(images / f"cell{index}.png").save(path / name)
    (path / "notes.txt").write_text("no image")
    return path


def test_folders_are_their_images_by_name(folder, images, capsys):
    single = str(images / "cell2.png")
    paths = chosen_images.image_paths([single, str(folder), "absent.png"])
    assert [path.name for path in paths] == ["cell2.png", "a.tif", "b.png", "absent.png"]
    said = capsys.readouterr().err
    assert "files that are no images, left out: 1, such as notes.txt" in said
    chosen_images.image_paths([str(images)])
    assert capsys.readouterr().err == ""


def test_images_of_one_name_keep_their_ids_apart(images, folder):
    Image.open(images / "cell0.png").save(folder / "cell0.png")
    paths = [str(folder), str(images / "cell0.png")]
    ids = [record["image_id"] for record in chosen_images.file_records(paths)]
    assert ids == ["a.tif", "b.png", str(folder / "cell0.png"), paths[1]]


class Terminal(io.StringIO):
    """A stream to which somebody looks."""

    def isatty(self):
        return True


def test_a_bar_at_a_terminal(monkeypatch):
    monkeypatch.setattr(chosen_images.sys, "stderr", Terminal())
    assert list(chosen_images.progress([1, 2, 3])) == [1, 2, 3]
    assert "3/3" in chosen_images.sys.stderr.getvalue()
    monkeypatch.setattr(chosen_images.sys, "stderr", io.StringIO())
    assert list(chosen_images.progress([1, 2, 3])) == [1, 2, 3]
    assert chosen_images.sys.stderr.getvalue() == ""


def test_the_bar_can_be_switched_off():
    """In a process of its own: tqdm reads its environment when it is imported."""
    code = (
        "import sys; from instance_seg_common.engine import chosen_images as chosen;"
        "sys.stderr.isatty = lambda: 1;"
        "list(chosen.progress([1, 2])); list(chosen.tqdm([1, 2, 3], disable=False))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TQDM_DISABLE": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    assert "2/2" not in said and "3/3" in said
