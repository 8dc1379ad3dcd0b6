"""The classes of a COCO file: its categories, by rising id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .check_report import listed
from .coco_notes import Findings
from .loose_values import Id, clean_ids, id_key
from .segmentations import quoted


@dataclass(frozen=True)
class Categories:
    """The classes of a file.

    Args:
        names: by id, in the order of the classes.
        ids: by the key of an id as the file has it.
    """

    names: dict[Id, str]
    ids: dict[str, Id]

    @property
    def numbers(self) -> "dict[Id, int]":
        """The index of the class by its id."""
        return {category: number for number, category in enumerate(self.names)}


def clean_categories(content: "dict[str, Any]", findings: Findings) -> Categories:
    """The classes of a file.

    A category that all others name as their ``supercategory`` and that has no annotation, as
    Roboflow writes one with id 0, is a heading and no class.

    Args:
        content: of ``coco_file.read_coco_file``.
        findings: notices are added to it.

    Raises:
        UserError: no category, or one without id and name; one id with two names, or one name with
            two ids.
    """
    entries = [_entry(entry, findings) for entry in content["categories"]]
    names = _names(entries, findings)
    used = {id_key(annotation.get("category_id")) for annotation in content["annotations"]}
    heading = _heading(entries, used)
    if heading is not None:
        title = names.pop(heading)
        findings.notice(
            "heading of categories",
            f"the category {title!r} (id {heading}) has no annotation and is the supercategory of "
            f"all others: a heading and no class. The number of classes is {len(names)}.",
        )
    _require_distinct(names, findings)
    ids = clean_ids(names)
    ordered = sorted(names, key=lambda key: ids[key])
    unused = [names[key] for key in ordered if key not in used]
    if unused and content["annotations"]:
        findings.notice(
            "classes without annotations",
            f"{len(unused)} of the {len(names)} classes have no annotation here: {listed(unused)}.",
        )
    return Categories({ids[key]: names[key] for key in ordered}, ids)


def _names(entries: "list[tuple[str, str, Any]]", findings: Findings) -> "dict[str, str]":
    """The name of each category by its key."""
    if not entries:
        raise _unusable(findings, "must list at least one object with 'id' and 'name'.")
    names: dict[str, str] = {}
    for key, name, _ in entries:
        if names.get(key, name) != name:
            text = f"give the id {key} to both {names[key]!r} and {name!r}; write one of them."
            raise _unusable(findings, text)
        if key in names:
            findings.count("category twice", repr(name))
        names[key] = name
    return names


def _unusable(findings: Findings, predicate: str) -> UserError:
    return UserError(f"{findings.path}: 'categories' {predicate}")


def _entry(entry: "dict[str, Any]", findings: Findings) -> "tuple[str, str, Any]":
    """Key of the id, name and supercategory of a category."""
    key, name = id_key(entry.get("id")), entry.get("name")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if key is None or not isinstance(name, str) or not name.strip():
        text = f"has {quoted(entry)}, which lacks an 'id', a whole number, or a 'name', a text."
        raise _unusable(findings, text)
    return key, name, entry.get("supercategory")


def _heading(entries: "Sequence[tuple[str, str, Any]]", used: "set[Any]") -> Any:
    """The key of the category that is a heading, None if there is none."""
    for key, name, above in entries:
        others = [other for other in entries if other[0] != key]
        heads_all = bool(others) and all(other[2] == name for other in others)
        if key not in used and heads_all and above in (None, "", "none"):
            return key
    return None


def _require_distinct(names: "dict[str, str]", findings: Findings) -> None:
    keys: dict[str, str] = {}
    for key, name in names.items():
        if name in keys:
            text = (
                f"give the name {name!r} to the ids {keys[name]} and {key}. Name them differently, "
                "or write one id in categories and annotations if they are one class."
            )
            raise _unusable(findings, text)
        keys[name] = key
