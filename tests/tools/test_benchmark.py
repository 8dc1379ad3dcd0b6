"""tools/benchmark.py: what it prints, writes and answers to its caller."""

import json
from dataclasses import replace

import benchmark
import pytest
import torch
from stopped_clock import sleeping_row, stop

from instance_seg_analysis.benchmark.recurrent_cost import DecoderFigures, MemoryFigures
from instance_seg_common.errors import UserError

SMALL = [
    "DATASETS.REGISTER",
    "[{'name': 'tiny_levers', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 4,"
    " 'image_size': 64}]",
    *("DATASETS.TRAIN", "('tiny_levers',)", "DATASETS.TEST", "('tiny_levers',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", "1", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture
def clock(monkeypatch):
    stop(monkeypatch, benchmark.timing)


@pytest.fixture
def threads():
    """The tool measures on one thread; the number is set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_row_that_cannot_be_measured_does_not_cost_the_others(
    clock, monkeypatch, capsys, tmp_path
):
    def build():
        raise UserError("There is no file x.pth.")

    good = sleeping_row(2)
    rows = [replace(good, name="absent", build=build), replace(sleeping_row(2, 3.0), name="wrong")]
    monkeypatch.setattr(benchmark.rows, "ROW_SOURCES", [lambda: [*rows, good]])
    path = tmp_path / "figures.json"
    assert benchmark.main(["time", "--repeats", "1", "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.count("sleeping longer") == 1 and len(json.loads(path.read_text())) == 1
    absent, wrong = err.splitlines()
    assert absent == "error: row 'absent': There is no file x.pth."
    assert wrong.startswith("error: row 'wrong': Ours and the reference differ by 2,")
    assert benchmark.main(["time", "--repeats", "1", "--rows", "absent"]) == 1


@pytest.mark.parametrize(("required", "status"), [(2, 0), (50, 1)])
def test_strict_and_json(clock, monkeypatch, capsys, tmp_path, required, status):
    monkeypatch.setattr(benchmark.rows, "ROW_SOURCES", [lambda: [sleeping_row(required)]])
    path = tmp_path / "new" / "figures.json"
    arguments = ["time", "--repeats", "2", "--json", str(path)]
    assert benchmark.main(arguments) == 0
    assert benchmark.main([*arguments, "--strict"]) == status
    assert "sleeping longer" in capsys.readouterr().out
    (figures,) = json.loads(path.read_text())
    assert figures["name"] == "sleep" and figures["met"] == (status == 0)


def test_costs_are_printed_and_written(threads, monkeypatch, capsys, tmp_path):
    decoders = [{"decoder": "d", "ours": 1e9, "reference": 2e9, "ratio": 2.0, "required": 1.5}]
    memory = {"kept": [2**21, 2**22], "checkpointing": [2**20, 2**20]}
    asked = []
    cost = benchmark.recurrent_cost
    monkeypatch.setattr(cost, "decoder_figures", lambda: [DecoderFigures(**decoders[0])])
    monkeypatch.setattr(
        cost,
        "memory_figures",
        lambda steps: asked.append(steps) or MemoryFigures(list(steps), **memory),
    )
    path = tmp_path / "new" / "figures.json"
    assert benchmark.main(["memory", "--steps", "1", "2", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert asked == [[1, 2]] and "2.000" in out and "| MiB a step | 2.0 " in out
    written = json.loads(path.read_text())
    assert written == {"decoders": decoders, "memory": {"steps": [1, 2], **memory}}


def test_levers_are_printed_and_written(threads, tmp_path, capsys):
    target = tmp_path / "new" / "levers.json"
    names = ("rsis", "guided_without_teacher")
    arguments = ["--seconds", "0.001", "--json", str(target), *SMALL]
    assert benchmark.main(["levers", "--levers", *names, *arguments]) == 0
    figures = json.loads(target.read_text())
    assert tuple(figures) == names
    out = capsys.readouterr().out
    assert out.count("| rsis ") == 2 and "not in 1" in out
    with pytest.raises(SystemExit):
        benchmark.parse_args(["levers", "--levers", "nothing"])
