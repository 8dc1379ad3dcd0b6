"""Keys of earlier versions get a sentence that says what became of them."""

import pytest
from detectron2.config import get_cfg

from embedding_instance_seg import add_embedding_instance_seg_config
from embedding_instance_seg.config import DEFAULTS, NODE, REMOVED_KEYS
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError

NAMES = [key.split(".")[-1] for key in REMOVED_KEYS]


def write(folder, **keys):
    """A config file with keys of the method's node."""
    lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    path = folder / "own.yaml"
    path.write_text(f"VERSION: 2\nMODEL:\n  EMBEDDING_INSTANCE_SEG:\n{lines}")
    return str(path)


def foreign_cfg():
    cfg = get_cfg()
    add_embedding_instance_seg_config(cfg)
    add_embedding_instance_seg_config(cfg)  # a second call changes nothing
    return cfg


def test_keys_are_few_and_none_is_both_here_and_gone():
    assert len(DEFAULTS) <= 26
    assert not set(NAMES) & set(DEFAULTS)
    assert all(key.startswith(f"{NODE}.") for key in REMOVED_KEYS)


def test_the_learned_bandwidth_of_an_old_config_follows_from_its_clustering(tmp_path):
    path = write(tmp_path, LEARNED_BANDWIDTH=True, CLUSTERING="seeded")
    with pytest.raises(UserError, match="LEARNED_BANDWIDTH: Delete the line: CLUSTERING seeded"):
        load_cfg(path)
    cfg = load_cfg(write(tmp_path, CLUSTERING="seeded"))
    assert cfg.MODEL.EMBEDDING_INSTANCE_SEG.CLUSTERING == "seeded"


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_key_without_effect_is_ignored_and_else_a_sentence(tmp_path, name):
    rule = REMOVED_KEYS[f"{NODE}.{name}"]
    load_cfg(write(tmp_path, **{name: rule.without_effect}))
    with pytest.raises(UserError) as caught:
        load_cfg(write(tmp_path, **{name: 7}))
    assert f"{NODE}.{name}: {rule.sentence}" in str(caught.value)
    with pytest.raises(UserError, match=f"keys of an earlier version. .*{name}: Delete"):
        load_cfg("", [f"{NODE}.{name}", "7"])


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_key_is_a_sentence_in_a_foreign_set_up(tmp_path, name):
    key = f"{NODE}.{name}"
    with pytest.raises(KeyError) as caught:
        foreign_cfg().merge_from_file(write(tmp_path, **{name: 7}))
    assert key in str(caught.value) and REMOVED_KEYS[key].sentence in str(caught.value)
    with pytest.raises(KeyError, match="Delete the line"):
        foreign_cfg().clone().merge_from_list([key, "7"])
