r"""The image files of a folder, found by the names that a data set gives them.

A name may have been written on another machine: with ``\`` between folders, encoded as in a URL
(``%20``), in other letters (``A.PNG``), absolute, or with folders that are not there. It is
understood where exactly one file fits.
"""

import difflib
import itertools
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import unquote

# A misspelt name is compared with at most this many file names, and no more names than this are.
MOST_FILES, MOST_NAMES = 20_000, 3


class Found(NamedTuple):
    """path: of the file, None if none fits; way: "" if it is where its name says, else the end of a
    kind of ``coco_notes.NOTES``; near: a sentence on what nearly fits, "" if nothing does."""

    path: Optional[Path]
    way: str = ""
    near: str = ""


class ImageFiles:
    """The files below a folder; each folder is listed once, when a name first asks for it."""

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: what names are relative to.
        """
        self._root = root
        self._listed: dict[str, set[str]] = {}
        # Relative paths by the key of the name; None until they are needed.
        self._by_name: Optional[dict[str, list[str]]] = None
        self._by_stem: dict[str, list[str]] = {}  # the same without the ending
        self._compared = 0

    def find(self, name: str) -> Found:
        """The file that a data set means by ``name``."""
        if self._is_here(name):
            return Found(self._root / name)
        plain = plain_name(name)
        if self._is_here(plain):
            return Found(self._root / plain, "spelling")
        outside = self._outside(name)
        return outside or self._by_end(plain)

    def _is_here(self, name: str) -> bool:
        """Whether a name that stays below the folder is a file there, in exactly these letters."""
        folder, base = posixpath.split(name)
        if not base or name.startswith("/") or ".." in folder.split("/"):
            return False
        if folder not in self._listed:
            self._listed[folder] = _file_names(self._root / folder)
        return base in self._listed[folder]

    def _outside(self, name: str) -> Optional[Found]:
        """An absolute name, or one with "..", that is a file of this machine."""
        path = os.path.normpath(os.path.join(self._root, name.replace("\\", "/")))
        try:
            if not os.path.isfile(path):
                return None
        except ValueError:  # a character that no path can have
            return None
        inside = Path(path).is_relative_to(self._root)
        return Found(Path(path), "spelling" if inside else "outside")

    def _by_end(self, name: str) -> Found:
        """The one file whose path ends most like ``name``."""
        if self._by_name is None:
            paths = _all_paths(self._root)
            self._by_name = _grouped(paths, posixpath.basename)
            self._by_stem = _grouped(paths, _stem)
        wanted = name.split("/")
        fits: dict[int, list[str]] = defaultdict(list)
        for relative in self._by_name.get(_key(wanted[-1]), ()):
            fits[_common_end(relative.split("/"), wanted)].append(relative)
        if not fits:
            return Found(None, near=self._nearly(wanted[-1]))
        best = fits[max(fits)]
        if len(best) > 1:
            near = f"Several files fit: {best[0]} and {best[1]}; write one of these paths."
            return Found(None, near=near)
        same_folder = max(fits) == len(wanted) == best[0].count("/") + 1
        return Found(self._root / best[0], "case" if same_folder else "folder")

    def _nearly(self, base: str) -> str:
        near = self._by_stem.get(_key(_stem(base)), [])
        names = [relative for paths in self._by_stem.values() for relative in paths]
        if not near and self._compared < MOST_NAMES and len(names) <= MOST_FILES:
            self._compared += 1
            near = difflib.get_close_matches(base, names, n=1)
        return f"Nearest to it is {near[0]}." if near else ""


def plain_name(name: str) -> str:
    r"""A name with ``/`` between folders, decoded, without ``./``, a drive or a server."""
    plain = name.partition("?d=")[2] or name  # label-studio's address of a file on its own machine
    plain = unquote(plain).replace("\\", "/")
    plain = re.sub(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/]*", "", plain)
    plain = re.sub(r"^[a-zA-Z]:(?=/)", "", plain)
    return posixpath.normpath(plain)


def _key(part: str) -> str:
    """Equal for two spellings of one name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", unquote(part)).casefold())


def _file_names(folder: Path) -> "set[str]":
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # it is no folder, or can be none
        return set()


def _all_paths(root: Path) -> "list[str]":
    """The files below a folder, relative to it, sorted."""
    paths = []
    for folder, _, names in os.walk(root):
        start = Path(folder).relative_to(root).as_posix()
        paths += [posixpath.normpath(posixpath.join(start, name)) for name in names]
    return sorted(paths)


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _grouped(paths: "list[str]", part: "Callable[[str], str]") -> "dict[str, list[str]]":
    groups = defaultdict(list)
    for path in paths:
        groups[_key(part(path))].append(path)
    return dict(groups)


def _common_end(one: "list[str]", other: "list[str]") -> int:
    """How many folders and names two paths have in common, counted from their ends."""
    pairs = zip(reversed(one), reversed(other))
    return sum(1 for _ in itertools.takewhile(lambda pair: _key(pair[0]) == _key(pair[1]), pairs))
