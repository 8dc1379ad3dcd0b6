"""Data sets in COCO's JSON format, registered and loaded; ``coco_content`` reads the file."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode
from detectron2.utils.logger import log_first_n

from ..errors import UserError
from .coco_annotations import OBJECTS, CocoAnnotation
from .coco_categories import Categories
from .coco_content import CocoContent, CocoImage, read_classes, read_coco
from .image_facts import log_rules, require_stated_size
from .image_header import ImageHeader
from .images import cached_ignore_map, image_header
from .loose_values import Id
from .reading import PLAIN, READING, Reading, ReadingOptions, taken_reading
from .registration import (
    check_hint,
    first_few,
    missing_sentence,
    register_source,
    require_folder,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
CROWDS = ("", OBJECTS, "ignore")
_FROM_FILE = ("thing_classes", "thing_dataset_id_to_contiguous_id")


@dataclass(frozen=True)
class CocoSource:
    """Parameters of one COCO data set, see :func:`register_coco_dataset`."""

    name: str
    json_file: Path
    image_root: Path
    crowds: str = ""
    reading: Reading = PLAIN
    hint: str = field(default="", compare=False)
    check_command: str = field(default="", compare=False)


class CocoMetadata(Metadata):
    """Metadata whose classes are read from the JSON when they are first asked for.

    Stock registration knows the classes only after the data set was loaded, which is too late for
    a check of the number of classes and for naming the predictions on other images.
    """

    def __getattr__(self, key: str) -> Any:
        if key not in _FROM_FILE or "source" not in self.__dict__:
            return super().__getattr__(key)
        require_json(self.source)
        self.take(read_classes(self.source.json_file))
        return self.__dict__[key]

    def take(self, categories: Categories) -> None:
        """Keep the classes of a file that has been read."""
        self.__dict__["thing_classes"] = list(categories.names.values())
        self.__dict__["thing_dataset_id_to_contiguous_id"] = categories.numbers


def register_coco_dataset(
    name: str,
    json_file: Union[str, Path],
    image_root: Union[str, Path],
    *,
    crowds: str = "",
    **options: "Unpack[ReadingOptions]",
) -> None:
    """Register a COCO JSON and its folder of images; nothing is read yet.

    Args:
        name: in ``DatasetCatalog``.
        json_file: with ``images``, ``annotations`` and ``categories``.
        image_root: folder that the ``file_name`` s are relative to.
        crowds: "objects" reads annotations with ``iscrowd: 1`` as objects, "ignore" as regions to
            ignore; "" as well, but a set in which all annotations are crowds is then an error.
        **options: ``planes`` ("error", "first"), ``channels`` (numbers from 0) and ``exif``
            ("apply", "ignore"): how images are read, see :class:`~.reading.Reading`.

    Raises:
        UserError: the name is taken by other parameters, or ``crowds`` is none of these. Files are
            read when the set is first used, and what is wrong with them is raised then.
    """
    register_coco_source(
        make_source(name=name, json_file=json_file, image_root=image_root, crowds=crowds, **options)
    )


def make_source(
    *,
    name: str,
    json_file: Union[str, Path],
    image_root: Union[str, Path],
    crowds: str = "",
    hint: str = "",
    check_command: str = "",
    **options: "Unpack[ReadingOptions]",
) -> CocoSource:
    """A :class:`CocoSource` with absolute paths; arguments as of :func:`register_coco_dataset`."""
    reading = taken_reading(dict(options))
    if reading.planes == "each":
        raise UserError(
            f"Data set {name!r}: planes: each is not possible with COCO annotations, which belong "
            "to one image; write the planes as files of their own, or use planes: first."
        )
    if crowds not in CROWDS:
        raise UserError(f"Data set {name!r}: crowds is {crowds!r}; give 'objects' or 'ignore'.")
    json_path, image_path = (Path(p).expanduser().resolve() for p in (json_file, image_root))
    return CocoSource(
        name,
        json_path,
        image_path,
        crowds=crowds,
        reading=reading,
        hint=hint,
        check_command=check_command,
    )


def register_coco_source(source: CocoSource, *, replace: bool = False) -> None:
    """Register a :class:`CocoSource`; ``replace`` as in ``registration.register_source``."""
    metadata = CocoMetadata(
        name=source.name,
        json_file=str(source.json_file),
        image_root=str(source.image_root),
        evaluator_type="coco",
    )
    register_source(source, load_coco, metadata, replace=replace)


def require_json(source: CocoSource) -> None:
    """Raise a sentence unless the JSON is a file."""
    if not source.json_file.is_file():
        raise UserError(missing_sentence(source, "json_file", source.json_file))


def usable_content(source: CocoSource) -> CocoContent:
    """The content of a data set's file, with what was read in another way said once.

    Raises:
        UserError: the file is missing, or something in it has no meaning or several.
    """
    require_json(source)
    content = read_coco(source.json_file, source.image_root, crowds=source.crowds)
    findings = content.findings
    if findings.errors:
        sentences = [finding.sentence for finding in findings.errors]
        raise UserError(
            f"Data set {source.name!r} cannot be used: {first_few(sentences)} {check_hint(source)}"
        )
    for finding in findings.notices:
        _say(source, finding.sentence, logging.INFO)
    if findings.left_out:
        sentences = [finding.sentence for finding in findings.left_out]
        text = f"{len(sentences)} annotations are without a mask or an image and left out: "
        _say(source, f"{text}{first_few(sentences)} {check_hint(source)}", logging.WARNING)
    return content


def _say(source: CocoSource, sentence: str, level: int) -> None:
    message = f"Data set {source.name!r}: {sentence}"
    log_first_n(level, message, name=__name__, key="message")


def load_coco(source: CocoSource) -> "list[dict[str, Any]]":
    """Detectron2's standard dicts, as its own loader makes them of a faultless file.

    Returns:
        list[dict]: file_name, height, width, image_id and annotations, by rising id; where an image
        has crowd regions, also ``sem_seg_file_name``: an 8 bit image in the cache, 255 = crowd.

    Raises:
        UserError: a file is missing, or the JSON is not as it should be.
    """
    require_folder(source, "image_root", source.image_root)
    content = usable_content(source)
    metadata = MetadataCatalog.get(source.name)
    if isinstance(metadata, CocoMetadata):
        metadata.take(content.categories)
    headers = [_header_if_needed(image, source.reading) for image in content.images]
    log_rules(source.name, [(path, header) for path, header in headers if header is not None])
    numbers = content.categories.numbers
    return [_record(image, numbers, source.reading) for image in content.images]


def _header_if_needed(image: CocoImage, reading: Reading) -> "tuple[str, Optional[ImageHeader]]":
    path = _path_of(image)
    # A JPEG has 8 bits and one plane: the many files of COCO itself need not be opened here.
    if path.suffix.lower() in JPEG_SUFFIXES and not reading.channels:
        return str(path), None
    return str(path), image_header(path, reading)


def _path_of(image: CocoImage) -> Path:
    return image.path or Path(image.file_name)


def _record(image: CocoImage, numbers: "dict[Id, int]", reading: Reading) -> "dict[str, Any]":
    path = _path_of(image)
    record: dict[str, Any] = {
        "file_name": str(path),
        "height": image.size[0],
        "width": image.size[1],
        "image_id": image.id,
        "annotations": [_standard(entry, numbers) for entry in image.annotations],
    }
    if reading != PLAIN:
        record[READING] = reading
    crowds = [entry["segmentation"] for entry in image.annotations if entry["iscrowd"]]
    if crowds:  # the stock mapper drops crowds; a map of them is drawn for the right size only
        require_stated_size(record, image_header(path, reading).size)
        record["sem_seg_file_name"] = str(cached_ignore_map(crowds, image.size))
    return record


def _standard(entry: CocoAnnotation, numbers: "dict[Id, int]") -> "dict[str, Any]":
    """An annotation in Detectron2's format."""
    keys = ("iscrowd", "bbox", "segmentation", "keypoints")
    annotation = {key: value for key, value in entry.items() if key in keys}
    category = numbers[entry["category_id"]]
    return {**annotation, "category_id": category, "bbox_mode": BoxMode.XYWH_ABS}
