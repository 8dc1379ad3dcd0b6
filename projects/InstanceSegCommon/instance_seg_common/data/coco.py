"""Data sets in COCO's JSON format, read by Detectron2's own loader; its errors become sentences."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Union

from detectron2.data.catalog import Metadata
from detectron2.data.datasets.coco import load_coco_json

from ..errors import UserError
from .image_facts import log_rules
from .images import cached_ignore_map, image_header
from .reading import PLAIN, READING, Reading, taken_reading
from .registration import (
    CONTENT_ERRORS,
    first_few,
    missing_sentence,
    register_source,
    require_folder,
)
from .segmentations import rle_problem

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
PARTS = ("images", "annotations", "categories")
_FROM_FILE = ("thing_classes", "thing_dataset_id_to_contiguous_id")


@dataclass(frozen=True)
class CocoSource:
    """Parameters of one COCO data set, see :func:`register_coco_dataset`."""

    name: str
    json_file: Path
    image_root: Path
    reading: Reading = PLAIN
    hint: str = field(default="", compare=False)


class ReadingOptions(TypedDict, total=False):
    """Options of :func:`register_coco_dataset`, described there."""

    planes: str
    channels: Sequence[int]
    exif: str


class CocoMetadata(Metadata):
    """Metadata whose classes are read from the JSON when they are first asked for.

    Stock registration knows the classes only after the data set was loaded, which is too late for
    a check of the number of classes and for naming the predictions on other images.
    """

    def __getattr__(self, key: str) -> Any:
        if key not in _FROM_FILE or "source" not in self.__dict__:
            return super().__getattr__(key)
        categories = sorted(read_coco_json(self.source)["categories"], key=lambda c: c["id"])
        # The same two values that Detectron2's loader sets, so that both may run in either order.
        self.__dict__["thing_classes"] = [category["name"] for category in categories]
        self.__dict__["thing_dataset_id_to_contiguous_id"] = {
            category["id"]: index for index, category in enumerate(categories)
        }
        return self.__dict__[key]

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _FROM_FILE and key not in self.__dict__:
            self.__dict__[key] = value  # the base class would ask for the old one: a second reading
        else:
            super().__setattr__(key, value)


def register_coco_dataset(
    name: str,
    json_file: Union[str, Path],
    image_root: Union[str, Path],
    **options: "Unpack[ReadingOptions]",
) -> None:
    """Register a COCO JSON and its folder of images; nothing is read yet.

    Does what ``register_coco_instances`` does, and further: the classes are in the metadata before
    the set is loaded, a second equal registration is allowed, errors are sentences.

    Args:
        name: in ``DatasetCatalog``.
        json_file: with ``images``, ``annotations`` and ``categories``.
        image_root: folder that the ``file_name`` s are relative to.
        **options: ``planes`` ("error", "first"), ``channels`` (numbers from 0) and ``exif``
            ("apply", "ignore"): how images are read, see :class:`~.reading.Reading`.

    Raises:
        UserError: the name is taken by other parameters. Files are read when the set is first
            used, and what is wrong with them is raised then.
    """
    register_coco_source(
        make_source(name=name, json_file=json_file, image_root=image_root, **options)
    )


def make_source(
    *,
    name: str,
    json_file: Union[str, Path],
    image_root: Union[str, Path],
    hint: str = "",
    **options: "Unpack[ReadingOptions]",
) -> CocoSource:
    """A :class:`CocoSource` with absolute paths; arguments as of :func:`register_coco_dataset`."""
    reading = taken_reading(dict(options))
    if reading.planes == "each":
        raise UserError(
            f"Data set {name!r}: planes: each is not possible with COCO annotations, which belong "
            "to one image; write the planes as files of their own, or use planes: first."
        )
    json_path, image_path = (Path(p).expanduser().resolve() for p in (json_file, image_root))
    return CocoSource(name, json_path, image_path, reading=reading, hint=hint)


def register_coco_source(source: CocoSource, *, replace: bool = False) -> None:
    """Register a :class:`CocoSource`; ``replace`` as in ``registration.register_source``."""
    metadata = CocoMetadata(
        name=source.name,
        json_file=str(source.json_file),
        image_root=str(source.image_root),
        evaluator_type="coco",
    )
    register_source(source, load_coco, metadata, replace=replace)


def read_coco_json(source: CocoSource) -> "dict[str, Any]":
    """The content of a COCO JSON.

    Returns:
        dict: ``images``, ``annotations`` and ``categories`` are lists of dicts; each category has
        an ``id`` and a ``name``.

    Raises:
        UserError: missing, cut off, or not of this format.
    """
    path = source.json_file
    if not path.is_file():
        raise UserError(missing_sentence(source, "json_file", path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); it may be cut off: fetch or write it again."
        ) from error
    _require_coco(path, content)
    return content


def _require_coco(path: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is not a COCO file: it holds a {type(content).__name__}, not an object with "
            f"the lists {', '.join(PARTS)}."
        )
    for part in PARTS:
        if not _is_list_of_objects(content.get(part)):
            raise UserError(
                f"{path} is not a COCO file with annotations: it has no list of objects under "
                f"{part!r}. Its keys are: {', '.join(sorted(content)) or 'none'}."
            )
    if not content["categories"] or not all(map(_is_category, content["categories"])):
        raise UserError(
            f"{path}: 'categories' must list at least one object with 'id', a whole number, and "
            "'name', a text."
        )


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_category(entry: "dict[str, Any]") -> bool:
    return isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)


def load_coco(source: CocoSource) -> "list[dict[str, Any]]":
    """Detectron2's standard dicts, from Detectron2's loader.

    Returns:
        list[dict]: as ``load_coco_json`` returns them; where an image has crowd regions, also
        ``sem_seg_file_name``: an 8 bit image in the cache, 255 = crowd.

    Raises:
        UserError: a file is missing, or the JSON is not as it should be.
    """
    require_folder(source, "image_root", source.image_root)
    try:
        dicts = load_coco_json(str(source.json_file), str(source.image_root), source.name)
    except (OSError, *CONTENT_ERRORS) as error:
        read_coco_json(source)  # says it in a sentence if the file as a whole is at fault
        raise _unusable(source, error) from error
    _check_images(source, dicts)
    if source.reading != PLAIN:
        for record in dicts:
            record[READING] = source.reading
    _drop_maskless(source, dicts)
    _check_encodings(source, dicts)
    try:
        _hand_on_crowds(dicts)
    except CONTENT_ERRORS as error:
        raise _unusable(source, error) from error
    return dicts


def _unusable(source: CocoSource, error: Exception) -> UserError:
    return UserError(
        f"Data set {source.name!r}: {source.json_file} cannot be used "
        f"({type(error).__name__}: {error}). {_check_hint(source)}"
    )


def _check_images(source: CocoSource, dicts: "list[dict[str, Any]]") -> None:
    missing = [d["file_name"] for d in dicts if not Path(d["file_name"]).is_file()]
    if missing:
        raise UserError(
            f"Data set {source.name!r}: {len(missing)} of the images in {source.json_file} do not "
            f"exist: {first_few(missing)}. {_check_hint(source)}"
        )
    # A JPEG has 8 bits and one plane: the many files of COCO itself need not be opened here.
    others = [
        record["file_name"]
        for record in dicts
        if source.reading.channels or Path(record["file_name"]).suffix.lower() not in JPEG_SUFFIXES
    ]
    log_rules(source.name, [(path, image_header(path, source.reading)) for path in others])


def _check_encodings(source: CocoSource, dicts: "list[dict[str, Any]]") -> None:
    for record in dicts:
        size = record["height"], record["width"]
        masks = [annotation["segmentation"] for annotation in record["annotations"]]
        for mask in masks:
            problem = rle_problem(mask, size) if isinstance(mask, dict) else None
            if problem:
                raise UserError(
                    f"Data set {source.name!r}: an annotation of {record['file_name']} in "
                    f"{source.json_file} {problem.predicate}. {_check_hint(source)}"
                )


def _drop_maskless(source: CocoSource, dicts: "list[dict[str, Any]]") -> None:
    """Leave out annotations that Detectron2's loader keeps although they have no mask."""
    lost = []
    for record in dicts:
        kept = [a for a in record["annotations"] if "segmentation" in a]
        lost += [record["file_name"]] * (len(record["annotations"]) - len(kept))
        record["annotations"] = kept
    if lost:
        logger.warning(
            f"Data set {source.name!r}: {len(lost)} annotations in {source.json_file} are without "
            f"a mask and left out (first: image {lost[0]}). {_check_hint(source)}"
        )


def _hand_on_crowds(dicts: "list[dict[str, Any]]") -> None:
    """Write the crowds of an image as its region to ignore: the stock mapper drops crowds."""
    for record in dicts:
        crowds = [a for a in record["annotations"] if a.get("iscrowd", 0) and "segmentation" in a]
        if crowds:
            size = record["height"], record["width"]
            record["sem_seg_file_name"] = str(
                cached_ignore_map([a["segmentation"] for a in crowds], size)
            )


def _check_hint(source: CocoSource) -> str:
    return f"`python tools/check_dataset.py {source.name}` lists everything."
