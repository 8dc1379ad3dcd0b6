"""The files of a data set of label maps: which there are, and how they belong together.

Files of one image have the same *stem*: the file name without its ending and without the suffix of
its folder, such as "_rgb".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ..errors import UserError

IMAGE_ENDINGS = tuple(
    f".{ending}"
    for ending in ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "ppm", "pgm", "jp2")
)
FilesByStem = dict[str, list[Path]]  # sorted by stem; two files of one stem are an error


class Folder(NamedTuple):
    """A folder, and which of its files belong to a data set.

    Args:
        path: absolute.
        suffix: end of the stems, which is dropped; files without it do not belong.
        nested: the files lie one folder deeper.
        endings: of the files, in small letters, with the dot.
    """

    path: Path
    suffix: str = ""
    nested: bool = False
    endings: tuple[str, ...] = IMAGE_ENDINGS

    @classmethod
    def at(
        cls,
        path: Union[str, Path],
        suffix: str = "",
        *,
        nested: bool = False,
        endings: "tuple[str, ...]" = IMAGE_ENDINGS,
    ) -> "Folder":
        """The folder at a path that may be relative or begin with ~."""
        return cls(Path(path).expanduser().resolve(), suffix, nested, endings)

    def __str__(self) -> str:
        return f"{self.path}/{self.pattern}" if self.suffix or self.nested else str(self.path)

    @property
    def pattern(self) -> str:
        """What its files are called, for messages."""
        return "*/" * self.nested + f"*{self.suffix}.*"

    def files(self) -> FilesByStem:
        """Its files by stem; hidden ones are passed over."""
        by_stem: FilesByStem = {}
        for path in sorted(self.path.glob("*/*") if self.nested else self.path.iterdir()):
            hidden = path.name.startswith(".")
            belongs = path.suffix.lower() in self.endings and path.stem.endswith(self.suffix)
            if belongs and not hidden:
                by_stem.setdefault(path.stem[: len(path.stem) - len(self.suffix)], []).append(path)
        return dict(sorted(by_stem.items()))


@dataclass(frozen=True)
class LabelFolders:
    """The folders of a data set of label maps.

    Args:
        image_dir: images.
        label_dir: instance ids.
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


@dataclass(frozen=True)
class SetFiles:
    """The files of a data set as they are on disk now, by stem.

    Args:
        images: with an empty list for an image that a list names and that is absent.
        labels: of the images in the set, and labels without an image.
        classes, ignored, foregrounds: {} where the set has no folder of them.
    """

    images: FilesByStem
    labels: FilesByStem
    classes: FilesByStem
    ignored: FilesByStem
    foregrounds: FilesByStem


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
    return f"In {folder} several files have the stem {stem!r}: {names}; keep one."
