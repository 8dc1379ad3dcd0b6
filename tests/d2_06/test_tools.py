"""Each method by the tools, as a user of Detectron2's last release runs them: `make test-d2-06`.

The release stands before the environment's own Detectron2 on PYTHONPATH, here and in every tool.
"""

import json
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SMALL_SET = [
    "DATASETS.REGISTER",
    "[{'name': 'small', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 6,"
    " 'image_size': 64}]",
    *("DATASETS.TRAIN", "('small',)", "DATASETS.TEST", "('small',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "6"),
    *("TEST.EVAL_PERIOD", "3", "TEST.VALIDATION_LOSS_IMAGES", "2", "TEST.PICTURES", "1"),
    *("DATALOADER.NUM_WORKERS", "1", "MODEL.DEVICE", "cpu"),
]
GROUPS = {"bbox", "segm", "matching", "sbd", "dic"}
LEARNED = {
    "mask_rcnn": "configs/Synthetic/mask_rcnn_R18_shapes.yaml",
    "embedding": "configs/Synthetic/embedding_R18_shapes.yaml",
    "recurrent": "configs/Synthetic/recurrent_R18_shapes.yaml",
}
BASELINE = "configs/Synthetic/classical_shapes.yaml"


def run(tool, *arguments, output):
    """Run a tool in a process of its own; its output ends the test if it fails."""
    command = [sys.executable, f"tools/{tool}.py", *map(str, arguments), *SMALL_SET]
    command += ["OUTPUT_DIR", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def metrics_of(folder):
    """What an evaluation wrote, as {"group/name": value}; all groups are there."""
    groups = json.loads((folder / "results.json").read_text())["metrics"]
    assert set(groups) >= GROUPS
    return {f"{group}/{name}": v for group in groups for name, v in groups[group].items()}


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
    trained, again = tmp_path / "trained", tmp_path / "again"
    run("train_net", "--config-file", config, output=trained)
    scalars = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert any(line.get("validation_loss", 0) > 0 for line in scalars)
    assert any(line.get("total_loss", 0) > 0 for line in scalars)
    assert list(trained.glob("events.out.tfevents*"))
    assert json.loads((trained / "best.json").read_text())["iteration"] in (3, 6)
    metrics = metrics_of(trained)
    assert metrics["matching/tp50"] + metrics["matching/fn50"] > 0

    weights = trained / "model_final.pth"
    run(
        "train_net", "--config-file", config, "--eval-only", "MODEL.WEIGHTS", weights,
        output=again,
    )  # fmt: skip
    assert metrics_of(again) == pytest.approx(metrics, nan_ok=True)

    run(
        "visualize", "--model", f"{config}:{weights}", "--source", "prediction", "--max-images", 2,
        "--internals", "--output", tmp_path / "pictures", output=again,
    )  # fmt: skip
    check_pictures(tmp_path / "pictures", 4)


def test_evaluate_and_draw_the_baseline(tmp_path):
    run("train_net", "--config-file", BASELINE, "--eval-only", output=tmp_path)
    assert metrics_of(tmp_path)["matching/accuracy50"] > 0.2
    run(
        "visualize", "--model", BASELINE, "--source", "prediction", "--max-images", 2,
        "--output", tmp_path / "pictures", output=tmp_path,
    )  # fmt: skip
    check_pictures(tmp_path / "pictures", 2)
    run(
        "visualize", "--model", BASELINE, "--source", "dataloader", "--max-images", 2,
        "--output", tmp_path / "seen", output=tmp_path,
    )  # fmt: skip
    check_pictures(tmp_path / "seen", 2)
