"""Which images a tool works on: those of a data set, or files and folders that a user names."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from tqdm import tqdm

from ..data.images import image_header
from ..data.registration import get_dataset_dicts
from ..errors import UserError

Record = dict[str, Any]


class ChosenImages(NamedTuple):
    """records: ``file_name`` and ``image_id`` of each image, of a data set with its annotations;
    name: of the data set, or the first of the files; metadata: of the data set, None where it is
    not needed and not readable."""

    records: list[Record]
    name: str
    metadata: Optional[Metadata]

    @property
    def class_names(self) -> tuple[str, ...]:
        """``thing_classes`` of the data set; () where they are not known."""
        return tuple(self.metadata.get("thing_classes", ())) if self.metadata else ()


def choose_images(
    files: Optional[Sequence[str]], dataset: Optional[str], *, limit: Optional[int] = None
) -> ChosenImages:
    """The images that a user names, or those of a data set.

    Args:
        files (list[str] or None): files and folders, of :func:`image_paths`.
        dataset (str or None): without files, the images; with files, it names their classes.
        limit (int or None): the first so many.

    Raises:
        UserError: no such data set, none at all, or a folder without images.
    """
    if files:
        name = f"{files[0]} and others" if len(files) > 1 else files[0]
        return ChosenImages(file_records(files)[:limit], name, readable_metadata(dataset))
    if dataset is None:
        raise UserError("The config names no data set. Give --dataset NAME or DATASETS.TEST.")
    records = get_dataset_dicts(dataset)[:limit]
    return ChosenImages(records, dataset, MetadataCatalog.get(dataset))


def file_records(paths: Sequence[str]) -> list[Record]:
    """Image files as the dicts of a data set without annotations.

    Args:
        paths (list[str]): files and folders, of :func:`image_paths`.

    Returns:
        list[dict]: ``file_name``; ``image_id``: the file's name, and its path where names do not
        tell the files apart.

    Raises:
        UserError: a folder without images.
    """
    files = image_paths(paths)
    names = Counter(path.name for path in files)
    return [
        {"file_name": str(p), "image_id": p.name if names[p.name] == 1 else str(p)} for p in files
    ]


def image_paths(paths: Sequence[str]) -> list[Path]:
    """The files among some paths as they are, and the images of the folders among them.

    Args:
        paths (list[str]): files and folders.

    Returns:
        list[Path]: of each folder the images directly in it, by name.

    Raises:
        UserError: a folder without images.
    """
    files = []
    for path in map(Path, paths):
        files += _images_in(path) if path.is_dir() else [path]
    return files


def _images_in(folder: Path) -> list[Path]:
    """The images of one folder; how many other files it has is printed."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(f"The folder {folder} of --images cannot be read: {error}.") from error
    images = [path for path in files if _is_image(path)]
    others = [path.name for path in files if path not in images]
    if not images:
        raise UserError(
            f"The folder {folder} of --images has no image that can be read (other files: "
            f"{len(others)}); give a folder that has images directly in it."
        )
    if others:
        count = f"files that are no images, left out: {len(others)}, such as {others[0]}"
        print(f"{folder}: {count}", file=sys.stderr)
    return images


def _is_image(path: Path) -> bool:
    """Whether the header of a file is that of an image."""
    try:
        image_header(path)
    except UserError:
        return False
    return True


def readable_metadata(name: Optional[str]) -> Optional[Metadata]:
    """Metadata of a data set, to name classes; None if it is not registered or has lost its files.

    Args:
        name (str or None)
    """
    if name not in DatasetCatalog.list():
        return None
    metadata = MetadataCatalog.get(name)
    try:
        metadata.get("thing_classes", ())  # some sets read them from a file
    except UserError as error:
        print(f"Going on without names of classes: {error}", file=sys.stderr)
        return None
    return metadata


class Classes(NamedTuple):
    """names: by class, () where the data set is not known here; category_ids: by class, if the data
    set is one of COCO's form."""

    names: "tuple[str, ...]" = ()
    category_ids: "tuple[int, ...]" = ()


def classes_of(cfg: CfgNode) -> Classes:
    """Those of the first data set that a config names."""
    named = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    metadata = readable_metadata(named[0]) if named else None
    if metadata is None:
        return Classes()
    ids = metadata.get("thing_dataset_id_to_contiguous_id", {})
    return Classes(
        tuple(metadata.get("thing_classes", ())), tuple(sorted(ids, key=ids.__getitem__))
    )


def progress(items: Iterable, what: str = "images", *, unit: str = "image") -> Iterable:
    """The items, with a bar on stderr if that is a terminal and TQDM_DISABLE is not set."""
    # Saying disable=False would overrule TQDM_DISABLE.
    off = {} if sys.stderr.isatty() else {"disable": True}
    return tqdm(items, desc=what, unit=unit, **off)
