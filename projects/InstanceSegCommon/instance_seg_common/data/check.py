"""Reads a registered data set from its raw files and reports everything that is wrong with it."""

from numbers import Integral
from typing import Any, Optional

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import UserError
from .check_cityscapes import check_stereo
from .check_coco import check_coco, check_masks
from .check_image import check_image
from .check_label_map import check_label_maps
from .check_report import Report, listed
from .cityscapes import CityscapesSource
from .coco import CocoSource
from .label_map_source import LabelMapSource
from .reading import reading_of
from .registration import get_dataset_dicts, source_of
from .segmentations import quoted
from .voc import JoinedSource


def check_dataset(name: str) -> Report:
    """Check a data set to its end; a broken file does not stop the check.

    Args:
        name: of a registered data set.

    Raises:
        UserError: there is no data set of this name.
    """
    source, report = source_of(name), Report(name)
    if isinstance(source, LabelMapSource):
        check_label_maps(source, report)
        if isinstance(source, CityscapesSource):
            check_stereo(source, report)
    elif isinstance(source, JoinedSource):
        for part in source.parts:
            check_label_maps(part, report)
    elif isinstance(source, CocoSource):
        check_coco(source, report)
    else:
        check_dicts(name, report)
    return report


def check_dicts(name: str, report: Report) -> None:
    """Check a data set of other code, of which only the standard dicts are known."""
    try:
        records = get_dataset_dicts(name)
    except UserError as error:
        report.error("not loadable", name, str(error))
        return
    classes = MetadataCatalog.get(name).get("thing_classes", [])
    for record in records:
        absent = [key for key in ("file_name", "height", "width") if key not in record]
        if absent:
            sentence = f"A record of {name!r} lacks {listed(absent)}: {quoted(record)}."
            report.error("entry incomplete", record.get("file_name", name), sentence)
            continue
        size = record["height"], record["width"]
        check_image(record["file_name"], report, size, reading=reading_of(record))
        annotations = enumerate(record.get("annotations", []))
        entries = [_entry(number, annotation, classes) for number, annotation in annotations]
        check_masks(entries, path=record["file_name"], size=size, report=report)


def _entry(number: int, annotation: "dict[str, Any]", classes: "list[str]") -> "dict[str, Any]":
    """A standard annotation as :func:`check_masks` takes it; what is absent stays so."""
    category, box = annotation.get("category_id"), annotation.get("bbox")
    if box is not None and len(box) == 4:
        mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
        box = BoxMode.convert([float(value) for value in box], mode, BoxMode.XYWH_ABS)
    return {
        "id": number,
        "bbox": box,
        "segmentation": annotation.get("segmentation"),
        "iscrowd": annotation.get("iscrowd", 0),
        "class": _class_name(category, classes),
        "category_id": category,
    }


def _class_name(category: Any, classes: "list[str]") -> Optional[str]:
    known = isinstance(category, Integral) and category in range(len(classes))
    return classes[int(category)] if known else None
