"""Where derived files (rendered images, encoded annotations) are kept between runs, and by what."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union


def cache_root() -> Path:
    """Folder for derived files: ``$INSTANCE_SEG_CACHE``, else ``~/.cache/instance_seg_common``.

    Returns:
        An absolute path, created if absent.
    """
    default = Path.home() / ".cache" / "instance_seg_common"
    root = Path(os.environ.get("INSTANCE_SEG_CACHE") or default).expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def atomic_path(path: Path) -> "Iterator[Path]":
    """A temporary path beside ``path``; what is written there takes its name when the block ends.

    So ``path`` is always a complete file, even after a run that is killed, or with a second process
    that writes the same entry.

    Args:
        path: of the final file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: what it makes stays closed to other users.
    temporary = path.with_name(f"{path.stem}-partial-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Union[str, Path]) -> str:
    """Of a file; "" if there is none."""
    if not Path(path).is_file():
        return ""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
