"""Pictures of annotations, of augmented training images, and of predictions beside the truth.

All take and return RGB. Shape shorthand in this module:
    H, W: image   H', W': the picture, whatever size its panels need   K: instances
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.data import detection_utils

from ..data.images import IGNORE_VALUE, READ_ERRORS, check_readable_mode
from ..errors import UserError
from ..evaluation.ground_truth import drop_ignored, labels_and_ignored
from ..evaluation.label_map import predicted_label_map
from ..masks import instance_id_maps, instances_to_label_map, targets_from_instances
from . import drawing
from .colors import OKABE_ITO, instance_color, instance_colors, lightened
from .error_kinds import classify_errors, same_object

# With more instances than this, texts would hide what they name.
MAX_TAGS = 20
# From this many instances on, contours are one pixel wide.
CROWDED = 40
# Steps of lightness were chosen so that the kinds stay apart under colour vision deficiencies, and
# from the white seams. What is right has an outline only, so it differs from errors in form too.
ERROR_COLORS = {
    "matched": lightened(OKABE_ITO["green"], -0.15),
    "missed": OKABE_ITO["vermillion"],
    "invented": OKABE_ITO["orange"],
    "merged": lightened(OKABE_ITO["purple"], -0.15),
    "split": lightened(OKABE_ITO["sky"], 0.3),
    "poor": lightened(OKABE_ITO["blue"], 0.3),
    "wrong class": lightened(OKABE_ITO["yellow"], 0.15),
}


class Truth(NamedTuple):
    """labels (H, W) int64, ids 1..K; ignore (H, W) bool; classes: id -> 0-based class."""

    labels: np.ndarray
    ignore: np.ndarray
    classes: dict


class Prediction(NamedTuple):
    """labels (H, W) int64, ids 1..K; classes: id -> 0-based class; scores: id -> float."""

    labels: np.ndarray
    classes: dict
    scores: dict


def load_image(path):
    """Read an image file.

    Args:
        path (str or Path): any format that Pillow reads.

    Returns:
        ndarray: (H, W, 3) uint8 RGB.

    Raises:
        UserError: absent, unreadable, or with more than 8 bits per channel.
    """
    check_readable_mode(path)
    try:
        return detection_utils.read_image(str(path), format="RGB")
    except READ_ERRORS as error:
        raise UserError(
            f"The image {path} cannot be read: {error}. Give a PNG, JPEG or TIFF file that opens."
        ) from error


def truth_of(dataset_dict):
    """Ground truth of a data set dict.

    Args:
        dataset_dict (dict): Detectron2's format, with ``annotations``, ``height`` and ``width``.

    Returns:
        Truth: id i + 1 is the i-th annotation that is not a crowd.

    Raises:
        UserError: the map of ignored regions cannot be used.
    """
    labels, ignore = labels_and_ignored(dataset_dict)
    objects = [a for a in dataset_dict.get("annotations", []) if not a.get("iscrowd", 0)]
    classes = {i: a["category_id"] for i, a in enumerate(objects, start=1)}
    return Truth(labels, ignore, classes)


def prediction_of(instances, score_threshold=0.5, min_area=0):
    """Predicted instances as a label map with the class and score of each id.

    Args:
        instances (Instances): ``pred_masks`` (N, H, W) bool, ``scores``, ``pred_classes``.
        score_threshold, min_area: of ``masks.instances_to_label_map``.

    Returns:
        Prediction: see there.
    """
    instances = instances.to("cpu")
    return _described(instances, instances_to_label_map(instances, score_threshold, min_area))


def judged_prediction(instances, truth, score_threshold=0.5, min_area=0):
    """What of a prediction the evaluation compares with the ground truth.

    Args:
        instances, score_threshold, min_area: of :func:`prediction_of`.
        truth (Truth): of the same image; what lies in its ignored region is not judged.

    Returns:
        Prediction: labels of ``evaluation.label_map.predicted_label_map``.
    """
    # Before classes are looked up: a dropped instance would hand its class to what it covers.
    instances = drop_ignored(instances.to("cpu"), truth.ignore & (truth.labels == 0))
    labels = predicted_label_map(instances, truth.labels, truth.ignore, score_threshold, min_area)
    return _described(instances, labels)


def _described(instances, labels):
    """A label map with the class and score of each id, taken from its first pixel."""
    ids, first = np.unique(labels, return_index=True)
    scores = instances.scores.numpy()
    classes_of, scores_of = {}, {}
    for label, pixel in zip(ids.tolist(), first.tolist()):
        if label == 0:
            continue
        covering = instances.pred_masks.flatten(1)[:, pixel].nonzero()[:, 0].numpy()
        owner = covering[scores[covering].argmax()]
        classes_of[label] = int(instances.pred_classes[owner])
        scores_of[label] = float(scores[owner])
    return Prediction(labels, classes_of, scores_of)


def annotation_panel(dataset_dict, class_names=()):
    """Image | annotations.

    Args:
        dataset_dict (dict): see :func:`truth_of`; its image is read from ``file_name``.
        class_names (sequence[str]): of the data set; shown when there are two or more.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    image = _checked_image(dataset_dict)
    truth = truth_of(dataset_dict)
    frame = _Frame(image)
    panels = [
        ("image" + frame.note, frame.image),
        (f"annotations: {_count(truth.classes)}", frame.truth(truth, class_names)),
    ]
    return drawing.side_by_side(panels, _header(dataset_dict, image), _ignore_legend(truth.ignore))


def dataloader_panel(mapped, image_format="BGR", class_names=()):
    """Image | targets, as the training mapper yields them after augmentation.

    Args:
        mapped (dict): ``image`` (3, H, W) uint8 in ``image_format``, ``instances`` with
            ``gt_masks`` and ``gt_classes``, optional ``sem_seg`` (H, W).
        image_format (str): INPUT.FORMAT.
        class_names (sequence[str]): of the data set.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    image = detection_utils.convert_image_to_rgb(mapped["image"].permute(1, 2, 0), image_format)
    image = np.ascontiguousarray(image.astype(np.uint8))
    masks, classes, valid = targets_from_instances([mapped["instances"]], image.shape[:2])
    labels = instance_id_maps(masks, classes, valid)[0][0].numpy()
    classes = {i: int(c) for i, c in enumerate(classes[0], start=1)}
    ignore = np.zeros(labels.shape, dtype=bool)
    if "sem_seg" in mapped:
        ignore = mapped["sem_seg"].numpy() == IGNORE_VALUE
    frame = _Frame(image)
    texts = _tag_texts(classes, None, class_names)
    overlay = frame.overlay(labels, instance_colors(len(classes)), texts, ignore)
    panels = [
        ("network input" + frame.note, frame.image),
        (f"targets: {_count(classes)}", overlay),
    ]
    return drawing.side_by_side(panels, _header(mapped, image), _ignore_legend(ignore))


def prediction_panel(
    dataset_dict, instances, class_names=(), score_threshold=0.5, min_area=0, note=""
):
    """Ground truth | prediction | errors; an object and the prediction of it share their colour.

    Args:
        dataset_dict (dict): see :func:`truth_of`; its image is read from ``file_name``.
        instances (Instances): of the model, at the size of the image.
        class_names (sequence[str]): of the data set; with two or more, classes are compared.
        score_threshold, min_area: of ``masks.instances_to_label_map``.
        note (str): added to the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    image = _checked_image(dataset_dict)
    truth = truth_of(dataset_dict)
    prediction = prediction_of(instances, score_threshold, min_area)
    judged = judged_prediction(instances, truth, score_threshold, min_area)
    classes = (truth.classes, judged.classes) if len(class_names) > 1 else (None, None)
    errors = classify_errors(truth.labels, judged.labels, 0.5, *classes)
    frame = _Frame(image)
    pred_texts = _tag_texts(prediction.classes, prediction.scores, class_names)
    pred_colors = _prediction_colors(truth.labels, prediction.labels)
    panels = [
        (
            f"ground truth: {_count(truth.classes)}{frame.note}",
            frame.truth(truth, class_names),
        ),
        (
            f"prediction: {_count(prediction.classes)} with score >= {score_threshold:g}",
            frame.overlay(prediction.labels, pred_colors, pred_texts),
        ),
        ("errors (IoU below 0.5)", _errors_overlay(frame, truth, judged.labels, errors)),
    ]
    header = _header(dataset_dict, image) + (f"   {note}" if note else "")
    return drawing.side_by_side(panels, header, _error_legend(errors, truth.ignore, classes[0]))


def plain_prediction_panel(image, instances, name, class_names=(), score_threshold=0.5, min_area=0):
    """Image | prediction, for images without ground truth.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
        instances, class_names, score_threshold, min_area: of :func:`prediction_panel`.
        name (str): for the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    prediction = prediction_of(instances, score_threshold, min_area)
    frame = _Frame(image)
    colors = instance_colors(int(prediction.labels.max(initial=0)))
    texts = _tag_texts(prediction.classes, prediction.scores, class_names)
    panels = [
        ("image" + frame.note, frame.image),
        (
            f"prediction: {_count(prediction.classes)} with score >= {score_threshold:g}",
            frame.overlay(prediction.labels, colors, texts),
        ),
    ]
    return drawing.side_by_side(panels, _header({"file_name": name}, image))


def comparison_panel(dataset_dict, predictions, class_names=()):
    """Ground truth | one prediction after the other; an object keeps its colour throughout.

    Without annotations: image | predictions, the colours those of the first prediction. What the
    first panel with objects does not have keeps its colour from one prediction to the next.

    Args:
        dataset_dict (dict): see :func:`truth_of`; its image is read from ``file_name``, and
            ``annotations``, ``height`` and ``width`` may be missing.
        predictions (list[tuple[str, Prediction]]): titles and predictions at the image's size, at
            least one.
        class_names (sequence[str]): of the data set; shown when there are two or more.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.
    """
    annotated = "annotations" in dataset_dict
    image = _checked_image(dataset_dict) if annotated else load_image(dataset_dict["file_name"])
    frame = _Frame(image)
    maps = [prediction.labels for _, prediction in predictions]
    legend = None
    if annotated:
        truth = truth_of(dataset_dict)
        legend = _ignore_legend(truth.ignore)
        title = f"ground truth: {_count(truth.classes)}{frame.note}"
        panels = [(title, frame.truth(truth, class_names))]
        tables = _color_tables(truth.labels, maps)
    else:
        panels = [("image" + frame.note, frame.image)]
        tables = _color_tables(maps[0], maps)
    for (name, prediction), colors in zip(predictions, tables):
        texts = _tag_texts(prediction.classes, prediction.scores, class_names)
        overlay = frame.overlay(prediction.labels, colors, texts)
        panels.append((f"{name}: {_count(prediction.classes)}", overlay))
    return drawing.side_by_side(panels, _header(dataset_dict, image), legend)


class _Frame:
    """An image at its display size, and how to lay instances over it.

    Args:
        image (ndarray): (H, W, 3) uint8 RGB.
    """

    def __init__(self, image):
        self.scale = drawing.display_scale(*image.shape[:2])
        bright, changed = drawing.brighten(image)
        self.image = drawing.resize_image(bright, self.scale)
        self.note = " (shown brighter than it is)" if changed else ""

    def truth(self, truth, class_names=()):
        """(H', W', 3) with the ground truth, its classes as tags where there are several."""
        colors = instance_colors(int(truth.labels.max(initial=0)))
        texts = _tag_texts(truth.classes, None, class_names)
        return self.overlay(truth.labels, colors, texts, truth.ignore)

    def overlay(self, labels, colors, texts=None, ignore=None, alpha=0.35):
        """(H', W', 3) with instances (H, W) tinted, outlined, and tagged by {id: text}."""
        large = drawing.resize_labels(labels, self.scale)
        image = self.image
        if ignore is not None and ignore.any():
            image = drawing.hatch(image, drawing.resize_labels(ignore, self.scale) > 0)
        thickness = 1 if len(np.unique(labels)) > CROWDED else 2
        result = drawing.overlay_labels(image, large, colors, alpha, thickness)
        return drawing.draw_tags(result, _tags(large, texts or {}, colors))


def _tags(labels, texts, colors):
    """Positions for {id: text}: above the topmost pixel of each instance."""
    tags = []
    for label, text in texts.items():
        rows, columns = np.nonzero(labels == label)
        if len(rows):
            color = tuple(int(c) for c in colors[label])
            tags.append((int(columns[0]), int(rows[0]), text, color))
    return tags


def _tag_texts(classes, scores, class_names):
    """{id: "name 97%"}; nothing when there are too many instances or nothing to say."""
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


def _prediction_colors(gt, pred):
    """Colour table of predicted ids: that of its object, or one that no object has."""
    return _color_tables(gt, [pred])[0]


def _color_tables(reference, maps):
    """Colour tables of several label maps: one colour for one object, wherever it appears.

    Args:
        reference (ndarray): (H, W) int; its ids have their own colours.
        maps (list[ndarray]): (H, W) int each.

    Returns:
        list[ndarray]: (K + 1, 3) uint8 each.
    """
    tables = []
    for labels, shared in zip(maps, _shared_ids(reference, maps)):
        table = instance_colors(int(labels.max(initial=0)))
        for label, number in shared.items():
            table[label] = instance_color(number)
        tables.append(table)
    return tables


def _shared_ids(reference, maps):
    """{id of the map: common id} of each map, after the reference and the maps before it.

    What the reference does not have is looked up among the like of earlier maps, and else gets the
    next free number.
    """
    taken = free = int(reference.max(initial=0))
    strangers, result = [], []
    for labels in maps:
        shared = same_object(reference, labels)
        for earlier, numbers in strangers:
            for label, other in same_object(earlier, labels).items():
                if label not in shared and numbers.get(other, 0) not in {0, *shared.values()}:
                    shared[label] = numbers[other]
        for label in np.unique(labels[labels > 0]).tolist():
            if label not in shared:
                free += 1
                shared[label] = free
        strangers.append((labels, {k: v for k, v in shared.items() if v > taken}))
        result.append(shared)
    return result


def _errors_overlay(frame, truth, pred, errors):
    """Errors in colour on a dim grey image, what is right as a thin outline."""
    grey = frame.image.mean(axis=2, keepdims=True) * 0.6
    canvas = np.repeat(grey, 3, axis=2).astype(np.uint8)
    gt_kinds = {"missed": errors.missed, "split": errors.split, "poor": errors.poor}
    pred_kinds = {
        "matched": [p for _, p in errors.matched],
        "wrong class": [p for _, p in errors.wrong_class],
        "poor": errors.poor_predictions,
        "invented": errors.invented,
        "merged": errors.merged,
    }
    large_gt = drawing.resize_labels(truth.labels, frame.scale)
    large_pred = drawing.resize_labels(pred, frame.scale)
    canvas = _paint_kinds(canvas, large_pred, pred_kinds)
    canvas = _paint_kinds(canvas, large_gt, gt_kinds)
    # The seams: objects within a merged prediction, pieces within a split object.
    for labels, ids in ((large_gt, errors.merged_objects), (large_pred, errors.split_pieces)):
        seams = drawing.boundaries(np.where(np.isin(labels, ids), labels, 0))
        canvas[seams] = (255, 255, 255)
    return canvas


def _paint_kinds(canvas, labels, kinds):
    """Tint and outline each kind's ids; matched ids get an outline only."""
    for kind, ids in kinds.items():
        chosen = np.where(np.isin(labels, ids), labels, 0)
        table = np.tile(np.array(ERROR_COLORS[kind], np.uint8), (int(labels.max(initial=0)) + 1, 1))
        alpha = 0.0 if kind == "matched" else 0.55
        canvas = drawing.overlay_labels(canvas, chosen, table, alpha, 1 if kind == "matched" else 2)
    return canvas


def _error_legend(errors, ignore, classes):
    """Counts per kind, in the colours of the errors panel."""
    texts = {
        "matched": f"found {len(errors.matched)}",
        "missed": f"missed {len(errors.missed)}",
        "invented": f"invented {len(errors.invented)}",
        "merged": _with_detail("merged", errors.merged, "holding", errors.merged_objects),
        "split": _with_detail("split", errors.split, "into", errors.split_pieces),
        "poor": f"poor {len(errors.poor)} objects, {len(errors.poor_predictions)} predictions",
    }
    if classes is not None:
        texts["wrong class"] = f"wrong class {len(errors.wrong_class)}"
    parts = [(text, ERROR_COLORS[kind]) for kind, text in texts.items()]
    return parts + (_ignore_legend(ignore) or [])


def _with_detail(kind, ids, verb, others):
    detail = f" ({verb} {len(others)})" if ids else ""
    return f"{kind} {len(ids)}{detail}"


def _ignore_legend(ignore):
    return [("striped: not counted (crowd or void)", None)] if ignore.any() else None


def _checked_image(dataset_dict):
    image = load_image(dataset_dict["file_name"])
    height, width = image.shape[:2]
    if (height, width) != (dataset_dict["height"], dataset_dict["width"]):
        raise UserError(
            f"{dataset_dict['file_name']} is {width}x{height} pixels, its annotation says "
            f"{dataset_dict['width']}x{dataset_dict['height']}. Correct the data set; "
            "tools/check_dataset.py lists all such images."
        )
    return image


def _header(dataset_dict, image):
    height, width = image.shape[:2]
    return f"{Path(dataset_dict['file_name']).name}   {width} x {height} pixels"


def _count(classes):
    return "1 object" if len(classes) == 1 else f"{len(classes)} objects"
