"""What a run over files has done, so that it can go on after whatever stopped it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from detectron2.config import CfgNode

from ..data.cache import atomic_path, sha256_of
from ..errors import UserError
from ..export.facts import DECISIVE
from .inputs import InputImage

JOURNAL = "journal.jsonl"


Key = tuple[str, Optional[int]]  # file and plane


class Entry(NamedTuple):
    """An image that is done.

    Args:
        file, plane, name: of the :class:`inputs.InputImage`.
        height, width, objects, tiles: of the result.
        seconds: of prediction; writing_seconds: of the files.
        limits: keys of the config that cut something off, with their values.
    """

    file: str
    plane: Optional[int]
    name: str
    height: int
    width: int
    objects: int
    tiles: int
    seconds: float
    writing_seconds: float
    limits: "list[list[Any]]"


class Journal:
    """The entries of a run, each on disk as soon as its files are.

    Attributes:
        entries: by file and plane; those of earlier runs that this one continues, too.
    """

    def __init__(self, path: Path, settings: "Mapping[str, Any]") -> None:
        self.path, self.settings = path, dict(settings)
        self.entries: dict[Key, Entry] = {}

    @classmethod
    def begin(cls, folder: Path, settings: "Mapping[str, Any]", *, resume: bool) -> "Journal":
        """Open the journal of a folder.

        Args:
            folder: of the run, made if absent.
            settings: that decide on results; JSON can hold them.
            resume: go on with what is there.

        Raises:
            UserError: the folder has files and is not to be resumed, or was made with other
                settings.
        """
        journal = cls(folder / JOURNAL, settings)
        folder.mkdir(parents=True, exist_ok=True)
        if resume and journal.path.is_file():
            journal.entries = _entries_of(journal.path, journal.settings)
            # A line that a kill has cut would swallow the next one.
            rows = [journal.settings, *(entry._asdict() for entry in journal.entries.values())]
            with atomic_path(journal.path) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
            return journal
        if any(folder.iterdir()):
            raise UserError(
                f"The folder {folder} is not empty, and nothing in it is replaced: add --resume to "
                "go on with a run that was stopped, or name another --output."
                if not resume
                else f"The folder {folder} has files but no {JOURNAL}, so it is not of a run that "
                "can be resumed: name another --output."
            )
        journal.path.write_text(json.dumps(journal.settings) + "\n")
        return journal

    def add(self, entry: Entry) -> None:
        """Write down that an image is done."""
        with self.path.open("a") as file:
            file.write(json.dumps(entry._asdict()) + "\n")
        self.entries[entry.file, entry.plane] = entry

    def of(self, images: "Sequence[InputImage]") -> "list[Entry]":
        """The entries of some images, in their order; of those not done none."""
        keys = [(str(image.path), image.plane) for image in images]
        return [self.entries[key] for key in keys if key in self.entries]


def _entries_of(path: Path, settings: "Mapping[str, Any]") -> "dict[Key, Entry]":
    """The entries of a journal that was begun with the same settings, by file and plane."""
    rows = [row for row in map(_parsed, path.read_text().splitlines()) if row is not None]
    if not rows or "file" in rows[0]:
        raise UserError(f"{path} is damaged: name another --output.")
    different = [key for key in settings if rows[0].get(key) != settings[key]]
    if different:
        raise UserError(
            f"The results in {path.parent} were made with another {different[0]} "
            f"({rows[0].get(different[0])}, now {settings[different[0]]}); --resume goes on with "
            "the same settings only. Name another --output."
        )
    return {(entry.file, entry.plane): entry for entry in (Entry(**row) for row in rows[1:])}


def _parsed(line: str) -> "Optional[dict[str, Any]]":
    """A line of the journal; None for one that was cut."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def settings_of(cfg: CfgNode, **further: Any) -> "dict[str, Any]":
    """What decides on the results of a run, for its journal.

    Args:
        cfg: of the model.
        **further: such as how files are read.
    """
    decisive = {name: cfg[name].clone() for name in DECISIVE}
    for key in ("DEVICE", "WEIGHTS"):
        decisive["MODEL"].pop(key)
    text = "".join(f"{name}: {node.dump()}" for name, node in decisive.items())
    return {
        "weights_sha256": sha256_of(cfg.MODEL.WEIGHTS),
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **further,
    }
