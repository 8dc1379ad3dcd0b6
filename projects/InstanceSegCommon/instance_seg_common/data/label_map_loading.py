"""Data sets of label maps as Detectron2's standard dicts.

Annotations are run-length encodings of the whole image, cached by the content of the files they
come from. size = (height, width) of an image in pixels.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from detectron2.structures import BoxMode

from ..errors import UserError
from .annotation_cache import cached_instances
from .encoding import EncodedInstance
from .image_facts import log_rules, size_sentence
from .image_header import ImageHeader
from .images import cached_ignore_map, check_ignore_map, image_header
from .label_advice import folder_problem, missing_folder_sentence, pairing_advice
from .label_files import SetFiles, one_file
from .label_images import check_foreground
from .label_map_source import LabelMapSource
from .label_objects import FILES
from .label_suspicion import suspicion
from .planes import planes_of
from .reading import PLAIN, READING
from .registration import check_hint, first_few

logger = logging.getLogger(__name__)


class _Loaded(NamedTuple):
    """record: Detectron2's standard dict of an image; instances: all that its label has."""

    record: dict[str, Any]
    header: ImageHeader
    instances: list[EncodedInstance]


FEW = 3  # images without a label that are named one by one


def load_label_maps(source: LabelMapSource) -> "list[dict[str, Any]]":
    """Detectron2's standard dicts of a data set of label maps.

    Returns:
        list[dict]: file_name, height, width, image_id (the stem), annotations,
        sem_seg_file_name where there is a file in ``ignore_dir`` or an id that is ignored, and
        foreground_file_name where the source has a ``foreground_dir``; sorted by stem.

    Raises:
        UserError: names the first files that cannot be used.
    """
    for key, folder in source.folders.paths():
        if not folder.is_dir():
            raise UserError(missing_folder_sentence(source, key, folder))
    files = source.files()
    problem = folder_problem(source, files)
    if problem:
        raise UserError(problem)
    _require_labels(source, files)
    loaded, problems = [], []
    for stem in files.images:
        try:
            loaded += _load_image(source, stem, files)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(
            f"Data set {source.name!r} cannot be used: {first_few(problems)} {check_hint(source)}"
        )
    encoded = [one.instances for one in loaded]
    doubt = suspicion(source.name, encoded) if source.may_be_no_ids else None
    if doubt:
        raise UserError(doubt)
    _warn_of_unused(source, files)
    log_rules(source.name, [(one.record["file_name"], one.header) for one in loaded])
    dicts = [one.record for one in loaded]
    limit = source.max_instances
    return dicts if limit is None else [d for d in dicts if len(d["annotations"]) <= limit]


def _require_labels(source: LabelMapSource, files: SetFiles) -> None:
    """Raise a sentence at once, before anything is decoded, if many labels are absent, or if it is
    known why some are."""
    missing = [stem for stem in files.images if stem not in files.labels]
    if not missing:
        return
    advice = pairing_advice(source, files)
    if advice or len(missing) > FEW:
        raise UserError(
            f"Data set {source.name!r} is incomplete: {len(missing)} of the {len(files.images)} "
            f"images in {source.folders.image_dir} have no label in {source.folders.label_dir}; "
            f"the first is for {missing[0]!r}. "
            f"{advice or 'Add them; the label of an image without objects is 0 everywhere.'} "
            f"{check_hint(source)}"
        )


def _warn_of_unused(source: LabelMapSource, files: SetFiles) -> None:
    unused = sorted(set(files.labels) - set(files.images))
    if unused:
        logger.warning(
            f"Data set {source.name!r}: {len(unused)} of the labels in "
            f"{source.folders.label_dir.path} have no image (first: {unused[0]})."
        )


def _load_image(source: LabelMapSource, stem: str, files: SetFiles) -> "Iterator[_Loaded]":
    """What is read of one image, or of each plane of its file."""
    image_path, label_paths, class_path = _paths_of(source, stem, files)
    for plane in planes_of(image_path, label_paths[0], source.reading):
        reading = replace(source.reading, plane=plane.of_image)
        header = image_header(image_path, reading)
        size, records = cached_instances(label_paths, class_path, source.rule, plane=plane.of_label)
        if header.size != size:
            raise UserError(
                size_sentence(image_path, reading, size=header.size, stated=size, by="its label")
            )
        try:
            annotations = _annotations(source, records, size)
        except UserError as error:
            raise UserError(f"In label {label_paths[0]}, {error}.") from error
        loaded = {
            "file_name": str(image_path),
            "height": size[0],
            "width": size[1],
            "image_id": stem + plane.suffix,
            "annotations": annotations,
            **_further_files(source, stem, files, records=records, size=size),
        }
        if reading != PLAIN:
            loaded[READING] = reading
        yield _Loaded(loaded, header, records)


def _further_files(
    source: LabelMapSource,
    stem: str,
    files: SetFiles,
    *,
    records: "list[EncodedInstance]",
    size: "tuple[int, int]",
) -> "dict[str, str]":
    """The keys of the standard dict for the map of ignored regions and the foreground."""
    keys = {}
    ignored = _ignore_map(source, stem, files, records=records, size=size)
    if ignored is not None:
        keys["sem_seg_file_name"] = str(ignored)
    if source.folders.foreground_dir is not None:
        folder = source.folders.foreground_dir.path
        path = one_file(stem, files.foregrounds, folder=folder, what="foreground")
        check_foreground(path, size)
        keys["foreground_file_name"] = str(path)
    return keys


def _paths_of(
    source: LabelMapSource, stem: str, files: SetFiles
) -> "tuple[Path, list[Path], Optional[Path]]":
    """The files of an image: the image, its labels, its class image where the set has these."""
    folders = source.folders
    if not files.images[stem]:
        raise UserError(
            f"{folders.image_dir.path} has no image {stem!r}, which the set's list names; unpack "
            "the whole archive again."
        )
    image = one_file(stem, files.images, folder=folders.image_dir.path, what="image")
    labels = files.labels.get(stem, [])
    if source.instances != FILES or not labels:
        labels = [one_file(stem, files.labels, folder=folders.label_dir.path, what="label")]
    if folders.class_dir is None:
        return image, labels, None
    classes = one_file(stem, files.classes, folder=folders.class_dir.path, what="class image")
    return image, labels, classes


def _annotations(
    source: LabelMapSource, records: "list[EncodedInstance]", size: "tuple[int, int]"
) -> "list[dict[str, Any]]":
    """Detectron2's annotations of the records that are instances of the set."""
    annotations = []
    for record in records:
        index = source.class_index(record)
        if index is not None:
            annotations.append(
                {
                    "bbox": record["bbox"],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": index,
                    "iscrowd": 0,
                    "segmentation": {"size": list(size), "counts": record["counts"]},
                }
            )
    return annotations


def _ignore_map(
    source: LabelMapSource,
    stem: str,
    files: SetFiles,
    *,
    records: "list[EncodedInstance]",
    size: "tuple[int, int]",
) -> Optional[Path]:
    """The map of ignored regions of an image: its file, else drawn from its ids; None if none."""
    if source.folders.ignore_dir is not None and stem in files.ignored:
        folder = source.folders.ignore_dir.path
        path = one_file(stem, files.ignored, folder=folder, what="ignore map")
        check_ignore_map(path, size)
        return path
    regions = [
        {"size": list(size), "counts": record["counts"]}
        for record in records
        if source.ignores(record["id"])
    ]
    return cached_ignore_map(regions, size) if regions else None
