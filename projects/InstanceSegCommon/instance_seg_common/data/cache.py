"""Where derived files (rendered images, encoded annotations) are kept between runs."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path


def cache_root():
    """Folder for derived files: ``$INSTANCE_SEG_CACHE``, else ``~/.cache/instance_seg_common``.

    Returns:
        pathlib.Path: an absolute path, created if absent.
    """
    default = Path.home() / ".cache" / "instance_seg_common"
    root = Path(os.environ.get("INSTANCE_SEG_CACHE") or default).expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def atomic_path(path):
    """A temporary path beside ``path`` that takes its name when the block ends without error.

    A run that is killed, or a second process that writes the same entry, leaves no half file.

    Args:
        path (pathlib.Path): the final file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
