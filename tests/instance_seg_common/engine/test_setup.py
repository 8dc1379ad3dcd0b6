"""What a user types becomes a config, or a sentence."""

import json
import logging
from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode

from instance_seg_common.engine import setup
from instance_seg_common.engine.setup import (
    NamedModel,
    common_test_set,
    load_cfg,
    load_model_cfg,
    load_models,
    parse_model,
    warn_of_choice_on_test_set,
    without_removed_keys,
)
from instance_seg_common.errors import RemovedKey, UserError

REMOVED = {
    "MODEL.OLD.RATE": RemovedKey(0.5, "the rate is always 0.5."),
    "MODEL.OLD.SIZES": RemovedKey((1, 2), "sizes follow from the image."),
    "MODEL.OLD.MODE": RemovedKey("fast", "write MODEL.NEW_MODE."),
}


@pytest.fixture
def config(tmp_path):
    """write(text, name) -> a YAML file."""

    def write(text="MODEL:\n  DEVICE: cpu\n", name="one.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def published(tmp_path, config):
    """A published model: weights/some.pth with facts, beside configs/some.yaml."""
    config(name="configs/some.yaml")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "some.pth").touch()
    facts = {"config": "configs/some.yaml"}
    (tmp_path / "weights" / "some.json").write_text(json.dumps(facts))
    return tmp_path / "weights" / "some"


@pytest.fixture
def removed(monkeypatch):
    """Keys that some plugin has no more."""
    keys = {"A": REMOVED}
    monkeypatch.setattr(setup, "announced", lambda group: keys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("configs/a.yaml", ("a", "configs/a.yaml", None)),
        ("a.yml", ("a", "a.yml", None)),
        ("a.yaml:w.pth", ("a", "a.yaml", "w.pth")),
        ("a.yaml:", ("a", "a.yaml", "")),
        ("a.yaml:detectron2://x/R-50.pkl", ("a", "a.yaml", "detectron2://x/R-50.pkl")),
        ("a.yaml:b.yaml:c.pth", ("a", "a.yaml", "b.yaml:c.pth")),
        ("runs.yaml/b.yaml", ("b", "runs.yaml/b.yaml", None)),
        ("output/run_3/config.yaml", ("run_3", "output/run_3/config.yaml", None)),
    ],
)
def test_config_with_and_without_weights(text, expected):
    assert parse_model(text) == NamedModel(*expected)


@pytest.mark.parametrize("suffix", ["", ".pth", ".json"])
def test_a_published_name_with_and_without_suffix(published, suffix):
    model = parse_model(str(published) + suffix)
    assert model.name == "some" and model.weights == f"{published}.pth"
    assert Path(model.config) == published.parent.parent / "configs" / "some.yaml"


def test_every_published_model_of_the_project_can_be_named(repository_root):
    names = sorted((repository_root / "weights").glob("*.json"))
    assert names
    for name in names:
        assert Path(parse_model(str(name)).config).is_file()


@pytest.mark.parametrize(
    ("facts", "words"),
    [(None, "some.json beside it"), ("{}", "no entry config"), ("{", "cannot be read")],
)
def test_what_names_no_model_is_a_sentence(published, facts, words):
    path = published.with_suffix(".json")
    path.unlink()
    if facts is not None:
        path.write_text(facts)
    with pytest.raises(UserError, match=words):
        parse_model(str(published))


def test_an_absent_name_says_what_may_be_written():
    with pytest.raises(UserError, match=r"'nothing' names no model.*CONFIG\.yaml:WEIGHTS\.pth"):
        parse_model("nothing")


def test_weights_of_the_name_of_training_or_of_the_config(config, tmp_path):
    path = config(f"MODEL: {{DEVICE: cpu, WEIGHTS: own.pth}}\nOUTPUT_DIR: {tmp_path / 'run'}\n")
    assert load_model_cfg(path).MODEL.WEIGHTS == "own.pth"
    (tmp_path / "run").mkdir()
    trained = tmp_path / "run" / "model_final.pth"
    trained.touch()
    assert Path(load_model_cfg(path).MODEL.WEIGHTS) == trained
    assert load_model_cfg(path, ["MODEL.WEIGHTS", "x.pth"]).MODEL.WEIGHTS == "x.pth"
    assert load_model_cfg(f"{path}:y.pth").MODEL.WEIGHTS == "y.pth"
    assert load_model_cfg(f"{path}:").MODEL.WEIGHTS == ""
    with pytest.raises(UserError, match=r"given twice: y\.pth with --model, x\.pth as"):
        load_model_cfg(f"{path}:y.pth", ["MODEL.WEIGHTS", "x.pth"])


def test_models_of_one_name_are_told_apart_by_their_weights(config):
    one, other = config(), config(name="other.yaml")
    models = load_models([f"{one}:a.pth", other, f"{one}:b.pth"], ["SEED", "7"])
    assert list(models) == ["one (a.pth)", "other", "one (b.pth)"]
    assert all(cfg.SEED == 7 for cfg in models.values())
    with pytest.raises(UserError, match=r"Two models are called one \(a\.pth\)"):
        load_models([f"{one}:a.pth", f"{one}:a.pth"])


@pytest.mark.parametrize(
    ("text", "opts", "words"),
    [
        (None, [], "There is no config file"),
        ("MODEL: [", [], "one.yaml"),
        ("MODEL: {NO_KEY: 1}", [], "NO_KEY"),
        ("MODEL: !!python/object/apply:os.getcwd []", [], "one.yaml"),
        ("VERSION: 1", [], "has VERSION 1"),
        ("SEED: 1", ["NO.KEY", "1"], "KEY VALUE pairs"),
        ("SEED: 1", ["SEED"], "odd length"),
    ],
)
def test_configs_that_cannot_be_used_are_sentences(config, text, opts, words):
    path = config(text) if text else "absent.yaml"
    with pytest.raises(UserError, match=words):
        load_cfg(path, opts)


def test_a_saved_config_loads_as_it_was(config, tmp_path):
    cfg = load_cfg(config("SEED: 3\nVERSION: 2\nMODEL: {DEVICE: cpu}"))
    again = load_cfg(config(cfg.dump(), "run/config.yaml"))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_removed_keys_without_effect_load_with_a_notice(config, removed, caplog):
    path = config("MODEL: {DEVICE: cpu, OLD: {RATE: 5e-1, SIZES: [1, 2], MODE: fast}}\nSEED: 3\n")
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="OLD"):
        load_cfg(path)  # the node itself is known to no plugin
    assert "3 keys of an earlier version" in caplog.text and "MODEL.OLD.RATE" in caplog.text


def test_removed_keys_are_taken_out_and_others_stay():
    loaded = CfgNode({"MODEL": {"OLD": {"RATE": 0.5, "KEPT": 1}}, "SEED": 3})
    without_removed_keys(loaded, REMOVED, "a.yaml")
    assert loaded == {"MODEL": {"OLD": {"KEPT": 1}}, "SEED": 3}
    for absent in ({"SEED": 1}, {"MODEL": {"OLD": 1}}, {"MODEL": {"DEVICE": "cpu"}}):
        loaded = CfgNode(absent)
        without_removed_keys(loaded, REMOVED, "a.yaml")
        assert loaded == absent


def test_removed_keys_with_other_values_are_one_sentence(config, removed):
    path = config("MODEL: {OLD: {RATE: 0.7, SIZES: [1, 2], MODE: slow}}\n")
    with pytest.raises(UserError) as caught:
        load_cfg(path)
    text = str(caught.value)
    assert text.startswith(f"{path} has keys of an earlier version.")
    assert "MODEL.OLD.RATE: the rate is always 0.5." in text
    assert "MODEL.OLD.MODE: write MODEL.NEW_MODE." in text
    assert "SIZES" not in text and "CHANGELOG.md" in text


def test_removed_keys_on_the_command_line_are_one_sentence(config, removed):
    pairs = ["MODEL.OLD.RATE", "0.5", "SEED", "1", "MODEL.OLD.MODE", "slow"]
    with pytest.raises(UserError, match=r"command line.*OLD\.RATE: the rate.*OLD\.MODE: write"):
        load_cfg(config(), pairs)


def test_a_common_test_set_or_a_sentence():
    one, two = (CfgNode({"DATASETS": {"TEST": (name,)}}) for name in ("a", "b"))
    assert common_test_set([one, one]) == "a"
    with pytest.raises(UserError, match=r"\(a, b\).*--dataset"):
        common_test_set([one, two])


def test_a_choice_on_the_test_set_is_warned_of(caplog):
    warn_of_choice_on_test_set(["a"], "b", "a threshold")
    assert not caplog.records
    warn_of_choice_on_test_set(["a"], "a", "a threshold")
    assert "a is in DATASETS.TEST: a threshold chosen on it" in caplog.text
