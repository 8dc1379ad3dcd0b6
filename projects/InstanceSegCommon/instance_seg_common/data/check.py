"""Reads a registered data set from its raw files and reports everything that is wrong with it."""

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import UserError
from .check_coco import check_coco, check_masks
from .check_label_map import check_image, check_label_maps
from .check_report import Report
from .coco import CocoSource
from .label_map import LabelMapSource
from .registration import source_of


def check_dataset(name):
    """Check a data set to its end; a broken file does not stop the check.

    Args:
        name (str): a registered data set.

    Returns:
        Report: ``ok``, ``errors``, ``notices``, counts, ``text()``.

    Raises:
        UserError: there is no data set of this name.
    """
    source, report = source_of(name), Report(name)
    if isinstance(source, LabelMapSource):
        check_label_maps(source, report)
    elif isinstance(source, CocoSource):
        check_coco(source, report)
    else:
        check_dicts(name, report)
    return report


def check_dicts(name, report):
    """Check a data set that only its standard dicts are known of."""
    try:
        records = DatasetCatalog.get(name)
    except UserError as error:
        report.error("not loadable", name, str(error))
        return
    classes = MetadataCatalog.get(name).get("thing_classes", [])
    for record in records:
        size = record["height"], record["width"]
        check_image(record["file_name"], report, size)
        entries = []
        for number, annotation in enumerate(record.get("annotations", [])):
            category = annotation["category_id"]
            known = 0 <= category < len(classes)
            entry = {
                "id": number,
                "bbox": BoxMode.convert(
                    list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS
                ),
                "segmentation": annotation.get("segmentation"),
                "iscrowd": annotation.get("iscrowd", 0),
                "class": classes[category] if known else None,
                "category_id": category,
            }
            entries.append(entry)
        check_masks(report, record["file_name"], size, entries)
