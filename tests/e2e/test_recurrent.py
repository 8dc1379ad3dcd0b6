"""The recurrent method by the commands of a user: mistakes, and its pages' keys."""

import re
from pathlib import Path

import pytest
from test_train_net import RECURRENT, run

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


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ([f"{NODE}.DECODER", "gru"], "DECODER is 'gru'"),
        ([f"{NODE}.NUM_CLASSES", 2], "NUM_CLASSES to 4"),
    ],
)
def test_a_mistake_ends_in_one_sentence(tmp_path, opts, words):
    done = run("--config-file", RECURRENT, opts=[*opts, "OUTPUT_DIR", tmp_path])
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
