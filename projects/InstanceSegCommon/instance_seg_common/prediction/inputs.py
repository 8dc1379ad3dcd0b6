"""Which files a user names, and what the results of each are called."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..data.images import image_header
from ..data.reading import READING, Reading
from ..errors import UserError


class InputImage(NamedTuple):
    """An image to predict.

    Args:
        path: of its file.
        name: of its results: a relative path without ending, ``/`` between folders; no other
            image of the run has it.
        plane: of a file of several planes, from 0; None: the whole file is the image.
    """

    path: Path
    name: str
    plane: Optional[int] = None

    def record(self, reading: Reading) -> "dict[str, Any]":
        """The image as a record of a data set, for a model."""
        return {"file_name": str(self.path), READING: self._own(reading)}

    def size(self, reading: Reading) -> "tuple[int, int]":
        """Height and width by the file's header; raises a sentence where it cannot be read."""
        return image_header(self.path, self._own(reading)).size

    def _own(self, reading: Reading) -> Reading:
        return Reading(reading.planes, reading.channels, reading.exif, self.plane)

    @property
    def title(self) -> str:
        """For sentences and summaries."""
        return str(self.path) if self.plane is None else f"{self.path}, plane {self.plane}"


class Inputs(NamedTuple):
    """images: to predict; failures: sentences on files that cannot be; others: files of folders
    that are no images."""

    images: "list[InputImage]"
    failures: "dict[str, str]"
    others: "list[Path]"


def find_inputs(
    named: Sequence[str], *, recursive: bool = False, reading: Reading, output: Path
) -> Inputs:
    """The images among files, folders and patterns.

    Args:
        named: paths of files and folders, and patterns such as ``"a/**/*.tif"`` where the shell
            did not resolve them.
        recursive: also images in folders of folders.
        reading: ``planes: each`` makes every plane of a file an image.
        output: a folder whose files are not taken, for it holds results.

    Raises:
        UserError: a path that does not exist, a pattern that fits nothing, or no image at all.
    """
    found: dict[Path, str] = {}
    others: list[Path] = []
    for text in named:
        for path, name in _files_of(text, recursive=recursive, output=output, others=others):
            found.setdefault(path, name)
    if not found:
        raise UserError(
            f"There is no image in {', '.join(named)} (other files: {len(others)})."
            + ("" if recursive else " Folders of folders are looked into with --recursive.")
        )
    images, failures = [], {}
    for path, name in _distinct(found).items():
        try:
            images += _planes(path, name, reading)
        except UserError as error:
            failures[str(path)] = str(error)
    return Inputs(images, failures, others)


def _files_of(
    text: str, *, recursive: bool, output: Path, others: "list[Path]"
) -> "Iterator[tuple[Path, str]]":
    """Files, and the names of their results."""
    path = Path(text)
    if path.is_dir():
        for file in _in_folder(path, recursive, output):
            if _is_image(file):
                yield file, file.relative_to(path).with_suffix("").as_posix()
            else:
                others.append(file)
    elif path.exists():
        yield path, path.stem
    elif any(sign in text for sign in "*?["):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        files = [match for match in matches if match.is_file() and not _inside(match, output)]
        if not files:
            raise UserError(f"The pattern {text} fits no file.")
        common = Path(os.path.commonpath([str(file.parent) for file in files]))
        for file in files:
            yield file, file.relative_to(common).with_suffix("").as_posix()
    else:
        raise UserError(f"There is no file or folder {text}.")


def _in_folder(folder: Path, recursive: bool, output: Path) -> "list[Path]":
    try:
        entries = folder.rglob("*") if recursive else folder.iterdir()
        files = sorted(entry for entry in entries if entry.is_file())
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read: {error}.") from error
    hidden = [file for file in files if file.name.startswith(".")]
    return [file for file in files if file not in hidden and not _inside(file, output)]


def _inside(file: Path, folder: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def _is_image(file: Path) -> bool:
    """Whether a file of a folder is meant as an image: by its header, or by its name."""
    try:
        image_header(file, Reading(planes="first"))
    except UserError:
        return file.suffix.lower() in IMAGE_ENDINGS  # damaged: it is to be said
    return True


# Files of other endings that cannot be read are no images; those of these are damaged ones.
IMAGE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".svs", ".ndpi"}
)


def _distinct(found: "dict[Path, str]") -> "dict[Path, str]":
    """Names that no two files share: those that do keep their ending, then get numbers."""
    count = Counter(found.values())
    named = {
        path: name if count[name] == 1 else str(Path(name).parent / path.name)
        for path, name in found.items()
    }
    seen: Counter[str] = Counter()
    result = {}
    for path, name in named.items():
        seen[name] += 1
        result[path] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return result


def _planes(path: Path, name: str, reading: Reading) -> "list[InputImage]":
    if reading.planes != "each":
        return [InputImage(path, name)]
    planes = image_header(path, reading).planes
    if planes == 1:
        return [InputImage(path, name)]
    return [InputImage(path, f"{name}_plane{plane}", plane) for plane in range(planes)]
