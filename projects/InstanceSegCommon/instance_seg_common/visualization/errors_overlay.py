"""The errors of a prediction in colour, by their kind.

Shape shorthand in this module:
    H, W: image   H', W': the picture
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.error_kinds import InstanceErrors
from . import drawing
from .colors import OKABE_ITO, Color, lightened

# Steps of lightness were chosen so that the kinds stay apart under colour vision deficiencies, and
# from the white seams. What is right has an outline only, so it differs from errors in form too.
ERROR_COLORS: "dict[str, Color]" = {
    "matched": lightened(OKABE_ITO["green"], -0.15),
    "missed": OKABE_ITO["vermillion"],
    "invented": OKABE_ITO["orange"],
    "merged": lightened(OKABE_ITO["purple"], -0.15),
    "split": lightened(OKABE_ITO["sky"], 0.3),
    "poor": lightened(OKABE_ITO["blue"], 0.3),
    "wrong class": lightened(OKABE_ITO["yellow"], 0.15),
}
SEAM = (255, 255, 255)


def errors_overlay(
    image: np.ndarray, gt: np.ndarray, pred: np.ndarray, *, errors: InstanceErrors
) -> np.ndarray:
    """Errors in colour on a dim grey image, what is right as a thin outline.

    Args:
        image: (H', W', 3) uint8 RGB, at the size of the result.
        gt, pred: (H, W) int label maps, enlarged to the image.
        errors: of the two.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    grey = image.mean(axis=2, keepdims=True) * 0.6
    canvas = np.repeat(grey, 3, axis=2).astype(np.uint8)
    gt_kinds = {"missed": errors.missed, "split": errors.split, "poor": errors.poor}
    pred_kinds = {
        "matched": [p for _, p in errors.matched],
        "wrong class": [p for _, p in errors.wrong_class],
        "poor": errors.poor_predictions,
        "invented": errors.invented,
        "merged": errors.merged,
    }
    large_gt, large_pred = drawing.labels_like(gt, image), drawing.labels_like(pred, image)
    canvas = _paint_kinds(canvas, large_pred, pred_kinds)
    canvas = _paint_kinds(canvas, large_gt, gt_kinds)
    # The seams: objects within a merged prediction, pieces within a split object.
    for labels, ids in ((large_gt, errors.merged_objects), (large_pred, errors.split_pieces)):
        seams = drawing.boundaries(np.where(np.isin(labels, ids), labels, 0))
        canvas[seams] = SEAM
    return canvas


def _paint_kinds(canvas, labels, kinds: Mapping[str, Sequence[int]]):
    """Tint and outline each kind's ids; matched ids get an outline only."""
    for kind, ids in kinds.items():
        chosen = np.where(np.isin(labels, ids), labels, 0)
        table = np.tile(np.array(ERROR_COLORS[kind], np.uint8), (int(labels.max(initial=0)) + 1, 1))
        alpha, thickness = (0.0, 1) if kind == "matched" else (0.55, 2)
        canvas = drawing.overlay_labels(canvas, chosen, table, alpha=alpha, thickness=thickness)
    return canvas


def error_legend(
    errors: InstanceErrors, compare_classes: bool = False
) -> "list[drawing.LegendEntry]":
    """Counts per kind, in the colours of :func:`errors_overlay`.

    Args:
        errors: of an image.
        compare_classes: whether wrong classes are counted.
    """
    texts = {
        "matched": f"found {len(errors.matched)}",
        "missed": f"missed {len(errors.missed)}",
        "invented": f"invented {len(errors.invented)}",
        "merged": _with_detail("merged", errors.merged, f"holding {len(errors.merged_objects)}"),
        "split": _with_detail("split", errors.split, f"into {len(errors.split_pieces)}"),
        "poor": f"poor {len(errors.poor)} objects, {len(errors.poor_predictions)} predictions",
    }
    if compare_classes:
        texts["wrong class"] = f"wrong class {len(errors.wrong_class)}"
    return [(text, ERROR_COLORS[kind]) for kind, text in texts.items()]


def _with_detail(kind, ids, detail):
    return f"{kind} {len(ids)}" + (f" ({detail})" if ids else "")
