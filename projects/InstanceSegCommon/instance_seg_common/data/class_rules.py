"""What the ids of a label map mean: which are instances, of which class, and which to ignore.

All rules are tables, so that two of them can be compared and a rule can stand in a YAML file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from ..errors import UserError
from .check_report import listed

IdRange = tuple[int, int]  # first and last id
# What a user writes: the divisor of ids, or a mapping with the keys "divisor" and "classes".
WrittenRule = Union[int, Mapping[str, Any]]


class ClassOfId(NamedTuple):
    """The class of an instance from its id.

    Args:
        divisor: of ids.
        classes: (id // divisor, 0-based class) each, ascending; an id that is not listed is no
            instance. Without entries the class is ``id // divisor - 1``; below 0 it is no instance.
    """

    divisor: int
    classes: tuple[tuple[int, int], ...] = ()

    def class_of(self, instance_id: int) -> Optional[int]:
        """The 0-based class; None = the id is no instance."""
        quotient = instance_id // self.divisor
        if not self.classes:
            return quotient - 1 if quotient > 0 else None
        return dict(self.classes).get(quotient)


@dataclass(frozen=True)
class IdTable:
    """Which ids a format has, where it has more than objects.

    Args:
        known: the ids that may occur, 0 included; any other is an error.
        kept: the ids whose masks are encoded: objects and regions to ignore.
        ignored: those among them that are regions to ignore.
        hint: what to do about an id that is not known.
    """

    known: tuple[IdRange, ...]
    kept: tuple[IdRange, ...]
    ignored: tuple[IdRange, ...] = ()
    hint: str = field(default="", compare=False)

    def unknown_ids(self, labels: np.ndarray) -> "list[int]":
        """The ids of a label (H, W) that may not occur, ascending."""
        present = np.unique(labels)
        return present[~_within(present, self.known)].tolist()

    def unknown_sentence(self, path: Path, unknown: Sequence[int]) -> str:
        """The sentence for a label that has ids that may not occur."""
        ranges = ", ".join(f"{first} to {last}" for first, last in self.known)
        return (
            f"Label {path} has {'ids' if len(unknown) > 1 else 'the id'} {listed(unknown)}, but "
            f"the format has only {ranges}. {self.hint}".rstrip()
        )

    def select(self, labels: np.ndarray) -> np.ndarray:
        """A copy of a label (H, W) in which all ids that are not kept have become 0."""
        return np.where(_within(labels, self.kept), labels, 0)

    def without_ignored(self, values: np.ndarray) -> np.ndarray:
        """A copy of ids or classes (H, W) in which what is ignored has become 0."""
        return np.where(_within(values, self.ignored), 0, values)

    def ignores(self, instance_id: int) -> bool:
        """Whether an id is a region to ignore."""
        return bool(_within(np.array(instance_id), self.ignored))


def _within(ids: np.ndarray, ranges: Sequence[IdRange]) -> np.ndarray:
    """Which ids lie in one of the ranges: bool of their shape."""
    inside = np.zeros(ids.shape, dtype=bool)
    for first, last in ranges:
        inside |= (ids >= first) & (ids <= last)
    return inside


def class_of_id_rule(
    name: str, rule: Optional[WrittenRule], thing_classes: Sequence[str]
) -> Optional[ClassOfId]:
    """The table of a rule as a user writes it.

    Args:
        name: of the data set.
        rule: an int d, ``{"divisor": d, "classes": {id // d: index or name}}`` (d = 1 if not
            given), or None.
        thing_classes: the names that may occur in it.

    Raises:
        UserError: anything else.
    """
    if rule is None:
        return None
    entries = _class_entries(name, rule, thing_classes) if isinstance(rule, Mapping) else ()
    divisor = rule.get("divisor", 1) if isinstance(rule, Mapping) else rule
    if not isinstance(divisor, int) or isinstance(divisor, bool) or divisor < 1:
        raise UserError(
            f"Data set {name!r}: class_of_id needs a whole divisor of 1 or more, not {divisor!r}: "
            "either alone, or with a table as in {'divisor': 1000, 'classes': {26: 'car'}}."
        )
    return ClassOfId(divisor, entries)


def _class_entries(
    name: str, rule: "Mapping[str, Any]", thing_classes: Sequence[str]
) -> "tuple[tuple[int, int], ...]":
    classes = rule.get("classes")
    if set(rule) - {"divisor", "classes"} or not isinstance(classes, Mapping) or not classes:
        raise UserError(
            f"Data set {name!r}: class_of_id {dict(rule)} must have the keys 'classes' "
            "(id // divisor to class index or name) and, if it is not 1, 'divisor'."
        )
    entries = []
    for key, value in classes.items():
        index = thing_classes.index(value) if value in thing_classes else value
        if not isinstance(index, int) or not 0 <= index < len(thing_classes):
            raise UserError(
                f"Data set {name!r}: class_of_id gives {value!r} for {key}, which is neither a "
                f"name in {list(thing_classes)} nor an index below {len(thing_classes)}."
            )
        entries.append((_whole_id(name, key), index))
    twice = [key for key, count in Counter(key for key, _ in entries).items() if count > 1]
    if twice:
        raise UserError(f"Data set {name!r}: class_of_id lists {twice[0]} twice; list it once.")
    return tuple(sorted(entries))


def _whole_id(name: str, key: Any) -> int:
    try:
        number = int(key)
        if isinstance(key, str) or number == key:
            return number
    except (TypeError, ValueError):
        pass
    raise UserError(
        f"Data set {name!r}: class_of_id lists {key!r}, which is no whole number. Under 'classes', "
        "ids (divided by the divisor) stand before the colon and classes after it, as in {26: car}."
    )
