"""`make demo` in small: the table, and exit status 1 for a model that has not learned."""

import sys
from types import SimpleNamespace

import demo
import pytest
from forked import run_script

SMALL = (
    "DATASETS.REGISTER",
    "[{'name': 'tiny_demo', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 4}]",
    *("DATASETS.TRAIN", "('tiny_demo',)", "DATASETS.TEST", "('tiny_demo',)"),
)
UNTRAINED = (
    *("SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "TEST.EVAL_PERIOD", "0"),
    *("DATALOADER.NUM_WORKERS", "0"),
)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("tools", "configs", "weights"):
        (tmp_path / name).symlink_to(demo.ROOT / name)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "PICTURES", 1)
    return tmp_path


def run_in_a_fork(command, cwd, check):
    assert command[0] == sys.executable
    return run_script(*command[1:], folder=cwd)


def test_a_model_that_has_not_learned_fails_the_demo(checkout, monkeypatch, capsys):
    rows = [one._replace(opts=SMALL + UNTRAINED if one.trained else SMALL) for one in demo.DEMO]
    monkeypatch.setattr(demo, "DEMO", rows)
    monkeypatch.setattr(demo, "subprocess", SimpleNamespace(run=run_in_a_fork))
    assert demo.main() == 1
    out, err = capsys.readouterr()
    for one in rows:
        assert any(line.startswith(one.name) for line in out.splitlines())
        assert list((checkout / "output" / "demo" / one.name / "pictures").glob("*.png"))
    assert "below 40: mask_rcnn, embedding" in err
    page = checkout / "output" / "demo" / "comparison" / "index.html"
    assert all(one.config.split("/")[-1][:-5] in page.read_text() for one in rows)
    assert str(page.relative_to(checkout)) in out


def test_the_baseline_alone_passes(checkout, monkeypatch):
    rows = [one._replace(opts=SMALL) for one in demo.DEMO if not one.trained]
    monkeypatch.setattr(demo, "DEMO", rows)
    assert demo.main() == 0
