"""tools/train_net.py as a user runs it: processes, resume after a kill, and mistakes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forked import run_script

ROOT = Path(__file__).resolve().parents[2]
SHAPES = "configs/Synthetic/mask_rcnn_R18_shapes.yaml"
EMBEDDING = "configs/Synthetic/embedding_R18_shapes.yaml"
RECURRENT = "configs/Synthetic/recurrent_R18_shapes.yaml"
TWO = ("--num-gpus", 2, "--dist-url", "auto")
TINY = [
    "DATASETS.REGISTER",
    "[{'name': 'tiny_cli', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 6,"
    " 'image_size': 64}]",
    *("DATASETS.TRAIN", "('tiny_cli',)", "DATASETS.TEST", "('tiny_cli',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "1"),
    *("TEST.EVAL_PERIOD", "0", "MODEL.DEVICE", "cpu"),
]


def arguments(*options, opts=()):
    return map(str, [*options, *TINY, *opts])


def run(*options, opts=(), script="tools/train_net.py", **how):
    # One thread: several add up gradients of indexed tensors in any order.
    return run_script(script, *arguments(*options, opts=opts), **how)


def run_in_a_shell(*options, opts=()):
    """In a process that begins with nothing."""
    return subprocess.run(
        [sys.executable, "tools/train_net.py", *arguments(*options, opts=opts)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def run_forking(*options, opts=()):
    """With processes that share the libraries."""
    return run(*options, opts=opts, script="tests/e2e/train_net_forked.py")


@pytest.mark.parametrize(
    ("config", "start", "decay"),
    [(SHAPES, run_in_a_shell, 0), (EMBEDDING, run_forking, 0.9), (RECURRENT, run_forking, 0.9)],
)
def test_two_processes_without_a_gpu(tmp_path, config, start, decay):
    done = start(
        "--config-file", config, *TWO,
        opts=("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.EMA_DECAY", float(decay)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["iteration"] == 2
    assert results["metrics"]["matching"]["fn50"] + results["metrics"]["matching"]["tp50"] > 0
    again = run(
        "--config-file", config, "--eval-only",
        opts=("OUTPUT_DIR", tmp_path / "one", "MODEL.WEIGHTS", tmp_path / "model_final.pth"),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    alone = json.loads((tmp_path / "one" / "results.json").read_text())["metrics"]
    assert alone["segm"] == pytest.approx(results["metrics"]["segm"], nan_ok=True)
    assert alone["matching"] == pytest.approx(results["metrics"]["matching"])


def test_killed_and_resumed_run_ends_as_the_uninterrupted_one(tmp_path):
    opts = ["SOLVER.MAX_ITER", 5, "SOLVER.CHECKPOINT_PERIOD", 2]
    whole = run("--config-file", SHAPES, opts=[*opts, "OUTPUT_DIR", tmp_path / "whole"])
    assert whole.returncode == 0, whole.stderr[-3000:]
    killed = tmp_path / "killed"
    opts += ["OUTPUT_DIR", killed]
    # While it writes its second checkpoint.
    stopped = run("--config-file", SHAPES, opts=opts, killed_at="model_0000003")
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr[-3000:]
    assert not (killed / "results.json").is_file()
    resumed = run("--config-file", SHAPES, "--resume", opts=opts)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "Resuming at iteration 2 of 5" in resumed.stdout + resumed.stderr
    runs = (tmp_path / "whole", killed)
    one, other = (torch.load(run / "model_final.pth")["model"] for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = (json.loads((run / "results.json").read_text())["metrics"] for run in runs)
    assert one == other


NODE = "MODEL.EMBEDDING_INSTANCE_SEG"


@pytest.mark.parametrize(
    ("start", "config", "options", "opts", "words"),
    [
        (run_in_a_shell, "configs/none.yaml", (), [], "no config file configs/none.yaml"),
        (run, SHAPES, (), ["MODEL.ROI_HEADS.NUM_CLASSES", 7], "NUM_CLASSES to 4"),
        (run, SHAPES, (), ["SOLVER.STEPSS", "1"], "STEPSS"),
        (run_forking, SHAPES, TWO, ["SOLVER.IMS_PER_BATCH", 3], "IMS_PER_BATCH is 3"),
        (run, SHAPES, (), ["DATASETS.TRAIN", "('tiny_clj',)"], "tiny_cli"),
        (run, SHAPES, ("--eval-only",), [], "MODEL.WEIGHTS"),
        (run, SHAPES, ("--eval-only",), ["MODEL.WEIGHTS", "no.pth"], "no.pth"),
        (run, "configs/Synthetic/classical_shapes.yaml", (), [], "--eval-only"),
        (run, EMBEDDING, (), [f"{NODE}.CLUSTERING", "kmeans"], "CLUSTERING has 'kmeans'"),
        (run, EMBEDDING, (), [f"{NODE}.NUM_CLASSES", 2], "NUM_CLASSES to 4"),
    ],
)
def test_a_mistake_ends_in_one_sentence(tmp_path, start, config, options, opts, words):
    done = start("--config-file", config, *options, opts=[*opts, "OUTPUT_DIR", tmp_path])
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_an_unreadable_image_ends_in_its_name(tmp_path):
    from own_data import write_cells

    write_cells(tmp_path)
    (tmp_path / "cells/train/images/1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    register = [{"name": "broken", "format": "label_map", "classes": ["cell"],
                 "image_dir": str(tmp_path / "cells/train/images"),
                 "label_dir": str(tmp_path / "cells/train/labels")}]  # fmt: skip
    done = run(
        "--config-file", "configs/Nuclei/mask_rcnn_R18.yaml",
        opts=["DATASETS.REGISTER", register, "DATASETS.TRAIN", "('broken',)",
              "DATASETS.TEST", "('broken',)", "OUTPUT_DIR", tmp_path / "run"],
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "1.png" in last
