"""The report on a data set: problems with their files, counts and histograms."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import numpy as np

COUNT_EDGES = (0, 1, 2, 6, 11, 21, 51, 101, 201)  # lower ends of the bins
AREA_EDGES = (0, 1, 16, 64, 256, 1024, 96**2, 256**2)  # 32**2 and 96**2 are COCO's limits
BAR = 40  # characters of the longest bar
FEW = 3  # notices of one kind that are printed in full


@dataclass(frozen=True)
class Finding:
    """One problem of a data set, or a notice.

    Args:
        kind: a few words.
        file: that it is about.
        sentence: in full.
    """

    kind: str
    file: str
    sentence: str


@dataclass
class Report:
    """Findings and figures of one data set.

    Args:
        name: of the data set.
        errors: what must be mended.
        notices: what may be intended.
        instances_per_image: crowd regions not counted.
        areas: of the instances, in pixels.
        classes: instances per class name.
        crowds: regions to ignore: crowds and void.
        image_kinds: images per depth and number of channels.
        channels: images per number of channels, opacity not counted.
        orientations: images per EXIF orientation, those without one not counted.
    """

    name: str
    errors: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)
    instances_per_image: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)
    classes: "Counter[str]" = field(default_factory=Counter)
    crowds: int = 0
    image_kinds: "Counter[str]" = field(default_factory=Counter)
    channels: "Counter[int]" = field(default_factory=Counter)
    orientations: "Counter[int]" = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notices do not count."""
        return not self.errors

    def error(self, kind: str, file: Union[str, Path], sentence: str) -> None:
        """Add something that must be mended."""
        self.errors.append(Finding(kind, str(file), sentence))

    def notice(self, kind: str, file: Union[str, Path], sentence: str) -> None:
        """Add something that may be intended."""
        self.notices.append(Finding(kind, str(file), sentence))

    def text(self) -> str:
        """The report for a terminal, several lines."""
        lines = [f"{self.name}: {self._summary()}"]
        lines += self._image_lines()
        if self.classes:
            counts = ", ".join(f"{name} {count}" for name, count in self.classes.most_common())
            lines.append(f"instances per class: {counts}")
        if self.instances_per_image:
            lines += histogram("instances per image", self.instances_per_image, COUNT_EDGES)
        if self.areas:
            lines += histogram("area of an instance, pixels", self.areas, AREA_EDGES)
        lines += self._notice_lines()
        lines += [f"error, {error.kind}: {error.sentence}" for error in self.errors]
        lines.append("Nothing is wrong." if self.ok else f"{len(self.errors)} errors.")
        return "\n".join(lines)

    def _summary(self) -> str:
        crowds = f", {self.crowds} regions to ignore" if self.crowds else ""
        return (
            f"{len(self.instances_per_image)} images, {sum(self.instances_per_image)} "
            f"instances{crowds}"
        )

    def _image_lines(self) -> "list[str]":
        """How the files are stored."""
        lines = []
        if self.image_kinds:
            kinds = [f"{kind} ({count})" for kind, count in self.image_kinds.most_common()]
            lines.append(f"image files: {'; '.join(kinds)}")
        if self.orientations:
            tags = [f"{tag} ({count})" for tag, count in sorted(self.orientations.items())]
            lines.append(f"images with an EXIF orientation: {', '.join(tags)}")
        return lines

    def _notice_lines(self) -> "list[str]":
        lines = []
        for kind, count in Counter(notice.kind for notice in self.notices).items():
            sentences = [notice.sentence for notice in self.notices if notice.kind == kind]
            lines += [f"notice, {kind}: {sentence}" for sentence in sentences[:FEW]]
            if count > FEW:
                lines.append(f"notice, {kind}: {count - FEW} more files.")
        return lines


def histogram(title: str, values: Sequence[int], edges: Sequence[int]) -> "list[str]":
    """Lines of a histogram drawn with characters.

    Args:
        title: first line.
        values: what is counted.
        edges: lower ends of the bins; the last bin has no upper end.

    Returns:
        Empty bins at both ends are left out.
    """
    counts, _ = np.histogram(values, [*edges, np.inf])
    used = np.flatnonzero(counts)
    middle = int(np.median(values))
    lines = [f"{title}: {min(values)} to {max(values)}, median {middle}"]
    for i in range(used[0], used[-1] + 1):
        last = edges[i + 1] - 1 if i + 1 < len(edges) else None
        label = f"{edges[i]}" if last == edges[i] else f"{edges[i]}-{last or ''}"
        bar = "#" * int(np.ceil(BAR * counts[i] / counts.max()))
        lines.append(f"  {label:>12} {counts[i]:>7} {bar}")
    return lines


def listed(items: "Iterable[Any]", limit: int = 5) -> str:
    """ "1, 2, 3 and 4 more"."""
    texts = [str(item) for item in items]
    more = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {more} more" if more > 0 else "")
