"""Arguments that the tools share, and errors as sentences with exit status 1."""

import argparse

import pytest

from instance_seg_common.engine.command_line import (
    add_model_arguments,
    check_at_least,
    model_parser,
    part_opts_from_images,
    run_tool,
)
from instance_seg_common.errors import UserError

DOC = """Does a thing.

More about
it.
"""


def test_one_model_and_pairs():
    args = model_parser(DOC).parse_args(["--model", "a.yaml", "SEED", "1"])
    assert (args.model, args.opts) == ("a.yaml", ["SEED", "1"])


def test_several_models_and_a_data_set():
    parser = model_parser(DOC, several=True)
    args = parser.parse_args(["--model", "a.yaml", "--model", "b.yaml", "--dataset", "c"])
    assert (args.model, args.dataset, args.opts) == (["a.yaml", "b.yaml"], "c", [])


def test_help_has_the_first_line_and_the_rest():
    parser = model_parser(DOC)
    assert (parser.description, parser.epilog) == ("Does a thing.", "More about it.")
    assert model_parser("One line.").epilog == ""


def test_a_model_must_be_named(capsys):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "--model" in capsys.readouterr().err


def test_numbers_that_are_too_small_are_a_sentence():
    args = argparse.Namespace(max_images=0, fresh=None, internals=2)
    check_at_least(args, {"fresh": 1, "internals": 2})
    with pytest.raises(UserError, match="--max-images is 0; use 1 or more"):
        check_at_least(args, {"max_images": 1})


@pytest.mark.parametrize(
    ("images", "opts", "expected"),
    [
        (["a.png", "b.png"], [], (["a.png", "b.png"], [])),
        (["a.png", "SEED", "1"], ["X", "2"], (["a.png"], ["SEED", "1", "X", "2"])),
        (["a.png", "MODEL.DEVICE", "cpu"], [], (["a.png"], ["MODEL.DEVICE", "cpu"])),
        (None, ["SEED", "1"], (None, ["SEED", "1"])),
    ],
)
def test_images_end_where_pairs_begin(images, opts, expected):
    args = argparse.Namespace(images=images, opts=opts)
    part_opts_from_images(args)
    assert (args.images, args.opts) == expected


def test_a_file_that_is_called_like_a_key_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MODEL").mkdir()
    args = argparse.Namespace(images=["MODEL"], opts=[])
    part_opts_from_images(args)
    assert args.images == ["MODEL"]


def raises(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "error",
    [
        UserError("mend this."),
        RuntimeError("Traceback ...\ninstance_seg_common.errors.UserError: mend this.\n"),
    ],
)
def test_errors_of_users_are_one_sentence(capsys, error):
    with pytest.raises(SystemExit) as caught:
        run_tool(raises(error))
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: mend this.\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError):
        run_tool(raises(KeyError("x")))


@pytest.mark.parametrize("status", [None, 0, 3])
def test_the_status_of_the_main_function_is_that_of_the_tool(status):
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda: status)
    assert caught.value.code == status
