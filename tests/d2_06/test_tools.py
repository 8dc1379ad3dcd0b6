"""Each method by the tools, as a user of Detectron2's last release runs them: `make test-d2-06`.

The release stands before the environment's own Detectron2 on PYTHONPATH, here and in every tool.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"bbox", "segm", "matching", "sbd", "dic"}
LEARNED = {
    "mask_rcnn": "configs/Synthetic/mask_rcnn_R18_shapes.yaml",
    "embedding": "configs/Synthetic/embedding_R18_shapes.yaml",
    "recurrent": "configs/Synthetic/recurrent_R18_shapes.yaml",
}
BASELINE = "configs/Synthetic/classical_shapes.yaml"
# Published weights: their config, and what they were trained on.
PUBLISHED = {
    "mask_rcnn_R18_sticks": ("configs/Synthetic/mask_rcnn_R18_sticks.yaml", "sticks"),
    "embedding_R18_sticks": ("configs/Synthetic/embedding_R18_sticks.yaml", "sticks"),
    "recurrent_R18_shapes": ("configs/Synthetic/recurrent_R18_shapes.yaml", "shapes"),
}


def small_set(kind="shapes", size=128):
    """Keys of a config for six rendered images."""
    entry = {"name": "small", "format": "synthetic", "kind": kind}
    return [
        *("DATASETS.REGISTER", [{**entry, "num_images": 6, "image_size": size}]),
        *("DATASETS.TRAIN", "('small',)", "DATASETS.TEST", "('small',)"),
        *("DATALOADER.NUM_WORKERS", 1, "MODEL.DEVICE", "cpu"),
    ]


SMALL_IMAGES = ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64]
SHORT_TRAINING = [
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", 6),
    *("TEST.EVAL_PERIOD", 3, "TEST.VALIDATION_LOSS_IMAGES", 2, "TEST.PICTURES", 1),
]


def run(tool, *arguments, environment=None):
    """Run a tool in a process of its own; its output ends the test if it fails."""
    command = [sys.executable, f"tools/{tool}.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def metrics_of(folder):
    """The figures that an evaluation wrote, as {"group/name": value}; all groups are there."""
    groups = json.loads((folder / "results.json").read_text())["metrics"]
    assert set(groups) >= GROUPS
    named = {f"{group}/{name}": v for group in groups for name, v in groups[group].items()}
    return {name: value for name, value in named.items() if value is not None}


def check_pictures(folder, count):
    """There are as many pictures, and none of them is a plain surface."""
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == count
    assert all(np.asarray(Image.open(picture)).std() > 10 for picture in pictures)


@pytest.fixture(scope="module", autouse=True)
def _last_release():
    assert detectron2.__version__ == "0.6", "use `make test-d2-06`"


@pytest.mark.parametrize("config", LEARNED.values(), ids=LEARNED)
def test_train_evaluate_and_draw(config, tmp_path):
    options = [*small_set(size=64), *SMALL_IMAGES, *SHORT_TRAINING]
    trained, again = tmp_path / "trained", tmp_path / "again"
    run("train_net", "--config-file", config, *options, "OUTPUT_DIR", trained)
    scalars = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert any(line.get("validation_loss", 0) > 0 for line in scalars)
    assert any(line.get("total_loss", 0) > 0 for line in scalars)
    assert list(trained.glob("events.out.tfevents*"))
    metrics = metrics_of(trained)
    assert metrics["matching/tp50"] + metrics["matching/fn50"] > 0

    weights = trained / "model_final.pth"
    run(
        "train_net", "--config-file", config, "--eval-only", *options,
        "MODEL.WEIGHTS", weights, "OUTPUT_DIR", again,
    )  # fmt: skip
    assert metrics_of(again) == pytest.approx(metrics)

    run(
        "visualize", "--model", f"{config}:{weights}", "--source", "prediction", "--max-images", 2,
        "--internals", "--output", tmp_path / "pictures", *options,
    )  # fmt: skip
    check_pictures(tmp_path / "pictures", 4)


def test_evaluate_and_draw_the_baseline(tmp_path):
    run("train_net", "--config-file", BASELINE, "--eval-only", *small_set(), "OUTPUT_DIR", tmp_path)
    assert metrics_of(tmp_path)["matching/tp50"] > 0
    for source in ("prediction", "dataloader"):
        run(
            "visualize", "--model", BASELINE, "--source", source, "--max-images", 2,
            "--output", tmp_path / source, *small_set(),
        )  # fmt: skip
        check_pictures(tmp_path / source, 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_have_the_figures_that_they_have_on_the_main_branch(name, tmp_path):
    config, kind = PUBLISHED[name]
    folders = [f for f in os.environ["PYTHONPATH"].split(os.pathsep) if not _has_detectron2(f)]
    for release, path in (("last", os.environ["PYTHONPATH"]), ("main", os.pathsep.join(folders))):
        run(
            "train_net", "--config-file", config, "--eval-only", *small_set(kind),
            "MODEL.WEIGHTS", f"weights/{name}.pth", "OUTPUT_DIR", tmp_path / release,
            environment={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    last, main = metrics_of(tmp_path / "last"), metrics_of(tmp_path / "main")
    assert main["bbox/AP"] > 30
    assert last == pytest.approx(main, rel=1e-3)


def _has_detectron2(folder):
    return (Path(folder) / "detectron2").is_dir()
