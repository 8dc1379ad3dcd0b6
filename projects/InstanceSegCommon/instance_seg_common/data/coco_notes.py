"""What of a COCO file is read in another way than it is written: counted, and said in sentences."""

from dataclasses import dataclass, field
from pathlib import Path

from .check_report import Finding

# By kind; {count} of them were found, {first} names the first.
NOTES = {
    "annotation ids": "annotation ids that are missing, repeated or no whole number from 1 on: "
    "{count} (first: {first}). All annotations are numbered anew from 1.",
    "ids": "ids of images and categories that are not written as the whole numbers they stand for: "
    "{count} (first: {first}). 5, 5.0 and '5' are read as the same id.",
    "numbers as texts": "entries with numbers that are written in another way, such as '5' or 5.0 "
    "for 5: {count} (first: {first}). They are read as numbers.",
    "area": "annotations without an area, or with one that is no number above 0: {count} (first: "
    "{first}). The area of the mask is used.",
    "iscrowd": "annotations without iscrowd: {count} (first: {first}). It is read as 0.",
    "ignore": "annotations with 'ignore': 1: {count} (first: {first}). They are read as crowds, "
    "regions that count neither as objects nor as background.",
    "bbox": "annotations without a bbox, or with one that is not [x, y, width, height]: {count} "
    "(first: {first}). The box of the mask is used.",
    "box does not fit": "boxes that do not fit their masks: {count} (first: {first}). The box of "
    "the mask is used. Were they meant as [x, y, width, height] in pixels?",
    "form of masks": "masks of another form than polygons [[x, y, x, y, ...], ...] or one object "
    "of size and counts: {count} (first: {first}). Each has only one meaning, and is read.",
    "parts of masks": "masks with parts of fewer than three points beside whole ones: {count} "
    "(first: {first}). These parts are left out.",
    "keypoints": "annotations with keypoints that are not numbers in threes: {count} (first: "
    "{first}). The keypoints are left out.",
    "category twice": "categories that are listed again with the same id and name: {count} (first: "
    "{first}). Each is read once.",
    "image twice": "images that are listed again: {count} (first: {first}). Each is read once, "
    "with the annotations of all its entries.",
    "file names: spelling": "file names with backslashes, an encoding such as %20, or .. inside: "
    "{count} (first: {first}). The files they mean were found.",
    "file names: case": "file names that differ from their files in letter case, or in how accents "
    "are encoded: {count} (first: {first}). Only one file fits each.",
    "file names: folder": "images that are in another folder than their file names say: {count} "
    "(first: {first}). Only one file in image_dir fits each.",
    "file names: outside": "images that lie outside image_dir, where their file names say: {count} "
    "(first: {first}).",
}


@dataclass
class Findings:
    """What was found while a file was read.

    Args:
        path: of the file.
        errors: what makes the file unusable.
        left_out: annotations that are left out; the check of a data set calls them errors.
        notices: what is read in another way than it is written, and what may be intended.
    """

    path: Path
    errors: list[Finding] = field(default_factory=list)
    left_out: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _firsts: dict[str, str] = field(default_factory=dict)

    def error(self, kind: str, sentence: str) -> None:
        """Add what makes the file unusable."""
        self.errors.append(Finding(kind, str(self.path), f"{self.path}: {sentence}"))

    def leave_out(self, kind: str, sentence: str) -> None:
        """Add an annotation that is left out."""
        self.left_out.append(Finding(kind, str(self.path), f"{self.path}: {sentence}"))

    def notice(self, kind: str, sentence: str) -> None:
        """Add a sentence that is said once."""
        self.notices.append(Finding(kind, str(self.path), f"{self.path}: {sentence}"))

    def count(self, kind: str, place: str) -> None:
        """Count one more of a kind of ``NOTES``; the first place is kept."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._firsts.setdefault(kind, place)

    def close(self) -> None:
        """Turn what was counted into notices."""
        for kind, count in self._counts.items():
            self.notice(kind, NOTES[kind].format(count=count, first=self._firsts[kind]))
        self._counts.clear()
