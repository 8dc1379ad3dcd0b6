"""The command line of predict.py; what it does is tested with instance_seg_common.prediction."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import predict
import pytest
from bright_discs import discs
from PIL import Image

from instance_seg_common.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Two images of 30 discs."""
    (tmp_path / "images" / "deep").mkdir(parents=True)
    Image.fromarray(discs(0)[0]).save(tmp_path / "images" / "a.png")
    Image.fromarray(discs(1)[0]).save(tmp_path / "images" / "deep" / "b.png")
    return tmp_path / "images"


@pytest.fixture(scope="session")
def config(repository_root):
    return str(repository_root / "configs" / "Nuclei" / "classical.yaml")


def test_files_options_and_keys_in_any_order(config, folder, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--model", config, str(folder), "--recursive", "--output", str(output)]
    arguments += ["--save", "csv", "--save", "label-map", "--tile", "80", "--overlap", "24"]
    arguments += ["--pixel-size", "0.5", "MODEL.DEVICE", "cpu", "TEST.LABEL_MAP_MIN_AREA", "5"]
    assert predict.main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 images, 60 objects" in said and str(output) in said
    assert (output / "label-map" / "deep" / "b.png").is_file()
    assert "area_um2" in (output / "csv" / "a.csv").read_text()
    summary = json.loads((output / "summary.json").read_text())
    settings = summary["settings"]
    assert (settings["tile"], settings["overlap"], settings["min_area"]) == (80, 24, 5)
    assert predict.main([*arguments, "--resume"]) == 0
    assert "0 images (2 were done before), 60 objects" in capsys.readouterr().out


def test_a_bad_image_is_exit_status_1(config, folder, tmp_path, capsys):
    (folder / "c.png").write_bytes(b"no image")
    start = ["--model", config, str(folder), "--output", str(tmp_path / "out")]
    assert predict.main([*start, "MODEL.DEVICE", "cpu"]) == 1
    error = capsys.readouterr().err
    assert "c.png" in error and "could not be done: 1" in error
    assert np.asarray(Image.open(tmp_path / "out" / "label-map" / "a.png")).max() == 30


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent.png"], "no file or folder absent.png"),
        (["--tile", "-1"], "--tile is -1"),
        (["--tile", "20", "--overlap", "15"], "two overlaps"),
        (["--pixel-size", "nan"], "--pixel-size is nan"),
        (["MODEL.PIXEL_MEAN", "[1.0]", "MODEL.PIXEL_STD", "[1.0]"], "3 channels"),
    ],
)
def test_what_cannot_be_is_a_sentence(config, folder, tmp_path, arguments, sentence, capsys):
    arguments = [str(folder), *arguments, "MODEL.DEVICE", "cpu"]
    try:
        status = predict.main(["--model", config, "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr().err
    except UserError as error:
        status, said = 1, str(error)
    assert status == 1 and sentence in said
    assert not list(tmp_path.rglob("*.tif")) and not (tmp_path / "out" / "label-map").exists()


def test_a_run_that_is_killed_goes_on(config, folder, tmp_path, repository_root):
    for number in range(20):
        Image.fromarray(discs(number, (200, 200))[0]).save(folder / f"n{number}.png")
    output = tmp_path / "out"
    command = [sys.executable, str(repository_root / "tools" / "predict.py"), "--model", config]
    command += [str(folder), "--output", str(output), "MODEL.DEVICE", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = output / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error
    done = json.loads((output / "summary.json").read_text())["images"]
    assert 3 <= done < 21
    assert predict.main([*command[2:], "--resume"]) == 0
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["images"], summary["images_done_before"]) == (21, done)
    assert len(list((output / "label-map").iterdir())) == 21
