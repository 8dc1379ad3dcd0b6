"""Which images of a folder belong to a data set: those of lists, or one fold of a number of folds.

A stem is an image's file name without its ending and without the suffix of its folder.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ..errors import UserError
from .registration import FileSource, missing_sentence


@dataclass(frozen=True)
class Listed:
    """The stems that text files name, one in each line.

    Args:
        files: their union is taken.
        exclude: without the stems that these name.
    """

    files: tuple[Path, ...]
    exclude: tuple[Path, ...] = ()

    def stems(self, present: "Iterable[str]", source: FileSource) -> "list[str]":
        """The stems of the set, sorted.

        Args:
            present: not used: a stem that is listed but has no file belongs to the set, too.
            source: of the set, for the sentence if a list is missing.

        Raises:
            UserError: a list is missing, empty, or not one stem in each line.
        """
        listed = {stem for path in self.files for stem in read_list(path, source)}
        excluded = {stem for path in self.exclude for stem in read_list(path, source)}
        return sorted(listed - excluded)


@dataclass(frozen=True)
class Fold:
    """One part of a cross-validation: an image in ``number`` is held out, the others train.

    The images are dealt out like cards from a pack shuffled by ``seed``; the order is that of a
    hash of seed and stem, and so the same on every machine and with every version of numpy. The
    folds are over images: file names do not say which images show the same plant.

    Args:
        index: from 0 to number - 1.
        number: of folds.
        held_out: True: the images of the fold; False: all others.
        seed: of the order.
    """

    index: int
    number: int
    held_out: bool
    seed: int = 0

    def stems(self, present: "Iterable[str]", source: Optional[FileSource] = None) -> "list[str]":
        """The stems of the set, sorted.

        Args:
            present: the stems of all images.
            source: not used.
        """

        def place(stem: str) -> bytes:
            return hashlib.sha256(f"{self.seed} {stem}".encode()).digest()

        shuffled = sorted(present, key=place)
        held_out = set(shuffled[self.index :: self.number])
        return sorted(stem for stem in shuffled if (stem in held_out) == self.held_out)


Selection = Union[Listed, Fold]


def read_list(path: Path, source: FileSource) -> "list[str]":
    """The stems that a text file names.

    Args:
        path: one stem in each line; empty lines are passed over.
        source: of the set, quoted if the file is missing.

    Returns:
        In the order of the file.

    Raises:
        UserError: missing, empty, or not one stem in each line.
    """
    if not path.is_file():
        raise UserError(missing_sentence(source, "the list", path))
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"The list {path} cannot be read ({error}); fetch it again.") from error
    stems = [line for line in lines if line]
    wrong = [line for line in stems if len(line.split()) != 1]
    if wrong or not stems:
        content = f"the line {wrong[0]!r}" if wrong else "no line"
        raise UserError(
            f"The list {path} has {content}, where one image name in each line is expected; use "
            "the lists for segmentation, and fetch the file again if it is damaged."
        )
    return stems
