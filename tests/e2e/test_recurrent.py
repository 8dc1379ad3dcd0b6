"""The recurrent way in a Detectron2 set-up that knows nothing of this project but two lines, and
in two processes of the trainer."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from own_data import write_cells
from test_train_net import run

from recurrent_instance_seg.config import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "projects" / "RecurrentInstanceSeg" / "README.md").read_text()
NODE = "MODEL.RECURRENT_INSTANCE_SEG"
MY_CONFIG = {
    "MODEL": {
        "MASK_ON": True,
        "DEVICE": "cpu",
        "BACKBONE": {"FREEZE_AT": 0},
        # Of so few images every object is asked for at once, with hints to the end.
        "RECURRENT_INSTANCE_SEG": {
            "NUM_CLASSES": 1,
            "MAX_STEPS": 6,
            "TEACHER_UNTIL": 60,
            "RANDOM_PREFIX": False,
            "CURRICULUM_START": 0,
            "INHIBITION_BIAS": 6.0,
        },
    },
    "INPUT": {"MASK_FORMAT": "bitmask", "MIN_SIZE_TRAIN": [96], "MIN_SIZE_TEST": 96},
    "DATASETS": {"TRAIN": ["cells"], "TEST": ["cells"]},
    "DATALOADER": {"NUM_WORKERS": 0},
    "SOLVER": {"IMS_PER_BATCH": 3, "MAX_ITER": 60, "BASE_LR": 0.1, "WARMUP_ITERS": 5},
    "TEST": {"EVAL_PERIOD": 60},
    "OUTPUT_DIR": "run",
}


def test_script_with_stock_trainer_mapper_and_evaluator(tmp_path):
    write_cells(tmp_path)
    (tmp_path / "cells/val").rename(tmp_path / "cells/images")
    (tmp_path / "cells/val.json").rename(tmp_path / "cells/annotations.json")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_config.yaml").write_text(yaml.safe_dump(MY_CONFIG))
    script = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL).group(1)
    assert len(script.splitlines()) <= 25
    assert "instance_seg_common" not in script
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text().splitlines()[-1])
    assert metrics["segm/AP"] > 40


def test_the_readme_names_no_key_that_does_not_exist():
    table = README.split("## Options")[1]
    named = set(re.findall(r"`([A-Z][A-Z_]+)[`: ]", table)) - {"TEST", "SOLVER"}
    assert len(named) > 30
    assert named <= set(DEFAULTS)


def test_two_processes_without_a_gpu(tmp_path):
    config = "configs/Synthetic/recurrent_R18_shapes.yaml"
    done = run(
        "--config-file", config, "--num-gpus", 2, "--dist-url", "auto",
        opts=("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["iteration"] == 2
    again = run(
        "--config-file", config, "--eval-only",
        opts=("OUTPUT_DIR", tmp_path / "one", "MODEL.WEIGHTS", tmp_path / "model_final.pth"),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    alone = json.loads((tmp_path / "one" / "results.json").read_text())["metrics"]
    assert alone["segm"] == pytest.approx(results["metrics"]["segm"], nan_ok=True)
    assert alone["matching"] == pytest.approx(results["metrics"]["matching"])


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ([f"{NODE}.DECODER", "gru"], "DECODER is 'gru'"),
        ([f"{NODE}.NUM_CLASSES", 2], "NUM_CLASSES to 4"),
    ],
)
def test_a_mistake_ends_in_one_sentence(tmp_path, opts, words):
    config = "configs/Synthetic/recurrent_R18_shapes.yaml"
    done = run("--config-file", config, opts=[*opts, "OUTPUT_DIR", tmp_path])
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
