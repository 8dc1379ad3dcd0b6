"""The encoded instances of label files, kept between runs by the content of these files."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Optional

from ..errors import UserError
from .cache import atomic_path, cache_root
from .class_rules import IdTable
from .encoding import EncodedInstance, encode_label_map
from .label_images import read_labels

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1  # part of every cache key: raise it when the encoding or its record changes
# (height, width) of the label, and its instances.
SizeAndInstances = tuple[tuple[int, int], list[EncodedInstance]]


def cached_instances(
    label_path: Path,
    class_path: Optional[Path] = None,
    id_table: Optional[IdTable] = None,
    *,
    plane: Optional[int] = None,
) -> SizeAndInstances:
    """:func:`read_instances` through a cache whose key is the content of the files."""
    use = "" if id_table is None else f", ids {id_table.known} {id_table.kept}"
    use += "" if plane is None else f", plane {plane}"
    key = hashlib.sha256(f"label maps {CACHE_FORMAT}{use}".encode())
    for path in filter(None, (label_path, class_path)):
        try:
            key.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(f"Label {path} cannot be read ({error}).") from error
    entry = cache_root() / "label_maps" / f"{key.hexdigest()}.json"
    if entry.exists():
        try:
            (height, width), records = json.loads(entry.read_text())
            return (height, width), records
        except (ValueError, TypeError) as error:
            logger.warning(
                "Cache entry %s is broken (%s); encoding %s anew.", entry, error, label_path
            )
    size, records = read_instances(label_path, class_path, id_table, plane=plane)
    with atomic_path(entry) as path:
        path.write_text(json.dumps([size, records], separators=(",", ":")))
    return size, records


def read_instances(
    label_path: Path,
    class_path: Optional[Path] = None,
    id_table: Optional[IdTable] = None,
    *,
    plane: Optional[int] = None,
) -> SizeAndInstances:
    """The encoded instances of one label file, without the cache.

    Args:
        label_path: instance ids.
        class_path: class ids of the same size.
        id_table: which ids are encoded; None: all but 0.
        plane: of files of several planes, from 0.

    Raises:
        UserError: a file that is unreadable or no id image, sizes that differ, or an id that is not
            in the table.
    """
    labels, classes = read_labels(label_path, class_path, plane=plane)
    if id_table is not None:
        unknown = id_table.unknown_ids(labels)
        if unknown:
            raise UserError(id_table.unknown_sentence(label_path, unknown))
        labels = id_table.select(labels)
    height, width = labels.shape
    return (height, width), encode_label_map(labels, classes)
