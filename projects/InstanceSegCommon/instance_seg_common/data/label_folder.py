"""A folder of a data set of label maps: which of its files belong to the set, and what they show.

Files of one image have the same *stem*: the file name without its ending and without the suffix of
its folder, such as "_rgb"; where folders below a folder are searched, with their names before it.
"""

import re
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Optional, Union

IMAGE_ENDINGS = tuple(
    f".{ending}"
    for ending in ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "ppm", "pgm", "jp2")
)
DOUBLE_ENDINGS = (".ome",)  # as in a.ome.tif: not part of the stem
FilesByStem = dict[str, list[Path]]  # sorted by stem; two files of one stem are an error


class Found(NamedTuple):
    """A file of a folder: name, without ending; below, the names that the stars stand for."""

    path: Path
    name: str
    below: tuple[str, ...] = ()


class Folder(NamedTuple):
    """A folder, and which of its files belong to a data set.

    Args:
        path: absolute.
        suffix: end of the stems, which is dropped; files without it do not belong.
        below: which folders below it hold the files, such as ("*", "images"): "*" stands for any
            name, "**" for any number of folders; () for the folder itself.
        endings: of the files, in small letters, with the dot.
        unique: file names alone tell images apart, the names of folders are not part of the stem.
    """

    path: Path
    suffix: str = ""
    below: tuple[str, ...] = ()
    endings: tuple[str, ...] = IMAGE_ENDINGS
    unique: bool = False

    @classmethod
    def at(
        cls,
        path: Union[str, Path],
        suffix: str = "",
        *,
        endings: "tuple[str, ...]" = IMAGE_ENDINGS,
        unique: bool = False,
    ) -> "Folder":
        """The folder at a path that may be relative, begin with ~, or have stars in its parts."""
        parts = Path(path).expanduser().parts
        first = next((i for i, part in enumerate(parts) if "*" in part), len(parts))
        base = Path(*parts[:first]).resolve()
        return cls(base, suffix, parts[first:], endings=endings, unique=unique)

    def __str__(self) -> str:
        return f"{self.path}/{self.pattern}" if self.suffix or self.below else str(self.path)

    @property
    def has_star(self) -> bool:
        """Whether one of the parts of ``below`` stands for one folder of any name."""
        return any("*" in part and part != "**" for part in self.below)

    @property
    def pattern(self) -> str:
        """What its files are called, for messages."""
        return "/".join((*self.below, f"*{self.suffix}.*"))

    @property
    def written(self) -> str:
        """As it stands in a YAML file, without the suffix."""
        return "/".join((str(self.path), *self.below))

    def found(self) -> "list[Found]":
        """All files with one of the endings, sorted, whatever the suffix; hidden ones not."""
        return sorted(
            Found(path, _without_ending(path.name), names)
            for folder, names in _folders(self.path, self.below)
            for path in folder.iterdir()
            if path.suffix.lower() in self.endings and not path.name.startswith(".")
        )

    def files(self) -> FilesByStem:
        """Its files by stem."""
        return self.by_stem(self.found())

    def by_stem(self, found: "list[Found]") -> FilesByStem:
        """Some of its files by stem; those without the suffix are left out."""
        by_stem: FilesByStem = {}
        for path, name, below in found:
            if name.endswith(self.suffix):
                last = _without_double_ending(name[: len(name) - len(self.suffix)])
                stem = last if self.unique else "/".join((*below, last))
                by_stem.setdefault(normal(stem), []).append(path)
        return dict(sorted(by_stem.items()))

    def by_object(self, found: "list[Found]") -> FilesByStem:
        """Some of its files by the stem of their image, where every file shows one object.

        Where the folder has a star, it stands for the stem; else a name is the stem, the suffix and
        a number, as ``a_mask3`` or ``a_mask_03`` with the suffix "_mask".
        """
        by_stem: FilesByStem = {}
        for path, name, below in found:
            stem = "/".join(below) if self.below else stem_of_object(name, self.suffix)
            if stem and (not self.below or name.endswith(self.suffix)):
                by_stem.setdefault(normal(stem), []).append(path)
        natural = {stem: sorted(paths, key=_by_number) for stem, paths in by_stem.items()}
        return dict(sorted(natural.items()))


def normal(text: str) -> str:
    """A text in one of the ways in which Unicode writes it: macOS writes umlauts in two parts."""
    return unicodedata.normalize("NFC", text)


def stem_of_object(name: str, suffix: str) -> Optional[str]:
    """The stem of the image in the name of a file of one object; None if it is no such name."""
    without_number = re.sub(r"[ _.-]?\d+$", "", name)
    numbered = without_number != name
    if suffix and without_number.endswith(suffix):
        return without_number[: -len(suffix)]
    return without_number if numbered and not suffix else None


def _by_number(path: Path) -> "tuple[int, str]":
    number = re.search(r"(\d{1,18})$", path.stem)
    return int(number.group(1)) if number else 0, path.name


def _folders(
    folder: Path, below: "tuple[str, ...]", names: "tuple[str, ...]" = ()
) -> "Iterator[tuple[Path, tuple[str, ...]]]":
    """The folders that a pattern means, each with the names that its stars stand for."""
    if not below:
        yield folder, names
        return
    first, rest = below[0], below[1:]
    if "*" not in first:
        if (folder / first).is_dir():
            yield from _folders(folder / first, rest, names)
        return
    if first == "**":
        yield from _folders(folder, rest, names)
    for child in sorted(folder.iterdir()):
        if fnmatchcase(child.name, first) and not child.name.startswith(".") and child.is_dir():
            yield from _folders(child, below if first == "**" else rest, (*names, child.name))


def _without_ending(name: str) -> str:
    return _without_double_ending(Path(name).stem)


def _without_double_ending(name: str) -> str:
    ending = Path(name).suffix
    return name[: -len(ending)] if ending.lower() in DOUBLE_ENDINGS else name
