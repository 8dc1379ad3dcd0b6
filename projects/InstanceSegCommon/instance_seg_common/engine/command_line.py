"""What the tools share: arguments that name models, and errors as sentences."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from ..config import get_cfg_with_plugins
from ..errors import UserError

MODEL_HELP = "CONFIG.yaml, CONFIG.yaml:WEIGHTS.pth, or a published name such as weights/NAME"


def model_parser(doc: str, *, several: bool = False, opts: bool = True) -> argparse.ArgumentParser:
    """Arguments of every tool that takes a model, or several.

    Args:
        doc: of the tool; its first line is the description, the rest comes last in the help.
        several: ``--model`` may be given more than once, and ``args.model`` is a list; with it
            comes ``--dataset``.
        opts: trailing ``KEY VALUE`` pairs; a tool whose arguments end in files parts them itself.

    Returns:
        With ``--model``.
    """
    first, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(description=first, epilog=" ".join(rest.split()))
    add_model_arguments(parser, several=several, opts=opts)
    return parser


def add_model_arguments(
    parser: argparse.ArgumentParser, *, several: bool = False, opts: bool = True
) -> None:
    """Add ``--model`` and trailing ``opts`` to a parser or a subcommand's; see `model_parser`."""
    if several:
        parser.add_argument(
            "--model", action="append", required=True, metavar="M",
            help=f"{MODEL_HELP}; may be given several times",
        )  # fmt: skip
        parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    else:
        parser.add_argument("--model", required=True, metavar="M", help=MODEL_HELP)
    if opts:
        parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")


def check_at_least(args: argparse.Namespace, least_by_name: Mapping[str, int]) -> None:
    """Check numbers of the command line.

    Args:
        args: parsed.
        least_by_name: by the argument's name; arguments that are None pass.

    Raises:
        UserError: a number is smaller.
    """
    for name, least in least_by_name.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; use {least} or more.")


def part_opts_from_images(args: argparse.Namespace) -> None:
    """Tell ``KEY VALUE`` pairs from the files before them, of which ``--images`` takes all.

    Args:
        args: with ``images`` and ``opts``; changed in place.
    """
    if args.images:
        args.images, opts = part_opts_from(args.images)
        args.opts = opts + args.opts


def part_opts_from(words: "list[str]") -> "tuple[list[str], list[str]]":
    """Files, and the ``KEY VALUE`` pairs after them: from the first word that is a config key on.

    Args:
        words: of the command line.
    """
    keys = get_cfg_with_plugins()
    are_keys = [x.split(".")[0] in keys and not Path(x).exists() for x in words]
    count = are_keys.index(True) if any(are_keys) else len(words)
    return words[:count], words[count:]


def run_tool(main: Callable[[], Optional[int]]) -> None:
    """Run a tool's main function; an error that the user can mend is one sentence, exit status 1.

    Args:
        main: what it returns is the exit status.
    """
    try:
        status = main()
    except Exception as error:
        # Data loader workers and spawned processes hand over their traceback as the message of an
        # exception of this process; the sentence comes last.
        *traceback, sentence = str(error).rsplit("UserError: ", 1)
        if not (traceback or isinstance(error, UserError)):
            raise
        print(f"error: {sentence.strip()}", file=sys.stderr)
        status = 1
    sys.exit(status)
