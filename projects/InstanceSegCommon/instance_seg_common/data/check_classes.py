"""The check of the classes of a data set of label maps.

Shapes: H, W height and width in pixels.
"""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .check_report import Report, listed
from .encoding import EncodedInstance
from .label_map_source import LabelMapSource


class ClassCheck:
    """Adds findings on classes, and the figures of the instances that have one, to a report."""

    def __init__(self, source: LabelMapSource, report: Report) -> None:
        self.source, self.report = source, report

    def check_image(self, path: Path, labels: np.ndarray, classes: np.ndarray) -> None:
        """Check the class image (H, W) at a path against the ids (H, W)."""
        names = self.source.thing_classes
        present = np.unique(classes).tolist()
        wrong = [value for value in present if value > len(names)]
        if wrong:
            sentence = (
                f"{path} has the class values {listed(wrong)}, but there are {len(names)} classes "
                f"({', '.join(names)}); allowed are 0 to {len(names)}."
            )
            self.report.error("class out of range", path, sentence)
        lost = sorted(set(present) - {0} - set(np.unique(classes[labels > 0]).tolist()))
        if lost:
            sentence = (
                f"{path} has pixels of class {listed(lost)}, but no instance id has a pixel there; "
                "add the instance to the label or clear the pixels."
            )
            self.report.error("class without instance", path, sentence)

    def check_instances(self, path: Path, records: "list[EncodedInstance]") -> None:
        """Check instances that have the classes of their pixels, and count them."""
        mixed = [record["id"] for record in records if len(_classes_of(record)) > 1]
        if mixed:
            sentence = (
                f"In {path} some instances have more than one class: ids {listed(mixed)}; the "
                "class of most pixels is used."
            )
            self.report.error("instance with two classes", path, sentence)
        none = [record["id"] for record in records if _classes_of(record)[0] == 0]
        if none:
            sentence = (
                f"In {path} the instances {listed(none)} have class 0 (none) and are left out."
            )
            self.report.error("instance without class", path, sentence)
        known = range(1, len(self.source.thing_classes) + 1)
        self._count(path, [record for record in records if _classes_of(record)[0] in known])

    def check_rule(self, path: Path, records: "list[EncodedInstance]") -> None:
        """Check instances whose classes come from their ids, and count them."""
        usable, wrong = [], []
        for record in records:
            try:
                if self.source.class_index(record) is not None:
                    usable.append(record)
            except UserError:
                wrong.append(record["id"])
        if wrong:
            sentence = (
                f"In {path} class_of_id gives a class beyond the "
                f"{len(self.source.thing_classes)} of the set for the ids {listed(wrong)}; add "
                "classes or correct the rule."
            )
            self.report.error("class out of range", path, sentence)
        self._count(path, usable)

    def _count(self, path: Path, records: "list[EncodedInstance]") -> None:
        """Add the figures of one image."""
        self.report.instances_per_image.append(len(records))
        indices = [self.source.class_index(record) for record in records]
        self.report.classes.update(self.source.thing_classes[i] for i in indices if i is not None)
        self.report.areas += [record["area"] for record in records]
        if not records:
            self.report.notice("no instances", path, f"{path} has no instances.")


def _classes_of(record: EncodedInstance) -> "list[int]":
    """The classes of the pixels of an instance, most pixels first."""
    return [class_id for class_id, _ in record.get("classes", [])]
