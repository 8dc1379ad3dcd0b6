"""A COCO file as loader, check, metadata and evaluator see it: read once, in one way.

Exporters differ in ids, names and forms. What has one meaning is read, counted and said; what has
none or several is an error that names the annotation.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from .check_report import listed
from .coco_annotations import CocoAnnotation, Place, clean_annotation
from .coco_categories import Categories, clean_categories
from .coco_file import read_coco_file
from .coco_notes import Findings
from .image_files import ImageFiles, plain_name
from .loose_values import Id, clean_ids, id_key, whole_number
from .segmentations import TEXTS, quoted

SIDES = ("height", "width")
IMAGE_KEYS = ("id", "file_name", *SIDES)
LARGEST_SIDE = 2**17  # pixels
MOST_PIXELS = 2**32 - 1  # of an image: pycocotools counts in 32 bits, and hangs beyond them


@dataclass
class CocoImage:
    """An image of a file.

    Args:
        key: of its id, see ``loose_values.id_key``.
        file_name: as the file has it.
        size: height and width in pixels, as the file has them.
        path: of the image, None if there is none.
        annotations: in the order of the file.
        id: of the image, once all ids are known.
    """

    key: str
    file_name: str
    size: tuple[int, int]
    path: Optional[Path] = None
    annotations: list[CocoAnnotation] = field(default_factory=list)
    id: Id = 0


@dataclass(frozen=True)
class CocoContent:
    """What a COCO file holds.

    Args:
        categories: the classes.
        images: by rising id.
        findings: what is wrong or was read in another way; with errors the file is unusable.
    """

    categories: Categories
    images: list[CocoImage]
    findings: Findings


def read_classes(json_file: Path) -> Categories:
    """The classes of a COCO file.

    Raises:
        UserError: no COCO file, or its categories are not as they should be.
    """
    return clean_categories(read_coco_file(json_file), Findings(json_file))


def read_coco(json_file: Path, image_root: Path, *, crowds: str = "") -> CocoContent:
    """Read a COCO file, and find the images it names.

    Args:
        json_file: of the annotations.
        image_root: folder that the file names are relative to; if there is none, no image is
            searched for.
        crowds: "objects" reads annotations with ``iscrowd: 1`` as objects, "ignore" as regions to
            ignore; "" as well, but it is an error if all annotations are.

    Raises:
        UserError: no COCO file, or its categories are not as they should be. All else is in the
            findings.
    """
    content, findings = read_coco_file(json_file), Findings(json_file)
    categories = clean_categories(content, findings)
    files = ImageFiles(image_root) if image_root.is_dir() else None
    by_key = _clean_images(content["images"], files, findings)
    images = list({id(image): image for image in by_key.values() if image is not None}.values())
    _add_annotations(content["annotations"], by_key, categories, crowds=crowds, findings=findings)
    ids = clean_ids(image.key for image in images)
    for image in images:
        image.id = ids[image.key]
    _note_ids(content, ids, findings)
    _check_whole(images, crowds, findings)
    findings.close()
    return CocoContent(categories, sorted(images, key=lambda image: image.id), findings)


def _clean_images(
    entries: "list[dict[str, Any]]", files: Optional[ImageFiles], findings: Findings
) -> "dict[str, Optional[CocoImage]]":
    """The images by the keys of their ids, None where an entry has an error."""
    by_key: dict[str, Optional[CocoImage]] = {}
    by_path: dict[Path, CocoImage] = {}
    for entry in entries:
        key, image = id_key(entry.get("id")) or "", _clean_image(entry, findings)
        if image is not None and files is not None:
            _find_file(image, files, findings)
        if image is not None:
            earlier = by_key.get(key) or (by_path.get(image.path) if image.path else None)
            image = _one_of(earlier, image, findings)
        if image is None:
            by_key.setdefault(key, None)
            continue
        by_key[key] = image
        if image.path:
            by_path[image.path] = image
    return by_key


def _clean_image(entry: "dict[str, Any]", findings: Findings) -> Optional[CocoImage]:
    absent = [key for key in IMAGE_KEYS if entry.get(key) is None]
    if absent:
        text = f"image {quoted(entry)} lacks {listed(absent)}."
        findings.error("image entry incomplete", text)
        return None
    key, name = id_key(entry["id"]), entry["file_name"]
    height, width = (whole_number(entry[side]) for side in SIDES)
    wrong = _wrong_size(entry, height, width)
    if not isinstance(name, str) or not name.strip():
        wrong = f"file_name {quoted(name)}, not a text"
    if key is None:
        wrong = f"id {quoted(entry['id'])}, neither a whole number nor a text"
    if wrong:
        findings.error("image entry malformed", f"image {quoted(entry['id'])} has the {wrong}.")
        return None
    if any(isinstance(entry[side], str) for side in SIDES):
        findings.count(TEXTS, f"image {name}")
    return CocoImage(str(key), name, (int(entry["height"]), int(entry["width"])))


def _wrong_size(entry: "dict[str, Any]", height: Optional[int], width: Optional[int]) -> str:
    """What is wrong with the size of an image, "" if nothing is."""
    for side, value in zip(SIDES, (height, width)):
        if value is None or not 1 <= value <= LARGEST_SIDE:
            return f"{side} {quoted(entry[side])}, not a whole number from 1 to {LARGEST_SIDE}"
    pixels = (height or 0) * (width or 0)
    if pixels <= MOST_PIXELS:
        return ""
    return f"size {width}x{height}, more than {MOST_PIXELS} pixels; cut the image into tiles"


def _find_file(image: CocoImage, files: ImageFiles, findings: Findings) -> None:
    found = files.find(image.file_name)
    image.path = found.path
    if found.path is None:
        text = f"image {image.file_name} (id {image.key}) does not exist. {found.near}".rstrip()
        findings.error("image missing", text)
    elif found.way:
        findings.count(f"file names: {found.way}", f"{image.file_name}, found as {found.path}")


def _one_of(
    earlier: Optional[CocoImage], image: CocoImage, findings: Findings
) -> Optional[CocoImage]:
    """The image of two entries with one id or one file; None if they contradict each other."""
    if earlier is None:
        return image
    same_name = plain_name(earlier.file_name) == plain_name(image.file_name)
    if same_name and earlier.size == image.size:
        findings.count("image twice", image.file_name)
        return earlier
    both = f"{earlier.file_name} (id {earlier.key}) and {image.file_name} (id {image.key})"
    if earlier.key == image.key:
        text = f"the image id {image.key} occurs more than once, with different values: {both}."
        findings.error("duplicate image id", text)
    elif same_name:
        text = f"{both} are one image with two sizes: {earlier.size} and {image.size}."
        findings.error("duplicate image", text)
    else:
        text = (
            f"the images {both} are different by name, but the only file that fits either is "
            f"{image.path}. Correct the file names or image_dir."
        )
        findings.error("two images, one file", text)
    return None


def _add_annotations(
    entries: "list[dict[str, Any]]",
    by_key: "dict[str, Optional[CocoImage]]",
    categories: Categories,
    *,
    crowds: str,
    findings: Findings,
) -> None:
    """Clean all annotations and give each to its image."""
    lost, seen = [], set()
    for entry in entries:
        number, own_id = entry.get("id"), id_key(entry.get("id"))
        if type(number) is not int or number < 1 or own_id in seen:
            findings.count("annotation ids", quoted(number))
        seen.add(own_id)
        key = id_key(entry.get("image_id"))
        if key is None or key not in by_key:
            lost.append(quoted(number))
            continue
        image = by_key[key]
        if image is None:  # its entry has an error
            continue
        place = Place(image.file_name, image.size)
        clean = clean_annotation(entry, place, categories, crowds=crowds, findings=findings)
        if clean is not None:
            image.annotations.append(clean)
    if lost:
        text = f"the annotations {listed(lost)} belong to images that it does not list."
        findings.leave_out("unknown image", text)


def _note_ids(content: "dict[str, Any]", ids: "dict[str, Id]", findings: Findings) -> None:
    """Count ids of images that are not written as what they are read as."""
    for part, field_name in (("images", "id"), ("annotations", "image_id")):
        for entry in content[part]:
            value = entry.get(field_name)
            clean = ids.get(id_key(value) or "")
            if clean is not None and (clean != value or isinstance(value, float)):
                findings.count("ids", f"{field_name} {quoted(value)} in {part!r}")
    for entry in content["categories"]:
        if isinstance(entry["id"], str) and whole_number(entry["id"]) is not None:
            findings.count("ids", f"id {quoted(entry['id'])} in 'categories'")


def _check_whole(images: "list[CocoImage]", crowds: str, findings: Findings) -> None:
    """Look for what only all annotations together show."""
    annotations = [annotation for image in images for annotation in image.annotations]
    number = sum(annotation["iscrowd"] for annotation in annotations)
    if number and not crowds:
        text = (
            f"{number} of the {len(annotations)} annotations have iscrowd: 1. These are regions "
            "to ignore: nothing is learned from them, and they are nobody's hit or miss."
        )
        way_out = (
            " Some tools mark every brush mask like this. If each is one object, write "
            "'crowds: objects' in the entry of DATASETS.REGISTER, or crowds='objects' in Python; "
            "if they are regions to ignore, 'crowds: ignore'."
        )
        if number == len(annotations):
            findings.error("only crowds", text + way_out)
        else:
            findings.notice("crowds", text + way_out)
    if findings.left_out and not annotations:
        text = f"none of its annotations can be used; the first: {findings.left_out[0].sentence}"
        findings.error("no usable annotation", text)
