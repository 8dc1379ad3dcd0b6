"""The text of a COCO file, and sentences for files that are something else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from ..errors import UserError

PARTS = ("images", "annotations", "categories")
COMPRESSED = (b"PK\x03\x04", b"\x1f\x8b")  # how zip and gzip files begin
LABELME, GEOJSON = "Labelme file of one image", "GeoJSON file, as QuPath exports it"


def read_coco_file(path: Path) -> "dict[str, Any]":
    """The content of a COCO file.

    Args:
        path: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Returns:
        dict: ``images``, ``annotations`` and ``categories`` are lists of dicts, of any content.

    Raises:
        UserError: cut off, no JSON, or a file of another kind, which is named.
    """
    content = _parse(path)
    kind = _other_kind(content)
    if kind:
        raise UserError(f"{path} is no COCO file of instances: {kind}")
    for part in PARTS:
        entries = content.get(part)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            keys = ", ".join(sorted(content)) or "none"
            raise UserError(
                f"{path} is not a COCO file with annotations: it has no list of objects under "
                f"{part!r}. Its keys are: {keys}."
            )
    return content


def _parse(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    if data.startswith(COMPRESSED):
        raise UserError(f"{path} is a compressed archive; unpack it and name the JSON inside.")
    if not data.strip():
        raise UserError(f"{path} is empty; export it again.")
    try:
        return json.loads(data)  # finds out UTF-8, -16 or -32, and passes over a byte order mark
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start} is not); save it as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        cut = not error.doc[error.pos :].strip() or "Unterminated string" in error.msg
        what = "it is cut off: fetch or write it again" if cut else "correct it there"
        raise UserError(f"{path} is not valid JSON ({error}); {what}.") from error
    except RecursionError as error:
        raise UserError(
            f"{path} has lists within lists to a depth that no COCO file has; export it again."
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path} is not valid JSON ({error}).") from error


def _other_kind(content: Any) -> Optional[str]:
    """What a file is that is no COCO file of instances, and what to do; None if it may be one."""
    if isinstance(content, list):
        return _kind_of_list(content)
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}, not an object with {', '.join(PARTS)}."
    for is_kind, sentence in _KINDS:
        if is_kind(content):
            return sentence
    return None


def _kind_of_list(content: "list[Any]") -> str:
    first = content[0] if content and isinstance(content[0], dict) else {}
    if "image_id" in first and "category_id" in first:
        return (
            "it holds a list of annotations without images and categories, as a file of results "
            "does. Give the file of the ground truth."
        )
    if "data" in first:
        return (
            "it holds a list of tasks, as Label Studio's own JSON does. Export it there in the "
            "format COCO."
        )
    if first.get("type") == "Feature":
        return f"it holds a {GEOJSON}. {_CONVERT}"
    return f"it holds a list, not an object with {', '.join(PARTS)}."


_CONVERT = "Convert it to COCO; datasets/README.md says how."


def _first(content: "dict[str, Any]", part: str) -> "dict[str, Any]":
    """The first object of a list; an empty one if there is none."""
    entries = content.get(part)
    first = entries[0] if isinstance(entries, list) and entries else None
    return first if isinstance(first, dict) else {}


def _any_mask(content: "dict[str, Any]") -> bool:
    annotations = content.get("annotations")
    return isinstance(annotations, list) and any(
        isinstance(entry, dict) and entry.get("segmentation") for entry in annotations
    )


def _holds(key: str, part: str = "annotations") -> "Callable[[dict[str, Any]], bool]":
    """Whether the first annotation has a key, and none has a mask."""
    return lambda content: bool(key in _first(content, part) and not _any_mask(content))


# What tells a kind of file, and the sentence on it; the first that holds counts.
_KINDS: "list[tuple[Callable[[dict[str, Any]], bool], str]]" = [
    (
        lambda content: "shapes" in content and "imagePath" in content,
        f"it is a {LABELME}. {_CONVERT}",
    ),
    (
        lambda content: content.get("type") in ("FeatureCollection", "Feature"),
        f"it is a {GEOJSON}. {_CONVERT}",
    ),
    (
        lambda content: "_via_img_metadata" in content,
        "it is a project of the VGG Image Annotator. Export it there in the format COCO.",
    ),
    (
        _holds("segments_info"),
        "it is a COCO file of panoptic segmentation, whose masks are in PNG files. Convert it with "
        "panopticapi (converters/panoptic2detection_coco_format.py).",
    ),
    (
        _holds("caption"),
        "its annotations are captions, without masks. Give the file of instances.",
    ),
    (
        _holds("keypoints"),
        "its annotations have keypoints but no masks ('segmentation'). Masks are needed.",
    ),
    (
        _holds("bbox"),
        "its annotations have boxes but no masks ('segmentation'). Masks are needed: export "
        "polygons or masks, not a detection format.",
    ),
    (
        lambda content: "neg_category_ids" in _first(content, "images"),
        "it is an LVIS file, in which only some classes are annotated in each image. Objects of "
        "the others would be learned as background and counted as false positives.",
    ),
    (
        lambda content: "images" in content and "annotations" not in content,
        "it lists images without annotations, as for a test set. Nothing can be learned from it or "
        "scored on it; visualize.py draws predictions on images of a folder.",
    ),
]
