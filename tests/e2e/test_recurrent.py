"""The recurrent method by the commands of a user: two processes, mistakes, its pages' keys."""

import json
import re
from pathlib import Path

import pytest
from test_train_net import run

from recurrent_instance_seg.config import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "projects/RecurrentInstanceSeg/README.md": "## Keys",
    "docs/recurrent.md": "## Options",
}
NODE = "MODEL.RECURRENT_INSTANCE_SEG"


def dotted(keys, prefix=""):
    """Every key, those of a sub-node with its name before."""
    names = set()
    for key, value in keys.items():
        names |= dotted(value, f"{key}.") if isinstance(value, dict) else {prefix + key}
    return names


@pytest.mark.parametrize(("page", "section"), PAGES.items())
def test_a_page_names_every_key_and_none_that_does_not_exist(page, section):
    text = (ROOT / page).read_text().split(section)[1].split("\n## ")[0]
    named = set(re.findall(r"`((?:[A-Z]+\.)?[A-Z][A-Z_]+)[`: ]", text)) - {NODE}
    assert named <= dotted(DEFAULTS)
    assert dotted(DEFAULTS) - named <= {"NUM_CLASSES"}


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
