"""Synthetic sets in Detectron2's catalogs, rendered when they are first read.

A set is rendered into a folder of the cache named after its parameters: ``images/00000.png`` (RGB)
and ``annotations.json`` (RLE).
"""

import hashlib
import json
import logging
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

from ..cache import cache_root
from ..encoding import EncodedInstance, encode_label_map
from ..registration import register_source
from .parameters import KINDS, Parameters, resolve_parameters
from .rendering import render

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 2  # part of the cache key: raise it whenever a pixel or the files change
STALE_SECONDS = 86_400  # an unfinished folder of this age belongs to a process that was killed
PARTIAL = "-partial-"  # between the name of a set and a random one while it is rendered


@dataclass(frozen=True)
class SyntheticSource:
    """Name and parameters of one registered set."""

    name: str
    parameters: Parameters


def register_synthetic_dataset(
    name: str,
    kind: str = "shapes",
    *,
    num_images: int = 100,
    image_size: int = 128,
    seed: int = 0,
    **parameters: Any,
) -> None:
    """Register a set of synthetic images; nothing is drawn before the set is read.

    A second call with the same arguments changes nothing.

    Args:
        name: of the data set in Detectron2's catalogs.
        kind: "shapes" (discs, boxes, triangles, stars) or "sticks" (one class).
        num_images: in the set.
        image_size: pixels; images are square.
        seed: 0 to 2**32 - 1. Sets with different seeds never share an image.
        **parameters: other fields of `ShapesParameters` or `SticksParameters`, which state the
            units.

    Raises:
        UserError: a parameter is unknown or out of range, or ``name`` is taken by other data.
    """
    resolved = resolve_parameters(
        kind, num_images=num_images, image_size=image_size, seed=seed, **parameters
    )
    metadata = {"thing_classes": list(KINDS[kind].thing_classes), "evaluator_type": "coco"}
    source = SyntheticSource(name, resolved)
    register_source(source, lambda source: load_synthetic(source.parameters), metadata)


def load_synthetic(parameters: Parameters) -> "list[dict[str, Any]]":
    """The data set dicts of a set, rendered first where the cache lacks it.

    Args:
        parameters: from `resolve_parameters`.

    Returns:
        list[dict]: Detectron2's standard format; masks are RLE, boxes XYXY.
    """
    folder = rendered_folder(parameters)
    records = json.loads((folder / "annotations.json").read_text())
    for record in records:
        record["file_name"] = str(folder / "images" / record["file_name"])
        for annotation in record["annotations"]:
            annotation["bbox_mode"] = BoxMode.XYXY_ABS
    return records


def rendered_folder(parameters: Parameters) -> Path:
    """The folder of a set, rendered first if absent; it takes its name when it is complete."""
    key = json.dumps(
        {"version": GENERATOR_VERSION, **asdict(parameters)}, sort_keys=True, default=int
    )
    folder = cache_root() / "synthetic" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Rendering %d synthetic images (%s).", parameters.num_images, parameters.kind)
    _remove_stale(folder)
    # Not tempfile: what it makes stays closed to other users.
    temporary = folder.with_name(f"{folder.name}{PARTIAL}{uuid.uuid4().hex}")
    try:
        temporary.mkdir()
        _write_set(parameters, temporary)
        temporary.rename(folder)
    except OSError:
        # Another process that rendered the same set was first: its files are the same.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _remove_stale(folder: Path) -> None:
    """Delete what killed renders of the same set have left."""
    for partial in folder.parent.glob(f"{folder.name}{PARTIAL}*"):
        try:
            if time.time() - partial.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(partial)
        except OSError as error:  # of another user, or just being deleted by another process
            logger.info("The unfinished folder %s stays: %s", partial, error)


def _write_set(parameters: Parameters, folder: Path) -> None:
    (folder / "images").mkdir()
    records = []
    for index in range(parameters.num_images):
        image, labels, categories = render(parameters, index)
        record = image_record(index, labels, categories)
        # Noise hardly compresses: the fastest level costs a few per cent of size.
        Image.fromarray(image).save(folder / "images" / record["file_name"], compress_level=1)
        records.append(record)
    (folder / "annotations.json").write_text(json.dumps(records))


def image_record(index: int, labels: np.ndarray, categories: Sequence[int]) -> "dict[str, Any]":
    """The entry of one image in ``annotations.json``.

    Args:
        index: of the image.
        labels: label map (S, S).
        categories: 0-based class of each object.
    """
    height, width = labels.shape
    return {
        "file_name": f"{index:05d}.png",
        "image_id": index,
        "height": height,
        "width": width,
        "annotations": [
            _annotation(encoded, category, labels.shape)
            for encoded, category in zip(encode_label_map(labels), categories)
        ],
    }


def _annotation(
    encoded: EncodedInstance, category: int, size: "tuple[int, ...]"
) -> "dict[str, Any]":
    x, y, width, height = encoded["bbox"]
    return {
        "bbox": [x, y, x + width, y + height],
        "category_id": category,
        "iscrowd": 0,
        "segmentation": {"size": list(size), "counts": encoded["counts"]},
    }
