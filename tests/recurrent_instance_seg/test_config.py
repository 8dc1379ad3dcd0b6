"""Config mistakes, keys of one decoder, and keys of earlier versions."""

import pytest
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from tiny_recurrent import GUIDED, RIS, RSIS_DETAIL, recurrent_cfg

from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from recurrent_instance_seg import add_recurrent_instance_seg_config
from recurrent_instance_seg.config import DEFAULTS, GONE, MOVED, NODE, REMOVED_KEYS

# Another value than the default for every key that one decoder alone reads.
OF_ONE_DECODER = {
    "GUIDED.UNIT": 20.0,
    "GUIDED.TEACHER_UNTIL": 5,
    "RSIS.DETAIL": True,
    "RIS.INHIBITION_BIAS": 4.5,
    "RIS.INHIBITION_GAIN": 8.0,
    "RIS.POSITION_WEIGHT": 0.3,
}
KINDS = {"GUIDED": GUIDED, "RSIS": RSIS_DETAIL, "RIS": RIS}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"DECODER": "gru", "MAX_STEPS": 0}, "DECODER is 'gru'; it can be guided, rsis or ris"),
        ({"IN_FEATURES": ["p2", "res9"]}, "IN_FEATURES is .*res9.*; the backbone has p2, p3"),
        ({"IN_FEATURES": []}, "IN_FEATURES is .*the backbone has p2, p3"),
        ({**RIS, "IN_FEATURES": ["p2", "p3"]}, "IN_FEATURES is .*ris decoder reads one"),
        ({"HIDDEN_CHANNELS": [8]}, "HIDDEN_CHANNELS is .*; 2 numbers are needed"),
        ({"RSIS.DETAIL": True}, "HIDDEN_CHANNELS is .*; 3 numbers are needed"),
        ({**RIS, "HIDDEN_CHANNELS": []}, "HIDDEN_CHANNELS is .*number is needed"),
        ({"LOSS_STRIDE": 3}, "LOSS_STRIDE is 3; it can be 1, 2 or 4"),
        ({"MAX_STEPS": 0}, "MAX_STEPS is 0; at least one"),
        ({"OVERLAP": "best"}, "OVERLAP is 'best'; it can be first or empty"),
        ({"SCORE": ["size"]}, "SCORE is .*size.*; it is made of class, objectness, mask"),
        (
            {**GUIDED, "IN_FEATURES": ["p2"], "HIDDEN_CHANNELS": [8]},
            "IN_FEATURES is .*; the guided decoder needs two levels",
        ),
        ({**GUIDED, "GUIDED.UNIT": 0.0}, "GUIDED.UNIT is 0.0; .*above 0"),
    ],
)
def test_config_mistakes_are_sentences(changes, sentence):
    with pytest.raises(UserError, match=rf"MODEL\.RECURRENT_INSTANCE_SEG\.{sentence}"):
        build_model(recurrent_cfg(**changes))


def test_every_key_of_one_decoder_is_tried_here():
    nodes = {key: value for key, value in DEFAULTS.items() if isinstance(value, dict)}
    assert set(OF_ONE_DECODER) == {f"{name}.{key}" for name in nodes for key in nodes[name]}


@pytest.mark.parametrize("key", OF_ONE_DECODER)
@pytest.mark.parametrize("decoder", KINDS)
def test_a_key_that_the_decoder_does_not_read_cannot_be_set(decoder, key):
    owner, name = key.split(".")
    cfg = recurrent_cfg(**{**KINDS[decoder], key: OF_ONE_DECODER[key]})
    if owner == decoder:
        build_model(cfg)
        return
    words = (
        rf"{key} is {OF_ONE_DECODER[key]!r}, but DECODER is '{decoder.lower()}', which does not "
        rf"read it: leave it at {DEFAULTS[owner][name]!r}, or set DECODER to {owner.lower()}\."
    )
    with pytest.raises(UserError, match=words):
        build_model(cfg)


# Keys of earlier versions.


def nested(key, value):
    """{"MODEL": {"RECURRENT_INSTANCE_SEG": {key: value}}}"""
    for part in reversed(f"{NODE}.{key}".split(".")):
        value = {part: value}
    return value


def other_than(default):
    return {bool: not default, str: "greedy"}.get(type(default), 5)


def test_removed_keys_are_not_there_and_say_what_to_do():
    assert len(REMOVED_KEYS) == len(MOVED) + len(GONE)
    for key, rule in REMOVED_KEYS.items():
        assert key.removeprefix(f"{NODE}.") not in DEFAULTS
        assert rule.sentence.endswith(".")
    cfg = recurrent_cfg()
    for _, place in MOVED.values():
        node, name = place.split(".")
        assert name in cfg.MODEL.RECURRENT_INSTANCE_SEG[node]


@pytest.mark.parametrize("key", [*MOVED, *GONE])
def test_a_removed_key_that_changed_something_is_a_sentence(key, tmp_path):
    rule = REMOVED_KEYS[f"{NODE}.{key}"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(nested(key, other_than(rule.without_effect))))
    with pytest.raises(UserError) as caught:
        load_cfg(path)
    assert f"{NODE}.{key}" in str(caught.value) and rule.sentence in str(caught.value)
    with pytest.raises(UserError) as caught:
        load_cfg("", [f"{NODE}.{key}", other_than(rule.without_effect)])
    assert rule.sentence in str(caught.value)
    path.write_text(yaml.safe_dump(nested(key, rule.without_effect)))
    load_cfg(path)


def test_a_key_whose_old_default_is_not_how_it_works_now_is_told(tmp_path):
    """Balanced was the default; dropping the key in silence would change the loss."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(nested("STOP_BALANCED", True)))
    with pytest.raises(UserError, match="the stop loss is never balanced"):
        load_cfg(path)


def test_a_saved_config_of_the_old_recipe_names_the_guided_decoder(tmp_path):
    saved = {"DECODER": "rsis", "ATTENTION": True, "FEEDBACK": True, "GUIDE_UNIT": 20.0}
    content = {"MODEL": {"RECURRENT_INSTANCE_SEG": saved}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_cfg(tmp_path / "config.yaml")
    assert "ATTENTION: the guided decoder always has it: set DECODER to guided" in str(caught.value)
    assert f"GUIDE_UNIT: it is {NODE}.GUIDED.UNIT now" in str(caught.value)


@pytest.mark.parametrize("key", [*MOVED, *GONE])
def test_a_set_up_of_stock_detectron2_says_it_too(key, tmp_path):
    rule = REMOVED_KEYS[f"{NODE}.{key}"]
    cfg = get_cfg()
    add_recurrent_instance_seg_config(cfg)
    add_recurrent_instance_seg_config(cfg)  # a second call changes nothing
    (tmp_path / "my_config.yaml").write_text(yaml.safe_dump(nested(key, rule.without_effect)))
    with pytest.raises(KeyError) as caught:
        cfg.merge_from_file(str(tmp_path / "my_config.yaml"))
    assert f"{NODE}.{key} was renamed" in str(caught.value) and rule.sentence in str(caught.value)
    with pytest.raises(KeyError, match="was renamed"):
        cfg.merge_from_list([f"{NODE}.{key}", rule.without_effect])
