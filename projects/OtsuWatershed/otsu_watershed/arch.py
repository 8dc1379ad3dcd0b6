"""The row without training: Otsu threshold, then watershed on the distance transform.

Shapes: H, W = image as the model receives it; Ho, Wo = output size of the input dict;
N = objects. Importing this module registers the meta-architecture ``OtsuWatershed``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F

from instance_seg_common.errors import UserError
from instance_seg_common.masks import drop_small, instances_from_labels
from instance_seg_common.meta_arch import wanted_size

# ITU-R BT.601 weights, in the order R, G, B.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class OtsuSettings:
    """How an image becomes objects.

    Attributes:
        smoothing: standard deviation of the Gaussian before the threshold, pixels.
        min_distance: least distance between the centres of two objects, pixels.
        min_area: objects with fewer pixels are dropped.
        split: watershed; False gives plain connected components.
    """

    smoothing: float = 0.5
    min_distance: int = 6
    min_area: int = 20
    split: bool = True


@META_ARCH_REGISTRY.register()
class OtsuWatershed(nn.Module):
    """Objects that differ from their background in grey level, split where they neck.

    Args:
        settings (OtsuSettings)
        input_format (str): channel order of the images: "BGR", "RGB" or "L".
        num_classes (int): of the data set; every object is given class 0.

    Source: Otsu 1979 (threshold); Beucher and Lantuejoul 1979 (watershed), as in scikit-image.
    """

    @configurable
    def __init__(
        self, *, settings: OtsuSettings, input_format: str = "BGR", num_classes: int = 1
    ) -> None:
        super().__init__()
        self.settings = settings
        self.input_format = input_format
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "dict[str, Any]":
        """The constructor's arguments from ``MODEL.OTSU_WATERSHED``."""
        node = cfg.MODEL.OTSU_WATERSHED
        settings = OtsuSettings(
            smoothing=node.SMOOTHING,
            min_distance=node.MIN_DISTANCE,
            min_area=node.MIN_AREA,
            split=node.SPLIT,
        )
        return {
            "settings": settings,
            "num_classes": node.NUM_CLASSES,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        """The CPU: there are no parameters, and scikit-image works on arrays."""
        return torch.device("cpu")

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> "list[dict[str, Instances]]":
        """Detectron2's contract: see ``GeneralizedRCNN``.

        Args:
            batched_inputs (list[dict]): ``image`` (C, H, W) of any dtype, and optionally
                ``height`` and ``width`` of the output.

        Returns:
            list[dict]: ``instances`` with ``pred_masks`` (N, Ho, Wo) bool, ``pred_boxes`` XYXY in
            output pixels, ``scores`` (N,) in (0.5, 1], ``pred_classes`` (N,) all 0.

        Raises:
            UserError: in training mode, or without scikit-image.
        """
        if self.training:
            raise UserError(
                "MODEL.META_ARCHITECTURE OtsuWatershed has nothing to train: run it with "
                "--eval-only."
            )
        return [{"instances": self._segment(item)} for item in batched_inputs]

    def _segment(self, item: Mapping[str, Any]) -> Instances:
        grey = grey_image(item["image"], self.input_format)
        labels, scores = segment(grey, self.settings)
        size = wanted_size(item, grey.shape)
        return _to_instances(labels, scores, size)


def grey_image(image: Tensor, input_format: str) -> np.ndarray:
    """(C, H, W) tensor to (H, W) float64 on the range of the image: luma of colours, else a mean.

    Three channels are colours in the order of ``input_format``; any other number has no luma.
    """
    planes = image.detach().cpu().numpy().astype(np.float64)
    if len(planes) != 3:
        return planes.mean(axis=0)
    weights = _LUMA if input_format == "RGB" else _LUMA[::-1]
    return np.tensordot(weights, planes, axes=1)


def segment(grey: np.ndarray, settings: OtsuSettings) -> "tuple[np.ndarray, np.ndarray]":
    """Label the objects of one image.

    Args:
        grey (ndarray): (H, W) float.
        settings (OtsuSettings)

    Returns:
        tuple: labels (H, W) int64, 0 = background, 1..N consecutive; scores (N,) float.

    Raises:
        UserError: scikit-image or scipy is not installed.
    """
    filters, ndimage = _import_tools()
    smooth = ndimage.gaussian_filter(grey, settings.smoothing)
    if smooth.max() - smooth.min() < 1e-6:  # a flat image has no threshold and no objects
        return np.zeros(grey.shape, np.int64), np.zeros(0)
    threshold = filters.threshold_otsu(smooth)
    foreground = ndimage.binary_fill_holes(_foreground(smooth, threshold))
    if settings.split:
        labels = _split(foreground, settings.min_distance)
    else:
        labels = ndimage.label(foreground)[0]
    labels = drop_small(labels, settings.min_area)
    return labels, _contrast_scores(smooth, labels, threshold)


def _import_tools() -> "tuple[ModuleType, ModuleType]":
    """skimage.filters and scipy.ndimage."""
    try:
        from scipy import ndimage
        from skimage import filters
    except ImportError as error:
        raise UserError(
            f"OtsuWatershed needs scikit-image and scipy ({error}): pip install scikit-image."
        ) from error
    return filters, ndimage


def _foreground(smooth: np.ndarray, threshold: float) -> np.ndarray:
    """(H, W) bool. Objects are the side of the threshold that holds less of the image border.

    The border rather than the area: crowded nuclei may cover more than half of an image, but
    most of what touches the frame is still background.
    """
    bright = smooth > threshold
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return ~bright if border.mean() > 0.5 else bright


def _split(foreground: np.ndarray, min_distance: int) -> np.ndarray:
    """Watershed on the distance to the background, one marker for each of its maxima."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    _, ndimage = _import_tools()
    # Smoothed: a plain distance transform has plateaus and ridges, each with several maxima.
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 1.0)
    components = ndimage.label(foreground)[0]
    peaks = peak_local_max(
        distance, min_distance=min_distance, labels=components, exclude_border=False
    )
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=foreground)


def _contrast_scores(smooth: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """How far the mean of an object is from the threshold, mapped to (0.5, 1].

    They rank objects and are no probabilities; above 0.5, so that a label map made with the usual
    score threshold of 0.5 keeps every object.
    """
    counts = np.bincount(labels.ravel())[1:]
    sums = np.bincount(labels.ravel(), weights=smooth.ravel())[1:]
    contrast = np.abs(sums / np.maximum(counts, 1) - threshold)
    furthest = np.abs(smooth - threshold).max()
    return 0.501 + 0.499 * np.clip(contrast / furthest, 0, 1)


def _to_instances(labels: np.ndarray, scores: np.ndarray, size: "tuple[int, int]") -> Instances:
    """Instances (Ho, Wo) from labels (H, W); ids that vanish when shrunk are dropped."""
    resized = torch.from_numpy(labels)
    if resized.shape != size:
        resized = F.interpolate(resized[None, None].double(), size, mode="nearest-exact")[0, 0]
    ids, renamed = torch.unique(resized.long(), return_inverse=True)
    background = int((ids[:1] == 0).any())
    ids = ids[background:]
    return instances_from_labels(
        renamed + 1 - background,
        torch.from_numpy(scores)[ids - 1].float(),
        torch.zeros(len(ids), dtype=torch.int64),
        output_size=size,
    )
