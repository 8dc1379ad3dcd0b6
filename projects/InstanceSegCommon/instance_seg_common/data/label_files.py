"""The files of a data set of label maps: which there are, and how they belong together.

Files of one image have the same *stem*: the file name without its ending and without the suffix of
its folder, such as "_rgb"; where folders below a folder are searched, with their names before it.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ..errors import UserError

IMAGE_ENDINGS = tuple(
    f".{ending}"
    for ending in ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "ppm", "pgm", "jp2")
)
DOUBLE_ENDINGS = (".ome",)  # as in a.ome.tif: not part of the stem
# What Cellpose and Omnipose write beside an image; none of it is an image of a data set.
BESIDE_IMAGES = ("_masks", "_cp_masks", "_flows", "_cp_flows", "_cp_output", "_outlines")
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
        return cls(Path(*parts[:first]).resolve(), suffix, parts[first:], endings, unique)

    def __str__(self) -> str:
        return f"{self.path}/{self.pattern}" if self.suffix or self.below else str(self.path)

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


@dataclass(frozen=True)
class LabelFolders:
    """The folders of a data set of label maps.

    Args:
        image_dir: images.
        label_dir: what the objects are.
        class_dir: class ids.
        ignore_dir: maps of ignored regions.
        foreground_dir: images that are not 0 where there is an object.
    """

    image_dir: Folder
    label_dir: Folder
    class_dir: Optional[Folder] = None
    ignore_dir: Optional[Folder] = None
    foreground_dir: Optional[Folder] = None

    def paths(self) -> "list[tuple[str, Path]]":
        """The folders in use: (parameter name, path) each."""
        folders = {
            "image_dir": self.image_dir,
            "label_dir": self.label_dir,
            "class_dir": self.class_dir,
            "ignore_dir": self.ignore_dir,
        }
        return [(name, folder.path) for name, folder in folders.items() if folder is not None]

    @property
    def in_one(self) -> bool:
        """Whether images and labels lie in one folder."""
        image, label = self.image_dir, self.label_dir
        return (image.path, image.below) == (label.path, label.below)

    def images_and_labels(self, one_file_an_object: bool) -> "SetFiles":
        """The images and the labels, and in one folder what is neither.

        Args:
            one_file_an_object: a stem has as many labels as its image has objects.
        """
        image, label = self.image_dir, self.label_dir
        images, labels, passed_over = image.found(), label.found(), []
        if self.in_one and label.suffix and not image.suffix:
            passed_over = [f for f in images if _is_beside(f.name, label.suffix)]
            labels = [f for f in labels if f not in passed_over]
            marked = label.by_object(labels) if one_file_an_object else label.by_stem(labels)
            taken = {path for paths in marked.values() for path in paths}
            images = [f for f in images if f.path not in taken and f not in passed_over]
        elif self.in_one and image.suffix:
            labels = [f for f in labels if not f.name.endswith(image.suffix) or label.suffix]
        if not one_file_an_object:
            return SetFiles(
                image.by_stem(images), label.by_stem(labels), passed_over=_paths(passed_over)
            )
        by_image = image.by_stem(images)
        if label.below and any("*" in part and part != "**" for part in image.below):
            by_image = image.by_object(images)  # one folder an image, whatever the image is called
        return SetFiles(by_image, label.by_object(labels), passed_over=_paths(passed_over))


def _paths(found: "list[Found]") -> "tuple[Path, ...]":
    return tuple(f.path for f in found)


def _is_beside(name: str, label_suffix: str) -> bool:
    """Whether a file is one that a program writes beside an image, but not a label of the set."""
    suffix = max((s for s in BESIDE_IMAGES if name.endswith(s)), key=len, default=None)
    return suffix is not None and not (
        name.endswith(label_suffix) and len(label_suffix) >= len(suffix)
    )


@dataclass(frozen=True)
class SetFiles:
    """The files of a data set as they are on disk now, by stem.

    Args:
        images: with an empty list for an image that a list names and that is absent.
        labels: of the images in the set, and labels without an image; where every file shows one
            object, those of an image in the order of their numbers.
        classes, ignored, foregrounds: {} where the set has no folder of them.
        passed_over: neither images nor labels, though their endings are those of images.
    """

    images: FilesByStem
    labels: FilesByStem
    classes: FilesByStem = field(default_factory=dict)
    ignored: FilesByStem = field(default_factory=dict)
    foregrounds: FilesByStem = field(default_factory=dict)
    passed_over: tuple[Path, ...] = ()


def one_file(stem: str, files: FilesByStem, *, folder: Path, what: str) -> Path:
    """The only file of a stem.

    Args:
        stem: of the image.
        files: where it is looked up.
        folder: of the files, for the message.
        what: the file shows, for the message.

    Raises:
        UserError: there is none, or more than one.
    """
    paths = files.get(stem, [])
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise UserError(f"There is no {what} for image {stem!r} in {folder}; add it.")
    raise UserError(same_stem_sentence(stem, paths, folder))


def same_stem_sentence(stem: str, paths: "list[Path]", folder: Path) -> str:
    """The sentence for several files of one stem."""
    names = ", ".join(path.name for path in paths)
    return (
        f"In {folder} several files have the stem {stem!r}: {names}; give the others names of "
        "their own, or move them to another folder."
    )
