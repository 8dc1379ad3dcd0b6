"""Which objects are found, by how much their box coincides with that of a neighbour.

A detector that removes boxes by NMS cannot keep two objects whose boxes nearly coincide, such as
crossing sticks; a way without boxes does not care.

Shape shorthand in this module:
    H, W: image   G: ground-truth objects   N: predicted instances
"""

from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from pycocotools import mask as mask_util
from tabulate import tabulate

from instance_seg_analysis.internals.proposals_drawing import ground_truth_boxes
from instance_seg_common.data.loader import build_test_mapper
from instance_seg_common.evaluation.checks import check_prediction
from instance_seg_common.masks import decode_segmentation
from instance_seg_common.visualization.figures import new_figure

# Box IoU with the nearest neighbour: below the first, from the first to the second, above it.
BIN_EDGES = (0.3, 0.7)
BIN_NAMES = ("< 0.3", "0.3 to 0.7", "> 0.7")
MASK_IOU = 0.5


class BinRecall(NamedTuple):
    """name: of ``BIN_NAMES``; objects, found: how many there are, and how many were found."""

    name: str
    objects: int
    found: int

    @property
    def recall(self):
        """found / objects; nan where there is nothing to find."""
        return self.found / self.objects if self.objects else float("nan")


class NeighbourRecall(NamedTuple):
    """What one model found: score_threshold, number of predictions above it, BinRecall a bin."""

    score_threshold: float
    predictions: int
    bins: list


def neighbour_box_iou(boxes):
    """Box IoU of each object with its nearest neighbour, the one whose box overlaps it most.

    Args:
        boxes (array_like or Tensor): (G, 4) XYXY in pixels, of one image.

    Returns:
        ndarray: (G,) float64 in [0, 1]; 0 for an object alone in its image.
    """
    boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    return pairwise_iou(boxes, boxes).fill_diagonal_(0).amax(dim=1).numpy()


def bin_of(neighbour_iou, edges=BIN_EDGES):
    """Index of the bin of each object.

    Args:
        neighbour_iou (ndarray): (G,) float in [0, 1].
        edges (tuple[float, float]): both belong to the middle bin.

    Returns:
        ndarray: (G,) int64: 0, 1 or 2.
    """
    low, high = edges
    neighbour_iou = np.asarray(neighbour_iou)
    return (neighbour_iou >= low).astype(np.int64) + (neighbour_iou > high)


def recall_by_bin(neighbour_iou, found):
    """Recall of the objects of each bin.

    Args:
        neighbour_iou (ndarray): (G,) float of :func:`neighbour_box_iou`, of any number of images.
        found (ndarray): (G,) bool.

    Returns:
        list[BinRecall]: three, in the order of ``BIN_NAMES``.
    """
    bins = bin_of(neighbour_iou)
    objects = np.bincount(bins, minlength=len(BIN_NAMES))
    hits = np.bincount(bins, weights=np.asarray(found, dtype=float), minlength=len(BIN_NAMES))
    return [BinRecall(name, int(n), int(f)) for name, n, f in zip(BIN_NAMES, objects, hits)]


def mask_iou(pred_masks, gt_masks):
    """IoU of every prediction with every object; either may overlap others of its kind.

    Args:
        pred_masks (sequence): N masks (H, W) bool.
        gt_masks (sequence): G masks (H, W) bool.

    Returns:
        ndarray: (N, G) float64.
    """
    return encoded_iou(encoded(pred_masks), encoded(gt_masks))


def encoded_iou(pred, gt):
    """:func:`mask_iou` of masks that are encoded already, lists of N and G dicts."""
    if not (pred and gt):
        return np.zeros((len(pred), len(gt)))
    return mask_util.iou(pred, gt, [0] * len(gt))


def encoded(masks):
    """Masks (H, W) bool in COCO's compressed encoding."""
    return [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


def encoded_objects(dataset_dict):
    """The masks of the annotations that are no crowd, encoded.

    Args:
        dataset_dict (dict): with ``annotations``, ``height`` and ``width``.

    Returns:
        list[dict]: G.
    """
    size = dataset_dict["height"], dataset_dict["width"]
    return encoded(
        decode_segmentation(annotation["segmentation"], *size)
        for annotation in dataset_dict["annotations"]
        if not annotation.get("iscrowd", 0)
    )


def match_by_score(iou, scores, iou_threshold=MASK_IOU):
    """Give objects to predictions as COCO does: the best score chooses first.

    Args:
        iou (ndarray): (N, G) float.
        scores (ndarray): (N,) float.
        iou_threshold (float): a pair may match where its IoU is greater or equal.

    Returns:
        ndarray: (N,) int64, the object of each prediction or -1.
    """
    matches = np.full(len(scores), -1, dtype=np.int64)
    left = np.where(iou >= iou_threshold, iou, 0.0)
    if not left.size:
        return matches
    for n in np.argsort(-np.asarray(scores), kind="stable"):
        best = left[n].argmax()
        if left[n, best] > 0:
            matches[n] = best
            left[:, best] = 0
    return matches


def found_objects(instances, dataset_dict, score_threshold, objects=None):
    """The objects of one image that a model found; classes play no part.

    Args:
        instances (Instances): ``pred_masks`` (N, H, W) bool, ``scores`` (N,).
        dataset_dict (dict): with annotations.
        score_threshold (float): instances with a lower score are left out.
        objects (list[dict] or None): :func:`encoded_objects` of it, if they are known already.

    Returns:
        tuple: (G,) bool, the i-th is the i-th annotation that is not a crowd; the number of
        instances that were not left out.

    Raises:
        UserError: predictions that cannot be compared with the ground truth.
    """
    instances = instances.to("cpu")
    check_prediction(dataset_dict, instances)
    instances = instances[instances.scores >= score_threshold]
    objects = encoded_objects(dataset_dict) if objects is None else objects
    found = np.zeros(len(objects), dtype=bool)
    if len(instances):
        iou = encoded_iou(encoded(instances.pred_masks.numpy()), objects)
        matches = match_by_score(iou, instances.scores.numpy())
        found[matches[matches >= 0]] = True
    return found, len(instances)


@torch.no_grad()
def neighbour_recall(cfg, model, dataset_dicts):
    """Run a model over a data set.

    Args:
        cfg (CfgNode): its ``TEST.LABEL_MAP_SCORE_THRESHOLD`` is the least score that counts.
        model (nn.Module): in evaluation mode.
        dataset_dicts (list[dict]): with annotations.

    Returns:
        NeighbourRecall
    """
    mapper, threshold = build_test_mapper(cfg), cfg.TEST.LABEL_MAP_SCORE_THRESHOLD
    neighbour_iou, found, predictions = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for record in dataset_dicts:
        instances = model([mapper(record)])[0]["instances"]
        image_found, count = found_objects(instances, record, threshold)
        neighbour_iou.append(neighbour_box_iou(ground_truth_boxes(record)))
        found.append(image_found)
        predictions += count
    bins = recall_by_bin(np.concatenate(neighbour_iou), np.concatenate(found))
    return NeighbourRecall(threshold, predictions, bins)


def recall_table(results):
    """Recall by way and bin as a text table.

    Args:
        results (dict[str, NeighbourRecall]): by way, not empty, all on the same data set.

    Returns:
        str
    """
    bins = next(iter(results.values())).bins
    headers = ["way", "score >=", "predictions", *(f"{b.name} (n = {b.objects})" for b in bins)]
    headers.append(f"all (n = {sum(b.objects for b in bins)})")
    rows = []
    for way, result in results.items():
        total = _total(result.bins)
        recalls = [b.recall for b in (*result.bins, total)]
        rows.append([way, f"{result.score_threshold:g}", str(result.predictions), *recalls])
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", disable_numparse=[0, 1, 2])


def _total(bins):
    return BinRecall("all", sum(b.objects for b in bins), sum(b.found for b in bins))


def recall_figure(results, path, title=""):
    """Draw recall by bin, a bar for each way, and write a PNG.

    Args:
        results (dict[str, NeighbourRecall]): by way, not empty, all on the same data set.
        path (Path): the file.
        title (str): names the data set.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    bins = next(iter(results.values())).bins
    places, width = np.arange(len(bins)), 0.8 / len(results)
    for index, (way, result) in enumerate(results.items()):
        shift = (index - (len(results) - 1) / 2) * width
        bars = axes.bar(places + shift, [b.recall for b in result.bins], width, label=way)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(places, [f"{b.name}\n{b.objects} objects" for b in bins])
    axes.set_xlabel("box IoU with the nearest neighbour")
    axes.set_ylabel(f"recall at mask IoU {MASK_IOU:g}")
    axes.set_ylim(0, 1.05)
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
