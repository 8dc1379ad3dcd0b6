"""Rules that remove duplicate detections, as functions of overlaps and scores.

Shape shorthand in this module:
    N: detections of one image
"""

from collections.abc import Sequence
from typing import Union

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

Numbers = Union[np.ndarray, Sequence[float]]


def box_iou(boxes: Union[Tensor, np.ndarray]) -> np.ndarray:
    """IoU of every box with every other.

    Args:
        boxes (array_like or Tensor): (N, 4) XYXY in pixels.

    Returns:
        ndarray: (N, N) float32 in [0, 1].
    """
    boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    return pairwise_iou(boxes, boxes).numpy()


def among_equals(iou: np.ndarray, classes: Union[np.ndarray, Sequence[int]]) -> np.ndarray:
    """Overlaps that count: those of detections of the same class.

    Args:
        iou (ndarray): (N, N) float.
        classes (ndarray): (N,) integers.

    Returns:
        ndarray: (N, N) float, 0 between classes.
    """
    classes = np.asarray(classes)
    return np.where(classes[:, None] == classes[None], iou, 0.0)


def greedy_nms(iou: np.ndarray, scores: Numbers, threshold: float) -> np.ndarray:
    """Keep the best detection, remove what overlaps it more than allowed, and so on.

    Args:
        iou (ndarray): (N, N) float, of boxes or of masks.
        scores (ndarray): (N,) float.
        threshold (float): an IoU above it removes the worse of two.

    Returns:
        ndarray: (n,) int64, the detections that stay, best first.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    waiting, kept = np.ones(len(order), dtype=bool), []
    for n in order:
        if waiting[n]:
            kept.append(n)
            waiting &= iou[n] <= threshold
    return np.array(kept, dtype=np.int64)


def soft_nms(iou: np.ndarray, scores: Numbers, sigma: float = 0.5) -> np.ndarray:
    """Lower the scores of detections that overlap a better one, and remove none.

    Args:
        iou (ndarray): (N, N) float, of boxes.
        scores (ndarray): (N,) float >= 0.
        sigma (float): > 0, of the Gaussian; a twin of a better one is left exp(-1 / sigma) of its
            score.

    Returns:
        ndarray: (N,) float64, the scores after all decays.

    Source: Bodla et al. 2017 (arXiv 1704.04503), Fig. 2 and Eq. 3, sigma of the paper.
    """
    scores = np.array(scores, dtype=np.float64)
    decay = np.exp(-np.square(iou) / sigma)
    waiting = np.ones(len(scores), dtype=bool)
    for _ in range(len(scores)):
        best = np.where(waiting, scores, -1.0).argmax()
        waiting[best] = False
        scores[waiting] *= decay[best][waiting]
    return scores
