"""An image as it is shown: at a size that can be read, bright enough, with instances over it.

Shape shorthand in this module:
    H, W: image   H', W': its display size   K: largest instance id
"""

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from ..evaluation.image_report import Prediction, Truth
from . import drawing
from .colors import instance_colors

# With more instances than this, texts would hide what they name.
MAX_TAGS = 20
TINT = 0.35  # opacity of an instance's colour


class DisplayImage:
    """An image at its display size, and how instances are laid over it.

    Attributes:
        pixels: (H', W', 3) uint8 RGB.
        scale: from the image to the display.
        note: for the title, says if the image was made brighter.
    """

    def __init__(self, image: np.ndarray):
        """
        Args:
            image: (H, W, 3) uint8 RGB.
        """
        self.scale = drawing.display_scale(*image.shape[:2])
        bright, changed = drawing.brighten(image)
        self.pixels = drawing.resize_image(bright, self.scale)
        self.note = " (shown brighter than it is)" if changed else ""

    def with_truth(self, truth: Truth, class_names: Sequence[str] = ()) -> np.ndarray:
        """(H', W', 3) with the ground truth, its classes as tags where there are several."""
        colors = instance_colors(int(truth.labels.max(initial=0)))
        texts = tag_texts(truth.classes, None, class_names)
        return self.with_instances(truth.labels, colors, texts=texts, ignore=truth.ignore)

    def with_prediction(
        self, prediction: Prediction, colors: np.ndarray, class_names: Sequence[str] = ()
    ) -> np.ndarray:
        """(H', W', 3) with a prediction in the colours (K + 1, 3) of its ids, scores as tags."""
        texts = tag_texts(prediction.classes, prediction.scores, class_names)
        return self.with_instances(prediction.labels, colors, texts=texts)

    def with_instances(
        self,
        labels: np.ndarray,
        colors: np.ndarray,
        *,
        texts: Optional[Mapping[int, str]] = None,
        ignore: Optional[np.ndarray] = None,
    ) -> np.ndarray:
        """Instances tinted, outlined and tagged.

        Args:
            labels: (H, W) int, 0 to K.
            colors: (K + 1, 3) uint8 RGB.
            texts: of some ids.
            ignore: (H, W) bool, where to draw stripes.

        Returns:
            (H', W', 3) uint8 RGB.
        """
        large = drawing.resize_labels(labels, self.scale)
        image = self.pixels
        if ignore is not None and ignore.any():
            image = drawing.hatch(image, drawing.resize_labels(ignore, self.scale) > 0)
        thickness = drawing.contour_thickness(labels)
        image = drawing.overlay_labels(image, large, colors, alpha=TINT, thickness=thickness)
        return drawing.draw_tags(image, _placed(texts or {}, large, colors))


def tag_texts(
    classes: Mapping[int, int], scores: Optional[Mapping[int, float]], class_names: Sequence[str]
) -> "dict[int, str]":
    """What stands at each instance, such as "name 97%".

    Args:
        classes: id -> 0-based class.
        scores: id -> score in [0, 1]; None to leave them out.
        class_names: left out where there is only one.

    Returns:
        By id; empty when there are too many instances or nothing to say.
    """
    if len(classes) > MAX_TAGS:
        return {}
    texts = {}
    for label, category in classes.items():
        parts = []
        if len(class_names) > 1:
            known = 0 <= category < len(class_names)
            parts.append(class_names[category] if known else f"class {category}")
        if scores is not None:
            parts.append(f"{100 * scores[label]:.0f}%")
        if parts:
            texts[label] = " ".join(parts)
    return texts


def _placed(texts, labels, colors):
    """Tags for :func:`drawing.draw_tags`: each text above the topmost pixel of its instance."""
    tags = []
    for label, text in texts.items():
        rows, columns = np.nonzero(labels == label)
        if len(rows):
            color = tuple(int(c) for c in colors[label])
            tags.append((int(columns[0]), int(rows[0]), text, color))
    return tags
