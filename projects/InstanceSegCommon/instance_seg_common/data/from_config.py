"""A user's own data sets from a YAML file: the entries of ``DATASETS.REGISTER``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from detectron2.config import CfgNode

from ..errors import UserError
from . import coco
from .label_folder import Folder
from .label_map import register_label_map_source, source_of_folders
from .registration import command_of_check, datasets_root
from .synthetic import register_synthetic_dataset

READING_KEYS = {"planes": False, "channels": False, "exif": False}
# Keys of each format: True if the entry must have it.
KEYS = {
    "label_map": {
        "image_dir": True,
        "label_dir": True,
        "classes": False,
        "class_dir": False,
        "class_of_id": False,
        "ignore_dir": False,
        "instances": False,
        "max_instances": False,
        "image_suffix": False,
        "label_suffix": False,
        **READING_KEYS,
    },
    "coco": {"json_file": True, "image_dir": True, "crowds": False, **READING_KEYS},
}
SYNTHETIC = "synthetic"  # register_synthetic_dataset checks its parameters itself
PATHS = ("image_dir", "label_dir", "class_dir", "ignore_dir", "json_file")


# Of a set that only a command line has: the file that has to be written before it can be checked.
UNWRITTEN = "A_FILE_WITH_THIS_ENTRY.yaml"


def register_from_config(cfg: CfgNode, config_file: "Union[str, Path]" = "") -> None:
    """Register the entries of ``cfg.DATASETS.REGISTER``; nothing is read yet.

    An entry is a mapping with ``name``, ``format`` (label_map, coco, synthetic) and the parameters
    of that format, see ``datasets/README.md``. A relative path is one below
    ``$DETECTRON2_DATASETS`` if it exists there, else below the working directory.

    Args:
        cfg: with the keys of ``add_common_config``.
        config_file: that the entries stand in; "" if none.

    Raises:
        UserError: an entry with an unknown, a missing or a wrong key, or a name that is taken.
    """
    for number, entry in enumerate(cfg.DATASETS.REGISTER):
        _register_entry(number, entry, config_file or UNWRITTEN)


def _register_entry(number: int, entry: Any, config_file: "Union[str, Path]") -> None:
    where = f"DATASETS.REGISTER[{number}]"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} must be a mapping with name and format, not {entry!r}.")
    parameters = dict(entry)
    name, kind = parameters.pop("name", None), parameters.pop("format", None)
    where = f"{where} (name {name!r})"
    if not isinstance(name, str) or not name:
        raise UserError(f"{where} needs a name, a non-empty string.")
    if kind == SYNTHETIC:
        _register_synthetic(where, name, parameters)
        return
    if not isinstance(kind, str) or kind not in KEYS:
        formats = ", ".join((*KEYS, SYNTHETIC))
        raise UserError(f"{where} has format {kind!r}; give one of: {formats}.")
    _check_keys(where, kind, parameters)
    texts = {
        "hint": _locate(where, parameters),
        "check_command": command_of_check(name, config_file),
    }
    try:
        _register_files(kind, {"name": name, **texts, **parameters})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _register_files(kind: str, parameters: "dict[str, Any]") -> None:
    """Register a set of files; keys as in an entry, paths absolute."""
    if kind == "coco":
        parameters["image_root"] = parameters.pop("image_dir")
        coco.register_coco_source(coco.make_source(**parameters))
        return
    if "classes" in parameters:
        parameters["thing_classes"] = parameters.pop("classes")
    register_label_map_source(source_of_folders(**parameters))


def _register_synthetic(where: str, name: str, parameters: "dict[str, Any]") -> None:
    try:
        register_synthetic_dataset(name, **parameters)
    except (UserError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error


def _check_keys(where: str, kind: str, parameters: "dict[str, Any]") -> None:
    keys = KEYS[kind]
    unknown = sorted(str(key) for key in set(parameters) - set(keys))
    missing = sorted(key for key, needed in keys.items() if needed and key not in parameters)
    known = f"Keys of format {kind}: {', '.join(keys)}."
    if unknown:
        raise UserError(f"{where} has the unknown key {unknown[0]!r}. {known}")
    if missing:
        raise UserError(f"{where} lacks the key {missing[0]!r}. {known}")


def _locate(where: str, parameters: "dict[str, Any]") -> str:
    """Make the paths of an entry absolute; returns the hint for a path that does not exist."""
    root, work = datasets_root(), Path.cwd()
    for key in PATHS:
        value = parameters.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} must be a path, not {value!r}.")
        below_root = root / Path(value).expanduser()  # an absolute path replaces the root
        exists = Folder.at(below_root).path.exists()
        parameters[key] = below_root if exists else work / Path(value).expanduser()
    return (
        f"It comes from {where}; relative paths were looked for below {root} "
        f"(DETECTRON2_DATASETS) and below {work}."
    )
