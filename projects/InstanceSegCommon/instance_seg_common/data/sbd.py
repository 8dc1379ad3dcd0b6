"""The instance files of the Semantic Boundaries Dataset (SBD): MATLAB's ``.mat``.

Shapes: H, W height and width in pixels; N instances of one image.

A file ``inst/STEM.mat`` holds a struct ``GTinst`` with ``Segmentation``, (H, W) instance numbers
1..N and 0 = background, and ``Categories``, (N, 1) classes 1.. in the order of Pascal VOC.

Source: Hariharan et al., Semantic contours from inverse detectors, 2011, and its release.
"""

from pathlib import Path

import numpy as np

from ..errors import UserError

ENDING = ".mat"
VOID = 255  # in Segmentation: neither an object nor background


def read_sbd(path: Path) -> "tuple[np.ndarray, np.ndarray]":
    """Instances and classes of one image.

    Args:
        path: ``inst/STEM.mat``.

    Returns:
        (H, W) integers, the instance of each pixel, 0 = background; (H, W) int64, its class,
        0 = none.

    Raises:
        UserError: no MATLAB file, not of this format, or an instance without a class.
    """
    segmentation, categories = _read_struct(path)
    present = np.unique(segmentation).tolist()
    lost = [i for i in present if i > len(categories) and i != VOID]
    if lost or categories.min(initial=1) < 1:
        problem = f"no class for the instance {lost[0]}" if lost else "a class below 1"
        raise UserError(
            f"Label {path} has {problem}: its Categories are {categories.tolist()}. Unpack the "
            "file again from SBD's archive."
        )
    # An instance without pixels may have a class, too.
    table = np.zeros(max(VOID, len(categories)) + 1, dtype=np.int64)
    table[1 : len(categories) + 1] = categories
    return segmentation, table[segmentation]


def _read_struct(path: Path) -> "tuple[np.ndarray, np.ndarray]":
    """``Segmentation`` (H, W) and ``Categories`` (N,) of a file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("SBD's .mat files need scipy: pip install scipy.") from error
    try:
        content = loadmat(str(path), variable_names=["GTinst"])
    except Exception as error:  # scipy's reader raises whatever a damaged file leads it to
        raise UserError(
            f"Label {path} cannot be read ({type(error).__name__}: {error}); unpack it again from "
            "SBD's archive."
        ) from error
    try:
        struct = content["GTinst"][0, 0]
        segmentation, categories = struct["Segmentation"], struct["Categories"].reshape(-1)
        if segmentation.ndim != 2 or not (_whole(segmentation) and _whole(categories)):
            raise ValueError("they are not whole numbers from 0 on")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"Label {path} is no instance file of SBD: it needs a struct GTinst with Segmentation "
            f"(H, W) and Categories (N, 1) ({error}). The files are those of the folder inst, not "
            "of cls."
        ) from error
    return segmentation.astype(np.int64), categories.astype(np.int64)


def _whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers of 0 or more."""
    return bool(np.all((values >= 0) & (values == np.floor(values))))
