"""Config keys of the common package and of what is installed."""

import sys
from importlib.metadata import EntryPoint

import pytest
from detectron2.config import get_cfg

from instance_seg_common import config
from instance_seg_common.config import (
    BACKBONES,
    METHODS,
    add_common_config,
    announced,
    get_cfg_with_plugins,
)
from instance_seg_common.errors import UserError


class Entries(list):
    """What ``importlib.metadata.entry_points`` gives since Python 3.10."""

    def select(self, group):
        return [entry for entry in self if entry.group == group]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """installed(name, value, text) announces value; text is that of the module ``announcing``."""
    entries = Entries()
    monkeypatch.setattr(config, "entry_points", lambda: entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "announcing", raising=False)

    def install(name, value, text="", group=METHODS):
        (tmp_path / "announcing.py").write_text(text)
        entries.append(EntryPoint(name, value, group))
        return entries

    yield install
    sys.modules.pop("announcing", None)


ADD = "def add(cfg):\n    cfg.MODEL.ANNOUNCED = 5\n"


def test_installed_methods_add_their_keys(installed):
    installed("B", "announcing:add", ADD)
    assert get_cfg_with_plugins().MODEL.ANNOUNCED == 5
    assert get_cfg_with_plugins().TEST.PATIENCE == 0


def test_installed_backbones_add_their_keys(installed):
    installed("B", "announcing:add", ADD, BACKBONES)
    assert get_cfg_with_plugins().MODEL.ANNOUNCED == 5


def test_what_is_announced_comes_by_name_and_group(installed):
    installed("B", "announcing:add", ADD)
    entries = installed("A", "announcing:add", ADD)
    entries.append(EntryPoint("C", "announcing:add", "another group"))
    assert list(announced(METHODS)) == ["A", "B"]


def test_python_3_9_has_a_dict_of_groups(installed, monkeypatch):
    entries = list(installed("B", "announcing:add", ADD))
    monkeypatch.setattr(config, "entry_points", lambda: {METHODS: entries})
    assert list(announced(METHODS)) == ["B"]
    assert announced("another group") == {}


@pytest.mark.parametrize(
    ("value", "text", "words"),
    [
        ("absent_module:add", "", "ModuleNotFoundError"),
        ("announcing:absent", ADD, "AttributeError"),
        ("announcing:add", "raise RuntimeError('needs a GPU')", "RuntimeError: needs a GPU"),
        ("announcing:add", "def add(", "SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_a_sentence(installed, value, text, words):
    installed("Broken", value, text)
    with pytest.raises(UserError, match=rf"Broken announces {value} .*{words}.*Mend or uninstall"):
        get_cfg_with_plugins()


def test_adding_the_common_keys_twice_keeps_what_was_set():
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.TEST.PATIENCE = 3
    before = cfg.dump()
    add_common_config(cfg)
    assert cfg.dump() == before
