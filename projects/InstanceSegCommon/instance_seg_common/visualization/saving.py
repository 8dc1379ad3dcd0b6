"""Label maps as files."""

from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image

from ..data.cache import atomic_path

LARGEST_16_BIT = 65535


def save_label_map(labels: np.ndarray, path: Union[str, Path]) -> Path:
    """Write instance ids as a 16 bit PNG, or as a 32 bit TIFF when they do not fit.

    Args:
        labels: (H, W) int, 0 is background.
        path: without or with a suffix; the suffix becomes ``.png`` or ``.tif``.

    Returns:
        The file written.
    """
    labels = np.asarray(labels)
    fits = labels.max(initial=0) <= LARGEST_16_BIT
    # A stem may hold dots: only the suffixes of images are replaced.
    path = Path(path)
    stem = path.stem if path.suffix.lower() in {".png", ".tif", ".tiff"} else path.name
    path = path.with_name(stem + (".png" if fits else ".tif"))
    image = Image.fromarray(labels.astype(np.uint16 if fits else np.int32))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG" if fits else "TIFF")
    return path
