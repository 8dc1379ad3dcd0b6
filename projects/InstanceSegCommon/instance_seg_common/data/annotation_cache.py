"""The encoded instances of label files, kept between runs by the content of these files."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..errors import UserError
from .cache import atomic_path, cache_root
from .label_objects import ObjectRule, SizeAndInstances, read_instances

logger = logging.getLogger(__name__)

CACHE_FORMAT = 2  # part of every cache key: raise it when the encoding or its record changes


def cached_instances(
    label_paths: Sequence[Path],
    class_path: Optional[Path] = None,
    rule: ObjectRule = ObjectRule(),  # noqa: B008  frozen
    *,
    plane: Optional[int] = None,
) -> SizeAndInstances:
    """``label_objects.read_instances`` through a cache whose key is the content of the files."""
    entry = cache_root() / "label_maps" / f"{_key(label_paths, class_path, rule, plane=plane)}.json"
    if entry.exists():
        try:
            (height, width), records = json.loads(entry.read_text())
            return (height, width), records
        except (ValueError, TypeError) as error:
            logger.warning(
                "Cache entry %s is broken (%s); encoding %s anew.", entry, error, label_paths[0]
            )
    size, records = read_instances(label_paths, class_path, rule, plane=plane)
    with atomic_path(entry) as path:
        path.write_text(json.dumps([size, records], separators=(",", ":")))
    return size, records


def _key(
    label_paths: Sequence[Path],
    class_path: Optional[Path],
    rule: ObjectRule,
    *,
    plane: Optional[int],
) -> str:
    table = rule.id_table
    use = "" if table is None else f", ids {table.known} {table.kept}"
    use += "" if plane is None else f", plane {plane}"
    with_classes = class_path is not None  # else two labels would look like a label and its classes
    key = hashlib.sha256(f"label maps {CACHE_FORMAT} {rule.kind} {with_classes}{use}".encode())
    for path in filter(None, (*label_paths, class_path)):
        try:
            key.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(f"Label {path} cannot be read ({error}).") from error
    return key.hexdigest()
