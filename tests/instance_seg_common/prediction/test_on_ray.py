"""A job on a local cluster of two workers writes the files of one process, whoever dies."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bright_discs import discs
from PIL import Image

from instance_seg_common.data.reading import Reading
from instance_seg_common.errors import UserError
from instance_seg_common.prediction import load_predictor
from instance_seg_common.prediction.inputs import InputImage, find_inputs
from instance_seg_common.prediction.job import run_job
from instance_seg_common.prediction.on_ray import attempt_on_ray, load_model_on_ray, rows_of
from instance_seg_common.prediction.one_file import Job, attempt
from instance_seg_common.prediction.ray_cluster import pool_for, ray_cluster
from instance_seg_common.prediction.ray_workers import Coordinator, Setup, Worker, open_large

ROOT = Path(__file__).resolve().parents[3]
MODEL = str(ROOT / "configs" / "Nuclei" / "classical.yaml")
OPTS = ["TEST.TILE_SIZE", "128", "TEST.TILE_OVERLAP", "32", "MODEL.DEVICE", "cpu"]
FORMS = ("label-map", "csv", "coco")


def draw(seed, side, path):
    Image.fromarray(discs(seed, (side, side))[0]).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images of one to four tiles, one of 25, and two damaged ones, one of them of 25 tiles."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        draw(number, 120 + 20 * number, folder / f"{number}.png")
    for name in ("cut", "cut_large", "large"):
        draw(7, 512 if "large" in name else 100, folder / f"{name}.png")
    for name in ("cut.png", "cut_large.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    return folder


@pytest.fixture(scope="module")
def images(folder):
    inputs = find_inputs([str(folder)], reading=Reading(), output=Path("none"))
    assert len(inputs.images) == 9
    return inputs.images


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory):
    """The run of one process: its folder and its outcome."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, run_job(load_predictor(MODEL, OPTS), images, Job(folder, FORMS))


@pytest.fixture(scope="module")
def model():
    """On two workers of a local cluster."""
    pytest.importorskip("ray.data")
    with ray_cluster(cpus=2):
        yield load_model_on_ray(MODEL, OPTS)


def files_of(folder):
    """The content of all results by name."""
    files = [file for form in FORMS for file in (folder / form).rglob("*")]
    files += [folder / "coco.json", folder / "objects.csv"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def facts_of(outcome):
    """What is not about time."""
    timeless = {"seconds": 0, "writing_seconds": 0}
    return [entry._replace(**timeless) for entry in outcome.entries], outcome.failures


def kill_a_worker():
    """One of the processes that hold the model, wherever it is in its work."""
    import psutil  # which Ray brings with it

    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "MapWorker" in " ".join(child.cmdline())]
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)


def attempt_with_a_death(*args, **kwargs):
    """As ``attempt_on_ray``; after the second image a worker dies."""
    for number, attempted in enumerate(attempt_on_ray(*args, **kwargs), start=1):
        yield attempted
        if number == 2:
            kill_a_worker()


def test_files_are_those_of_one_process_after_a_death_and_a_resume(model, images, alone, tmp_path):
    assert model.pool.workers == 2
    job = Job(tmp_path / "run", FORMS)
    few = [image for image in images if image.name in ("1", "3")]
    run_job(load_predictor(MODEL, OPTS), few, job)  # whoever began it
    outcome = run_job(model, images, job, resume=True, attempts=attempt_with_a_death)
    assert outcome.skipped == 2
    assert facts_of(outcome) == facts_of(alone[1])
    assert {Path(title).stem for title in outcome.failures} == {"cut", "cut_large"}
    assert files_of(job.folder) == files_of(alone[0])
    lines = (job.folder / "journal.jsonl").read_text().splitlines()[1:]
    assert Counter(json.loads(line)["name"] for line in lines) == Counter(
        ["large", *map(str, range(6))]
    )
    assert json.loads((job.folder / "summary.json").read_text())["complete"]


def test_large_images_go_to_several_workers(model, images):
    rows = {image.name: rows_of(model.cfg, image, Reading()) for image in images}
    assert [(row.first, row.last) for row in rows["large"]] == [(0, 16), (16, 25)]
    assert [(row.first, row.last) for row in rows["5"]] == [(0, 0)]
    assert all(row.image == image for image in images for row in rows[image.name])


def test_an_image_whose_worker_dies_each_time_is_given_up(model, images, tmp_path):
    import pickle

    import ray

    setup = Setup(MODEL, tuple(OPTS), Job(tmp_path, FORMS), str(tmp_path), 1)
    coordinator = Coordinator(setup, model.cfg)
    remote = SimpleNamespace(remote=lambda row: ray.put(coordinator.begin(row)))
    (row,) = rows_of(model.cfg, images[0], Reading())
    for _ in range(3):
        coordinator.begin(row)
    failure = pickle.loads(Worker(setup, SimpleNamespace(begin=remote))(row._asdict())["done"])
    assert "begun 3 times, and each time its worker died" in failure.sentence
    assert not failure.stops


def test_the_pixels_of_a_large_image_are_shared_memory(model, images, tmp_path):
    import ray

    setup = Setup(MODEL, tuple(OPTS), Job(tmp_path, FORMS), str(tmp_path), 1)
    (image,) = [image for image in images if image.name == "large"]
    coordinator = Coordinator(setup, model.cfg)
    (reference,) = coordinator.opened(image)
    opened = ray.get(reference)
    flags = opened.image.pixels.flags
    assert not (flags.owndata or flags.writeable)  # of Ray's store, not a copy
    np.testing.assert_array_equal(opened.image.pixels, np.asarray(Image.open(image.path)))
    assert coordinator.opened(image) == [reference]  # read once
    coordinator.forget(image)
    assert coordinator.opened(image) != [reference]


def test_a_node_without_the_shared_folder_stops_the_run(images, tmp_path):
    job = Job(tmp_path, FORMS)
    setup = Setup(MODEL, tuple(OPTS), job, str(tmp_path / "absent"), 1)
    failure = attempt(setup.enter, images[0], job)
    assert failure.stops
    assert "a file system that they share" in failure.sentence
    assert open_large(setup, None, images[0]) == failure


@pytest.mark.parametrize(
    ("resources", "workers", "wants_gpu", "expected"),
    [
        ({"CPU": 8}, None, False, (8, 1, 0, 1)),
        ({"CPU": 8}, 3, False, (3, 2, 0, 2)),
        ({"CPU": 8, "GPU": 2}, 3, False, (3, 2, 0, 2)),
        ({"CPU": 32, "GPU": 4}, None, True, (4, 1, 1, 8)),
        ({"CPU": 32, "GPU": 4}, 8, True, (8, 1, 0.5, 4)),
        ({"CPU": 32, "GPU": 4}, 2, True, (2, 1, 1, 16)),
    ],
)
def test_a_cluster_is_shared_out(resources, workers, wants_gpu, expected):
    assert pool_for(resources, workers, wants_gpu=wants_gpu) == expected


def test_more_workers_than_cpus_are_a_sentence():
    with pytest.raises(UserError, match="2 CPUs, each worker needs one: 3 are too many"):
        pool_for({"CPU": 2}, 3, wants_gpu=False)


def test_without_ray_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UserError, match=r'pip install "ray\[data\]"'), ray_cluster():
        pass


def test_no_cluster_at_an_address_is_a_sentence(monkeypatch):
    def refuse(**options):
        raise ConnectionError("nobody there")

    ray = SimpleNamespace(is_initialized=lambda: False, init=refuse, shutdown=lambda: None)
    module = "instance_seg_common.prediction.ray_cluster.require_ray"
    monkeypatch.setattr(module, lambda: ray)
    with (
        pytest.raises(UserError, match=r"at '10.0.0.1:6379': nobody there"),
        ray_cluster("10.0.0.1:6379"),
    ):
        pass


def test_a_row_remembers_its_plane(tmp_path):
    image = InputImage(tmp_path / "a.tif", "a_plane2", 2)
    (row,) = rows_of(None, image, Reading())
    assert row.image == image
