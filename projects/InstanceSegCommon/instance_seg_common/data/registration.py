"""Data sets in Detectron2's catalogs: registered without reading a file, and as often as one likes.

A *source* is a frozen dataclass with a field ``name`` and the parameters of one data set. It is
kept in the set's metadata, so that a second registration can be compared with the first, and the
check of a data set can work from the raw files.
"""

import dataclasses
import difflib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol, TypeVar, Union

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from ..errors import UserError

# What loaders raise for files that are not as they expect them; ValueError includes bad JSON.
CONTENT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class Source(Protocol):
    """What every source has."""

    @property
    def name(self) -> str:
        """Of the data set."""
        ...


class FileSource(Source, Protocol):
    """What a source of files has."""

    @property
    def hint(self) -> str:
        """What to do about a folder that is missing; "" for advice that fits all."""
        ...

    @property
    def check_command(self) -> str:
        """What lists everything that is wrong with the set, of :func:`command_of_check`; "" for a
        set that no command knows, because it is registered in Python."""
        ...


AnySource = TypeVar("AnySource", bound=Source)


def datasets_root() -> Path:
    """``$DETECTRON2_DATASETS``, else ``datasets`` in the working directory.

    Returns:
        An absolute path that need not exist.
    """
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser().resolve()


def source_of(name: str) -> Optional[Source]:
    """The source that ``name`` was registered with, or None if other code registered it.

    Raises:
        UserError: there is no data set of this name.
    """
    require_registered(name)
    return MetadataCatalog.get(name).get("source", None)


def require_registered(name: str) -> None:
    """Raise a sentence with the names most like it unless ``name`` is a registered data set."""
    names = DatasetCatalog.list()
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names)
    own = [n for n in names if MetadataCatalog.get(n).get("source")]
    known = f"Similar: {', '.join(near)}." if near else f"Registered: {', '.join(own) or 'none'}."
    raise UserError(
        f"There is no data set {name!r}. {known} "
        "Own data is registered through DATASETS.REGISTER, see datasets/README.md."
    )


def get_dataset_dicts(name: str) -> "list[dict[str, Any]]":
    """``DatasetCatalog.get``, with the errors of any loader, stock ones too, in sentences.

    Args:
        name: of a registered data set.

    Returns:
        list[dict]: Detectron2's standard format, loaded anew by each call.

    Raises:
        UserError: there is no such data set, or its files are absent or not as they should be.
    """
    require_registered(name)
    try:
        return DatasetCatalog.get(name)
    except UserError:
        raise  # it is a ValueError, but already a sentence
    except OSError as error:
        raise UserError(
            f"Data set {name!r} cannot be read: {error.strerror or error}"
            f"{f', {error.filename}' if error.filename else ''}. Its files are expected where it "
            "was registered, for named sets below DETECTRON2_DATASETS "
            f"(now {datasets_root()}); datasets/README.md shows the expected trees."
        ) from error
    except ImportError as error:
        raise UserError(
            f"Data set {name!r} cannot be read without another package ({error}). Install it."
        ) from error
    except CONTENT_ERRORS as error:
        metadata = MetadataCatalog.get(name)
        where = metadata.get("json_file") or metadata.get("image_root") or "its annotations"
        raise UserError(
            f"Data set {name!r} cannot be used: {where} is not as its loader expects it "
            f"({type(error).__name__}: {error}). Fetch or write the file again."
        ) from error


def register_source(
    source: AnySource,
    load: "Callable[[AnySource], list[dict[str, Any]]]",
    metadata: "Union[dict[str, Any], Metadata]",
    *,
    replace: bool = False,
) -> None:
    """Enter ``source`` into the catalogs; the same source a second time changes nothing.

    Args:
        source: frozen dataclass.
        load: called when the set is first used; returns Detectron2's standard dicts.
        metadata: what the set is described by.
        replace: a source of the same name with other parameters is replaced.

    Raises:
        UserError: the name is taken by other parameters or by other code.
    """
    name = source.name
    if not isinstance(name, str) or not name:
        raise UserError(f"A data set's name must be a non-empty string, not {name!r}.")
    if name in DatasetCatalog.list():
        earlier = source_of(name)
        if earlier == source:
            return
        if not replace:
            raise _taken(earlier, source)
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    if isinstance(metadata, dict):
        MetadataCatalog.get(name).set(**metadata)
    else:
        MetadataCatalog[name] = metadata
    MetadataCatalog.get(name).set(source=source)
    DatasetCatalog.register(name, lambda: load(source))


def _taken(earlier: Optional[Source], source: Source) -> UserError:
    fix = "Give one of them another name, or call DatasetCatalog.remove(name) first."
    if type(earlier) is not type(source):
        owner = type(earlier).__name__ if earlier is not None else "other code"
        return UserError(f"The data set name {source.name!r} is already taken by {owner}. {fix}")
    before, now = _parameters(earlier), _parameters(source)
    changes = "; ".join(
        f"{key} was {before.get(key)!s} and is now {now.get(key)!s}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    )
    return UserError(
        f"The data set {source.name!r} is already registered with other parameters: {changes}. "
        + fix
    )


def _parameters(source: Any) -> "dict[str, Any]":
    """The fields that two sources are compared by, with those of dataclasses among them."""
    parameters = {}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        if field.compare and dataclasses.is_dataclass(value):
            parameters.update(_parameters(value))
        elif field.compare:
            parameters[field.name] = value
    return parameters


def first_existing(root: Path, folders: Sequence[str]) -> Path:
    """The first of some folders that exists, else where the first would be.

    Args:
        root: what the folders are relative to.
        folders: in the order of preference.
    """
    paths = [root / folder for folder in folders]
    return next((path for path in paths if path.is_dir()), paths[0])


def placement_hint(root: Path, what: str) -> str:
    """The sentence on what to do about a folder that is missing.

    Args:
        root: what ``DETECTRON2_DATASETS`` names.
        what: it should contain.
    """
    return (
        f"Set DETECTRON2_DATASETS (now {root}) to the folder that contains {what}; "
        "datasets/README.md shows the expected trees."
    )


def require_folder(source: FileSource, key: str, path: Path) -> None:
    """Raise a sentence unless ``path`` is a folder.

    Args:
        source: its ``name`` and ``hint`` are quoted.
        key: what the folder is, e.g. "image_dir".
        path: of the folder.
    """
    if not path.is_dir():
        raise UserError(missing_sentence(source, key, path))


def missing_sentence(source: FileSource, key: str, path: Path) -> str:
    """The sentence for a folder or file that a source names and that is not there."""
    what = "is not a folder" if path.exists() else "does not exist"
    hint = source.hint or (
        f"Correct the path, or set DETECTRON2_DATASETS (now {datasets_root()}); "
        "datasets/README.md shows the expected trees."
    )
    return f"Data set {source.name!r}: {key} {path} {what}. {hint}"


def command_of_check(name: str, config_file: "Union[str, Path]" = "") -> str:
    """The command that checks a data set.

    Args:
        name: of the set.
        config_file: whose ``DATASETS.REGISTER`` has it; "" for a set that is built in.
    """
    words = ["python", "tools/check_dataset.py", name]
    return shlex.join([*words, "--config-file", str(config_file)] if config_file else words)


def check_hint(source: FileSource) -> str:
    """The sentence on how to see everything that is wrong with a data set."""
    if source.check_command:
        return f"`{source.check_command}` lists everything."
    return (
        f"In Python `print(check_dataset({source.name!r}).text())` lists everything, with "
        "`from instance_seg_common.data.check import check_dataset`."
    )


def first_few(sentences: Sequence[str], limit: int = 3) -> str:
    """The first ``limit`` sentences joined, then how many more there are."""
    text = " ".join(sentences[:limit])
    more = len(sentences) - limit
    return text if more <= 0 else f"{text} And {more} more."
