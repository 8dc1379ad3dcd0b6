"""The commands of all pages: those of docs/ run in small, every other parses."""

import argparse
import re
import runpy
import shlex
import sys

import pytest
from shown import (
    PAGES,
    ROOT,
    WRITTEN_BY_THE_READER,
    commands,
    is_placeholder,
    make_checkout,
    run_in_small,
    text_of,
)

RUN = ("docs/commands.md", "docs/results.md", "docs/lecture.md")
# Commands that differ from one that is run in their config alone; tests/test_configs.py reads it.
ONLY_PARSED = (
    "_roipool",
    "classical_shapes",
    "classical_sticks",
    r"train_net.*mask_rcnn_R18_sticks",
    r"recurrent_R18_sticks.*--eval-only",
    r"order.*(sticks|dsb2018)",
    r"(--torchvision|output/resnet18)",  # tests/tools/test_publish_weights.py
    r"predict\.py.*(output/export|--backend)",  # tests/instance_seg_common/export runs these
)
PLACEHOLDERS = ("KEY", "OVERRIDES")  # in the place of config keys
ALL_COMMANDS = sorted({c for page in PAGES for c in commands(text_of(page))})


def commands_to_run():
    """Those of docs/ that the README does not show, for there they are run already."""
    shown = {c for page in RUN for c in commands(text_of(page))}
    shown -= set(commands(text_of("README.md")))
    return sorted(c for c in shown if not any(re.search(x, c) for x in ONLY_PARSED))


@pytest.mark.parametrize("command", commands_to_run())
def test_command(command, tmp_path, request):
    make_checkout(tmp_path)
    run_in_small(command, tmp_path, request)


class Parsed(BaseException):
    """The arguments of a tool, raised before it does anything; tools catch exceptions only."""


def option_strings(parser):
    """Every ``--option`` of a parser and its subcommands."""
    known = set()
    for action in parser._actions:
        known |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                known |= option_strings(subparser)
    return known


def _and_stop(original):
    def parse_and_stop(self, *args, **kwargs):
        raise Parsed(option_strings(self), original(self, *args, **kwargs))

    return parse_and_stop


def parse(command, monkeypatch):
    """What the tool's own parser makes of a command.

    Returns:
        tuple: the options that the tool has, and the namespace.
    """
    _, tool, *arguments = shlex.split(command, comments=True)
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, _and_stop(original))
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    try:
        runpy.run_path(str(ROOT / tool), run_name="__main__")
    except Parsed as parsed:
        return parsed.args
    raise AssertionError(f"{tool} reads no arguments")


@pytest.fixture(scope="module")
def all_keys():
    from instance_seg_common.config import get_cfg_with_plugins

    return get_cfg_with_plugins()


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_the_tool_knows_every_option(command, monkeypatch, all_keys):
    if command.split()[1] in ("tools/demo.py", "tools/check_env.py"):
        assert len(command.split()) == 2  # they read no arguments
        return
    given = {word.split("=")[0] for word in shlex.split(command) if word.startswith("--")}
    if not given:  # a mention of the tool, perhaps without what it needs
        with pytest.raises(SystemExit, match="^0$"):
            parse(f"{command} --help", monkeypatch)
        return
    known, arguments = parse(command, monkeypatch)
    assert given <= known, "an abbreviation, or no option at all"
    for key in getattr(arguments, "opts", [])[::2]:
        node = all_keys
        for part in key.split(".") if key not in PLACEHOLDERS else ():
            assert part in node, f"{key} is no key of the config"
            node = node[part]


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_its_files_exist(command):
    for file in re.findall(r"(?:tools|configs|weights)/[\w./-]+", command):
        if not is_placeholder(file) and file not in WRITTEN_BY_THE_READER:
            assert (ROOT / file).exists() or (ROOT / f"{file}.json").exists(), file
