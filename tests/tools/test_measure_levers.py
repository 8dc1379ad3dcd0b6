"""The levers one at a time: what they change, and when a run counts as broken through."""

import json

import measure_levers
import pytest
from measure_levers import CONFIG, LEVERS, PLAIN, lever_cfg, time_to_break

SMALL = [
    "DATASETS.REGISTER",
    "[{'name': 'tiny_levers', 'format': 'synthetic', 'kind': 'shapes', 'num_images': 4}]",
    *("DATASETS.TRAIN", "('tiny_levers',)", "DATASETS.TEST", "('tiny_levers',)"),
    *("SOLVER.IMS_PER_BATCH", "1", "MODEL.DEVICE", "cpu"),
]


def node(changes):
    return lever_cfg(CONFIG, changes).MODEL.RECURRENT_INSTANCE_SEG


def test_a_lever_changes_what_it_names_and_nothing_else():
    plain, config = node({}), node(None)
    assert all(plain[key] == value for key, value in PLAIN.items())
    # What the config switches on, PLAIN switches off.
    assert {key for key in config if config[key] != plain[key]} == set(PLAIN)
    for changes in filter(None, LEVERS.values()):
        own = node(changes)
        assert {key for key in own if own[key] != plain[key]} == set(changes)


def test_training_ends_when_the_loss_is_low_or_the_time_is_over(monkeypatch):
    cfg = lever_cfg(CONFIG, {}, SMALL)
    ended = time_to_break(cfg, 1e-6)
    assert ended["iterations"] == 1 and not ended["broke"] and ended["seconds"] > 0
    assert 0.95 < ended["loss"] < 1  # the mean of 1 and the first loss, 19 to 1
    monkeypatch.setattr(measure_levers, "BROKEN", 0.97)
    broken = time_to_break(cfg, 1000)
    assert broken["broke"] and broken["iterations"] > 1 and broken["loss"] < 0.97


def test_figures_are_printed_and_written(tmp_path, capsys):
    target = tmp_path / "new" / "levers.json"
    names = ("plain", "guide, attention")
    measure_levers.main(["--levers", *names, "--seconds", "0.001", "--json", str(target), *SMALL])
    figures = json.loads(target.read_text())
    assert tuple(figures) == names
    out = capsys.readouterr().out
    assert out.count("| plain ") == 2 and "not in 1" in out
    with pytest.raises(SystemExit):
        measure_levers.parse_args(["--levers", "nothing"])
