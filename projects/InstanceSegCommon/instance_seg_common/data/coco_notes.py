"""What of a COCO file is read in another way than it is written: counted, and said in sentences."""

from dataclasses import dataclass, field
from pathlib import Path

from .check_report import Finding

# By kind; {count} of them were found, {first} names the first.
NOTES = {
    "annotation ids": "{count} annotation ids are missing, repeated or no whole number from 1 on "
    "(first: {first}); all annotations are numbered anew from 1.",
    "ids": "{count} ids of images and categories are not written as the whole numbers that they "
    "stand for (first: {first}); 5, 5.0 and '5' are read as the same id.",
    "numbers as texts": "{count} entries have numbers that are written as texts (first: {first}); "
    "they are read as numbers.",
    "area": "{count} annotations have no area, or one that is no number above 0 (first: {first}); "
    "the area of the mask is used.",
    "iscrowd": "{count} annotations have no iscrowd (first: {first}); it is read as 0.",
    "ignore": "{count} annotations have 'ignore': 1 (first: {first}); they are read as crowds, "
    "regions that count neither as objects nor as background.",
    "bbox": "{count} annotations have no bbox, or one that is not [x, y, width, height] (first: "
    "{first}); the box of the mask is used.",
    "box does not fit": "{count} boxes do not fit their masks (first: {first}); the box of the "
    "mask is used. Is it [x, y, width, height] in pixels?",
    "form of masks": "{count} masks have another form than a list of polygons [x, y, x, y, ...] or "
    "one object of size and counts (first: {first}); their form has only one meaning and is read.",
    "parts of masks": "{count} masks have parts of fewer than three points beside whole ones "
    "(first: {first}); these parts are left out.",
    "keypoints": "{count} annotations have keypoints that are not numbers in threes (first: "
    "{first}); they are left out.",
    "category twice": "{count} categories are listed more than once, with the same name (first: "
    "{first}); each is read once.",
    "image twice": "{count} images are listed more than once (first: {first}); each is read once, "
    "with the annotations of all its entries.",
    "file names: spelling": "{count} file names have backslashes, an encoding such as %20, ./ or a "
    "path of another machine (first: {first}); the file of this name was found.",
    "file names: case": "{count} file names differ from their files in letter case or in how "
    "accents are encoded (first: {first}); in each case only one file fits.",
    "file names: folder": "{count} images are in another folder than their file names say (first: "
    "{first}); each was found in image_dir, where only one file fits.",
    "file names: outside": "{count} images lie outside image_dir, where their file names say "
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
