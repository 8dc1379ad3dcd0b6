"""What a check of a data set found: findings with their files, counts and histograms."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

COUNT_EDGES = (0, 1, 2, 6, 11, 21, 51, 101, 201)  # lower ends of the bins
AREA_EDGES = (0, 1, 16, 64, 256, 1024, 96**2, 256**2)  # 32**2 and 96**2 are COCO's limits
BAR = 40  # characters of the longest bar
FEW = 3  # notices of one kind that are printed in full


@dataclass(frozen=True)
class Finding:
    """One thing found: ``kind`` (a few words), ``file`` (str), ``sentence``."""

    kind: str
    file: str
    sentence: str


@dataclass
class Report:
    """Findings and figures of one data set.

    Args:
        name (str): the data set.
        errors (list[Finding]): what must be mended.
        notices (list[Finding]): what may be meant.
        instances_per_image (list[int]): crowd regions not counted.
        areas (list[int]): of the instances, in pixels.
        classes (collections.Counter): instances per class name.
        crowds (int): regions to ignore: crowds and void.
    """

    name: str
    errors: list = field(default_factory=list)
    notices: list = field(default_factory=list)
    instances_per_image: list = field(default_factory=list)
    areas: list = field(default_factory=list)
    classes: Counter = field(default_factory=Counter)
    crowds: int = 0

    @property
    def ok(self):
        """Whether nothing is wrong; notices do not count."""
        return not self.errors

    def error(self, kind, file, sentence):
        """Add something that must be mended."""
        self.errors.append(Finding(kind, str(file), sentence))

    def notice(self, kind, file, sentence):
        """Add something that may be meant."""
        self.notices.append(Finding(kind, str(file), sentence))

    def text(self):
        """The report for a terminal, several lines."""
        lines = [f"{self.name}: {self._summary()}"]
        if self.classes:
            counts = ", ".join(f"{name} {count}" for name, count in self.classes.most_common())
            lines.append(f"instances per class: {counts}")
        if self.instances_per_image:
            lines += histogram("instances per image", self.instances_per_image, COUNT_EDGES)
        if self.areas:
            lines += histogram("area of an instance, pixels", self.areas, AREA_EDGES)
        lines += self._notice_lines()
        lines += [f"error, {found.kind}: {found.sentence}" for found in self.errors]
        lines.append("Nothing is wrong." if self.ok else f"{len(self.errors)} errors.")
        return "\n".join(lines)

    def _summary(self):
        crowds = f", {self.crowds} regions to ignore" if self.crowds else ""
        return (
            f"{len(self.instances_per_image)} images, {sum(self.instances_per_image)} "
            f"instances{crowds}"
        )

    def _notice_lines(self):
        lines = []
        for kind, count in Counter(found.kind for found in self.notices).items():
            sentences = [found.sentence for found in self.notices if found.kind == kind]
            lines += [f"notice, {kind}: {sentence}" for sentence in sentences[:FEW]]
            if count > FEW:
                lines.append(f"notice, {kind}: {count - FEW} more files.")
        return lines


def histogram(title, values, edges):
    """Lines of a histogram drawn with characters.

    Args:
        title (str): first line.
        values (sequence of int): what is counted.
        edges (sequence of int): lower ends of the bins; the last bin has no upper end.

    Returns:
        list[str]: empty bins at both ends are left out.
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


def listed(items, limit=5):
    """ "1, 2, 3 and 4 more"."""
    items = [str(item) for item in items]
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")
