"""Many files: nothing lost, nothing done twice, one bad image costs one line."""

import csv
import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from bright_discs import discs
from PIL import Image
from pycocotools.coco import COCO

from instance_seg_common.data.reading import PLAIN
from instance_seg_common.errors import UserError
from instance_seg_common.prediction import one_file
from instance_seg_common.prediction.forms import FORMS
from instance_seg_common.prediction.inputs import find_inputs
from instance_seg_common.prediction.job import Job, run_job

ALL = tuple(FORMS)


@pytest.fixture
def folder(tmp_path):
    """Three images of 30, 30 and 12 discs."""
    images = tmp_path / "images"
    images.mkdir()
    for number, size in enumerate([(120, 150), (120, 150), (80, 110)]):
        Image.fromarray(discs(number, size)[0]).save(images / f"i{number}.png")
    return images


def run(predictor, folder, output, **options):
    forms = options.pop("forms", ("label-map",))
    inputs = find_inputs([str(folder)], output=output, reading=PLAIN)
    return run_job(
        predictor, inputs.images, Job(output, forms), failures=inputs.failures, **options
    )


def contents(output):
    """Bytes of the results by their place."""
    skipped = {"summary.json", "journal.jsonl"}
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name not in skipped)
    return {str(p.relative_to(output)): p.read_bytes() for p in files}


def test_every_form_of_every_image(tiled, folder, tmp_path):
    output = tmp_path / "out"
    outcome = run(tiled, folder, output, forms=ALL)
    assert [entry.objects for entry in outcome.entries] == [30, 30, 12]
    for number, entry in enumerate(outcome.entries):
        labels = np.asarray(Image.open(output / "label-map" / f"i{number}.png"))
        assert labels.dtype == np.uint16 and labels.max() == entry.objects
        outlines = json.loads((output / "geojson" / f"i{number}.geojson").read_text())
        assert len(outlines["features"]) == entry.objects
        assert Image.open(output / "overlay" / f"i{number}.png").size == labels.shape[::-1]
    with (output / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["i0"] * 30 + ["i1"] * 30 + ["i2"] * 12
    summary = json.loads((output / "summary.json").read_text())
    assert summary["complete"] and summary["images"] == 3 and summary["objects"] == 72
    assert summary["settings"]["tile"] == 80 and summary["versions"]["torch"]


def test_coco_of_all_images_holds_the_label_maps(tiled, folder, tmp_path):
    output = tmp_path / "out"
    run(tiled, folder, output, forms=("coco", "label-map"))
    coco = COCO(str(output / "coco.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["nucleus"]
    for image in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        union = sum(coco.annToMask(annotation) for annotation in annotations)
        labels = np.asarray(Image.open(output / "label-map" / image["file_name"].split("/")[-1]))
        assert np.array_equal(union > 0, labels > 0)
        assert all(0 < a["score"] <= 1 and a["area"] > 0 for a in annotations)


def test_categories_have_the_ids_of_a_coco_data_set(classical, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(classical, "classes", classical.classes._replace(category_ids=(44,)))
    run(classical, folder, tmp_path / "out", forms=("coco",))
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert content["categories"] == [{"id": 44, "name": "nucleus"}]
    assert {annotation["category_id"] for annotation in content["annotations"]} == {44}


def test_a_bad_image_costs_one_line_and_not_the_rest(classical, folder, tmp_path, capfd):
    (folder / "i1.png").write_bytes((folder / "i1.png").read_bytes()[:200])
    Image.fromarray(np.zeros((20, 20, 4), np.uint8)).save(folder / "i3.png")
    tifffile.imwrite(folder / "i4.tif", np.zeros((2, 9, 9), np.uint8), photometric="minisblack")
    outcome = run(classical, folder, tmp_path / "out")
    assert [entry.name for entry in outcome.entries] == ["i0", "i2", "i3"]  # alpha is left out
    assert len(outcome.failures) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "i1.png" in lines[0] and "planes" in lines[1]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sorted(summary["failures"]) == [str(folder / "i1.png"), str(folder / "i4.tif")]


def test_a_fault_of_the_program_is_one_image_too(classical, folder, tmp_path, monkeypatch):
    whole = type(classical).predict

    def fails_on_one(self, image, **options):
        if "i1" in image["file_name"]:
            raise KeyError("surprise")
        return whole(self, image, **options)

    monkeypatch.setattr(type(classical), "predict", fails_on_one)
    outcome = run(classical, folder, tmp_path / "out")
    assert [entry.name for entry in outcome.entries] == ["i0", "i2"]
    assert "KeyError" in outcome.failures[str(folder / "i1.png")]
    assert "Traceback" in (tmp_path / "out" / "errors.log").read_text()


def test_memory_that_is_not_there_is_a_sentence(classical, folder, tmp_path, monkeypatch):
    def no_memory(self, image, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(type(classical), "predict", no_memory)
    outcome = run(classical, folder, tmp_path / "out")
    assert len(outcome.failures) == 3
    assert all("--tile" in sentence for sentence in outcome.failures.values())


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(tiled, folder, tmp_path, monkeypatch):
    run(tiled, folder, tmp_path / "straight", forms=ALL)
    output, write = tmp_path / "stopped", one_file.write_forms

    def stopped(result, folder, forms, *, name, file_name):
        if name == "i1":
            write(result, folder, forms[:2], name=name, file_name=file_name)
            raise KeyboardInterrupt
        return write(result, folder, forms, name=name, file_name=file_name)

    with monkeypatch.context() as patch:
        patch.setattr(one_file, "write_forms", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tiled, folder, output, forms=ALL)
    summary = json.loads((output / "summary.json").read_text())
    assert not summary["complete"] and summary["images"] == 1
    with (output / "journal.jsonl").open("a") as file:
        file.write('{"file": "cut off in the mid')
    outcome = run(tiled, folder, output, forms=ALL, resume=True)
    assert outcome.skipped == 1 and len(outcome.entries) == 3
    assert contents(output) == contents(tmp_path / "straight")


def test_resume_does_again_what_has_lost_its_files(classical, folder, tmp_path):
    output = tmp_path / "out"
    run(classical, folder, output)
    expected = contents(output)
    (output / "label-map" / "i2.png").unlink()
    assert run(classical, folder, output, resume=True).skipped == 2
    assert contents(output) == expected
    # Another form is written for all images.
    assert run(classical, folder, output, resume=True, forms=("csv", "label-map")).skipped == 0


def test_an_output_with_files_is_never_touched(classical, folder, tmp_path):
    output = tmp_path / "out"
    run(classical, folder, output)
    with pytest.raises(UserError, match="--resume"):
        run(classical, folder, output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(UserError, match="name another --output"):
            run(classical, folder, tmp_path / "mine", resume=resume)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_resume_with_other_settings_is_refused(classical, tiled, folder, tmp_path):
    run(classical, folder, tmp_path / "out")
    with pytest.raises(UserError, match="same settings"):
        run(tiled, folder, tmp_path / "out", resume=True)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from instance_seg_common.data.reading import PLAIN
from instance_seg_common.errors import UserError
from instance_seg_common.prediction import load_predictor
from instance_seg_common.prediction.inputs import find_inputs
from instance_seg_common.prediction.job import Job, run_job
images, output, config = sys.argv[1:]
predictor = load_predictor(config, ["MODEL.DEVICE", "cpu"])
found = find_inputs([images], output=Path(output), reading=PLAIN).images
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # no file may be longer
try:
    run_job(predictor, found, Job(Path(output), ("label-map", "overlay")))
except UserError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_files_that_cannot_be_written_stop_the_run_with_nothing_half_written(
    folder, tmp_path, repository_root
):
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    output = tmp_path / "out"
    command = [sys.executable, "-c", FULL_DISK, str(folder), str(output), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be written" in done.stdout and "--resume" in done.stdout
    left = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert left <= {"journal.jsonl", "summary.json", "label-map/i0.png"}
