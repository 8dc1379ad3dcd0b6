"""From label files to encoded instances: what of a label is an object.

``ids``: every value; ``components``: every connected component of every value; ``colors``: every
colour; ``files``: every file. Shapes: H, W height and width in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from ..errors import UserError
from .class_rules import IdTable
from .encoding import EncodedInstance, encode_label_map, encode_object
from .label_images import read_colors, read_label, read_labels, read_object, size_sentence

IDS, COMPONENTS, COLORS, FILES = "ids", "components", "colors", "files"
KINDS = (IDS, COMPONENTS, COLORS, FILES)
# (height, width) of the label, and its instances.
SizeAndInstances = tuple[tuple[int, int], list[EncodedInstance]]


@dataclass(frozen=True)
class ObjectRule:
    """What of the labels of a data set is an object.

    Args:
        kind: one of KINDS.
        id_table: which ids the format has; None: all but 0 are objects.
    """

    kind: str = IDS
    id_table: Optional[IdTable] = None


def read_instances(
    label_paths: Sequence[Path],
    class_path: Optional[Path] = None,
    rule: ObjectRule = ObjectRule(),  # noqa: B008  frozen
    *,
    plane: Optional[int] = None,
) -> SizeAndInstances:
    """The encoded instances of one image, without the cache.

    Args:
        label_paths: one; with ``files`` one or more.
        class_path: class ids of the same size.
        rule: what is an object.
        plane: of files of several planes, from 0; not with ``files``.

    Raises:
        UserError: a file that is unreadable or not of its kind, sizes that differ, or an id that is
            not in the table.
    """
    if rule.kind == FILES:
        return _instances_of_files(label_paths, class_path)
    labels, classes = read_ids(label_paths[0], class_path, rule, plane=plane)
    if rule.id_table is not None:
        unknown = rule.id_table.unknown_ids(labels)
        if unknown:
            raise UserError(rule.id_table.unknown_sentence(label_paths[0], unknown))
        labels = rule.id_table.select(labels)
    height, width = labels.shape
    records = encode_label_map(labels, classes, each_part=rule.kind == COMPONENTS)
    return (height, width), records


def read_ids(
    label_path: Path,
    class_path: Optional[Path],
    rule: ObjectRule,
    *,
    plane: Optional[int] = None,
) -> "tuple[np.ndarray, Optional[np.ndarray]]":
    """What ``label_images.read_labels`` returns, with a number for each colour under ``colors``."""
    if rule.kind != COLORS:
        return read_labels(label_path, class_path, plane=plane)
    labels = read_colors(label_path, plane=plane)
    return labels, None if class_path is None else _classes(class_path, labels.shape, plane)


def _classes(path: Path, size: "tuple[int, ...]", plane: Optional[int] = None) -> np.ndarray:
    classes = read_label(path, plane=plane)
    if classes.shape != size:
        raise UserError(size_sentence("Class image", path, size=classes.shape, label_size=size))
    return classes


def covered(paths: Sequence[Path]) -> np.ndarray:
    """Where the files of the objects of one image have any of them: (H, W) bool.

    Raises:
        UserError: see :func:`read_instances`.
    """
    union = read_object(paths[0])
    for mask in _masks(paths):
        union |= mask
    return union


def _instances_of_files(paths: Sequence[Path], class_path: Optional[Path]) -> SizeAndInstances:
    """Objects may overlap; ids are the places of their files, from 1; empty files have none."""
    height, width = read_object(paths[0]).shape
    classes = None if class_path is None else _classes(class_path, (height, width))
    records = [
        encode_object(mask, number, classes) for number, mask in enumerate(_masks(paths), start=1)
    ]
    return (height, width), [record for record in records if record is not None]


def _masks(paths: Sequence[Path]) -> "Iterator[np.ndarray]":
    """The masks of the files of one image, (H, W) bool each."""
    size = None
    for path in paths:
        mask = read_object(path)
        size = size or mask.shape
        if mask.shape != size:
            raise UserError(
                f"Label {path} is {mask.shape[1]}x{mask.shape[0]} pixels, but {paths[0].name} of "
                f"the same image is {size[1]}x{size[0]}; bring all to one size."
            )
        yield mask
