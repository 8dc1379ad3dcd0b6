"""Pictures of annotations, of augmented training images, and of predictions beside the truth.

Each is composed of panels side by side, after all that it shows has been computed. All take and
return RGB. Shape shorthand in this module:
    H, W: image   H', W': the picture, whatever size its panels need
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.structures import Instances

from ..data.image_facts import require_stated_size
from ..data.images import IGNORE_VALUE
from ..evaluation.image_report import Prediction, Truth, prediction_of, report_image, truth_of
from ..masks import id_maps_from_inputs
from . import drawing
from .colors import color_tables, instance_colors
from .display import DisplayImage
from .errors_overlay import error_legend, errors_overlay
from .false_colors import display_image, load_image, note_of, record_title

IOU_THRESHOLD = 0.5  # from which on a prediction matches an object


def annotation_panel(
    dataset_dict: Mapping[str, Any], class_names: Sequence[str] = ()
) -> np.ndarray:
    """Image | annotations.

    Args:
        dataset_dict: see :func:`truth_of`; its image is read from ``file_name``.
        class_names: of the data set; shown when there are two or more.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    image, truth = _checked_image(dataset_dict), truth_of(dataset_dict)
    display = DisplayImage(image)
    panels = [
        ("image" + display.note, display.pixels),
        (f"annotations: {_count(truth.classes)}", display.with_truth(truth, class_names)),
    ]
    return drawing.side_by_side(
        panels,
        _header(dataset_dict, image),
        _ignore_legend(truth.ignore),
    )


def dataloader_panel(
    mapped: Mapping[str, Any], image_format: str = "BGR", class_names: Sequence[str] = ()
) -> np.ndarray:
    """Image | targets, as the training mapper yields them after augmentation.

    Args:
        mapped: ``image`` (C, H, W), three channels in ``image_format``, ``instances`` with
            ``gt_masks`` and ``gt_classes``, optional ``sem_seg`` (H, W).
        image_format: INPUT.FORMAT.
        class_names: of the data set.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    (image, note), truth = _mapped_image(mapped, image_format), _mapped_truth(mapped)
    name = Path(mapped["file_name"]).name
    header = "   ".join(filter(None, [name, note, _size_in_words(image)]))
    display = DisplayImage(image)
    panels = [
        ("network input" + display.note, display.pixels),
        (f"targets: {_count(truth.classes)}", display.with_truth(truth, class_names)),
    ]
    return drawing.side_by_side(panels, header, _ignore_legend(truth.ignore))


def _mapped_image(mapped, image_format):
    """The picture (H, W, 3) of an image after augmentation, and what was done for it."""
    pixels = mapped["image"].permute(1, 2, 0)
    if pixels.dtype == torch.uint8 and pixels.shape[2] == 3:
        image = detection_utils.convert_image_to_rgb(pixels, image_format)
        return np.ascontiguousarray(image.astype(np.uint8)), ""
    array = pixels.numpy()
    if array.shape[2] == 3 and image_format == "BGR":
        array = array[:, :, ::-1]
    return display_image(array), note_of(array.shape[2], str(array.dtype))


def _mapped_truth(mapped):
    size = tuple(mapped["image"].shape[1:])
    drawn = id_maps_from_inputs([{"instances": mapped["instances"]}], size)
    labels, classes = drawn.instance_ids[0].numpy(), drawn.classes
    ignore = np.zeros(size, dtype=bool)
    if "sem_seg" in mapped:
        ignore = mapped["sem_seg"].numpy() == IGNORE_VALUE
    return Truth(labels, ignore, {i: int(c) for i, c in enumerate(classes[0], start=1)})


def prediction_panel(
    dataset_dict: Mapping[str, Any],
    instances: Instances,
    class_names: Sequence[str] = (),
    *,
    score_threshold: float = 0.5,
    min_area: int = 0,
    note: str = "",
) -> np.ndarray:
    """Ground truth | prediction | errors; an object and the prediction of it share their colour.

    Args:
        dataset_dict: see :func:`truth_of`; its image is read from ``file_name``.
        instances: of the model, at the size of the image.
        class_names: of the data set; with two or more, classes are compared.
        score_threshold, min_area: of ``masks.instances_to_label_map``.
        note: added to the header.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    image, truth = _checked_image(dataset_dict), truth_of(dataset_dict)
    compare_classes = len(class_names) > 1
    report = report_image(
        truth,
        instances,
        score_threshold=score_threshold,
        min_area=min_area,
        iou_threshold=IOU_THRESHOLD,
        compare_classes=compare_classes,
    )
    display = DisplayImage(image)
    (colors,) = color_tables(truth.labels, [report.prediction.labels])
    panels = [
        (
            f"ground truth: {_count(truth.classes)}{display.note}",
            display.with_truth(truth, class_names),
        ),
        (
            f"prediction: {_count(report.prediction.classes)} with score >= {score_threshold:g}",
            display.with_prediction(report.prediction, colors, class_names),
        ),
        (
            f"errors (IoU below {IOU_THRESHOLD:g})",
            errors_overlay(
                display.pixels, truth.labels, report.evaluated.labels, errors=report.errors
            ),
        ),
    ]
    header = _header(dataset_dict, image) + (f"   {note}" if note else "")
    legend = error_legend(report.errors, compare_classes) + _ignore_legend(truth.ignore)
    return drawing.side_by_side(panels, header, legend)


def plain_prediction_panel(
    dataset_dict: Mapping[str, Any],
    instances: Instances,
    class_names: Sequence[str] = (),
    *,
    score_threshold: float = 0.5,
    min_area: int = 0,
) -> np.ndarray:
    """Image | prediction, for images without ground truth.

    Args:
        dataset_dict: ``file_name`` and how it is read.
        instances, class_names, score_threshold, min_area: of :func:`prediction_panel`.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    image = load_image(dataset_dict)
    prediction = prediction_of(instances, score_threshold, min_area)
    display = DisplayImage(image)
    colors = instance_colors(int(prediction.labels.max(initial=0)))
    panels = [
        ("image" + display.note, display.pixels),
        (
            f"prediction: {_count(prediction.classes)} with score >= {score_threshold:g}",
            display.with_prediction(prediction, colors, class_names),
        ),
    ]
    return drawing.side_by_side(panels, _header(dataset_dict, image))


def comparison_panel(
    dataset_dict: Mapping[str, Any],
    predictions: "Sequence[tuple[str, Prediction]]",
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """Ground truth | one prediction after the other; an object keeps its colour throughout.

    Without annotations: image | predictions, the colours those of the first prediction. What the
    first panel with objects does not have keeps its colour from one prediction to the next.

    Args:
        dataset_dict: see :func:`truth_of`; its image is read from ``file_name``, and
            ``annotations``, ``height`` and ``width`` may be missing.
        predictions: titles and predictions at the image's size, at least one.
        class_names: of the data set; shown when there are two or more.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    annotated = "annotations" in dataset_dict
    image = _checked_image(dataset_dict) if annotated else load_image(dataset_dict)
    truth = truth_of(dataset_dict) if annotated else None
    maps = [prediction.labels for _, prediction in predictions]
    tables = color_tables(truth.labels if truth else maps[0], maps)
    display = DisplayImage(image)
    if truth:
        title = f"ground truth: {_count(truth.classes)}{display.note}"
        panels = [(title, display.with_truth(truth, class_names))]
    else:
        panels = [("image" + display.note, display.pixels)]
    for (name, prediction), colors in zip(predictions, tables):
        overlay = display.with_prediction(prediction, colors, class_names)
        panels.append((f"{name}: {_count(prediction.classes)}", overlay))
    legend = _ignore_legend(truth.ignore) if truth else None
    return drawing.side_by_side(panels, _header(dataset_dict, image), legend)


def _ignore_legend(ignore) -> "list[drawing.LegendEntry]":
    return [("striped: not counted (crowd or void)", None)] if ignore.any() else []


def _checked_image(dataset_dict):
    image = load_image(dataset_dict)
    require_stated_size(dataset_dict, image.shape[:2])
    return image


def _header(dataset_dict, image):
    return f"{record_title(dataset_dict)}   {_size_in_words(image)}"


def _size_in_words(image):
    height, width = image.shape[:2]
    return f"{width} x {height} pixels"


def _count(classes):
    return "1 object" if len(classes) == 1 else f"{len(classes)} objects"
