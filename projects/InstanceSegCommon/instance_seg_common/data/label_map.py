"""Data sets that are a folder of images and a folder of instance-id label images.

Shapes: H, W height and width of an image in pixels, as Detectron2's ``read_image`` returns it (that
is, EXIF orientation applied); a label map is (H, W) integers, 0 = background, any other = one
instance.

Annotations are run-length encodings of the whole image, computed from the runs of the label map
(never from one dense mask per instance) and cached by the content of the files they come from.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from PIL import Image

from ..errors import UserError
from .cache import atomic_path, cache_root
from .check_report import listed
from .images import (
    READ_ERRORS,
    cached_ignore_map,
    check_ignore_map,
    image_header,
    require_8_bit,
)
from .registration import first_few, register_source, require_folder
from .sbd import ENDING as SBD_ENDING
from .sbd import read_sbd

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1  # part of every cache key: raise it when the encoding or its record changes
IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "ppm", "pgm", "jp2")
)
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000"})
FEW = 3  # images without a label that are named one by one


@dataclass(frozen=True)
class ClassRule:
    """From an instance id to a 0-based class index; None = the id is not an instance.

    Exactly one of the two is set.

    Args:
        function (callable): ``id -> index or None``.
        table (tuple): (divisor, ((quotient, index), ...)); an id's class is that of
            ``id // divisor``; with an empty table it is ``id // divisor - 1``, below 0 none.
    """

    function: Optional[object] = field(default=None, compare=False)
    table: tuple = ()
    function_key: tuple = field(default=(), repr=False)

    def __call__(self, instance_id):
        if self.function is not None:
            return self.function(instance_id)
        divisor, entries = self.table
        quotient = instance_id // divisor
        if not entries:
            return quotient - 1 if quotient > 0 else None
        return dict(entries).get(quotient)


@dataclass(frozen=True)
class IdTable:
    """What the ids of a format mean that knows more than objects; ranges are (first, last).

    Args:
        known (tuple): ranges of the ids that may occur, 0 included; any other is an error.
        kept (tuple): ranges of the ids whose masks are encoded: objects and regions to ignore.
        ignored (tuple): ranges of those among them that are regions to ignore.
        hint (str): what to do about an id that is not known.
    """

    known: tuple
    kept: tuple
    ignored: tuple = ()
    hint: str = field(default="", compare=False)

    def unknown_ids(self, labels):
        """The ids of a label (H, W) that may not occur: list of int, ascending."""
        present = np.unique(labels)
        return present[~_within(present, self.known)].tolist()

    def select(self, labels):
        """A copy of a label (H, W) in which all ids that are not kept have become 0."""
        return np.where(_within(labels, self.kept), labels, 0)

    def without_ignored(self, values):
        """A copy of ids or classes (H, W) in which what is ignored has become 0."""
        return np.where(_within(values, self.ignored), 0, values)

    def ignores(self, instance_id):
        """Whether an id is a region to ignore."""
        return bool(_within(np.array(instance_id), self.ignored))


def _within(ids, ranges):
    """Which ids lie in one of the ranges: an array of bool of their shape."""
    found = np.zeros(ids.shape, dtype=bool)
    for first, last in ranges:
        found |= (ids >= first) & (ids <= last)
    return found


@dataclass(frozen=True)
class LabelMapSource:
    """Parameters of one data set of label maps, see :func:`register_label_map_dataset`.

    The others serve formats with a fixed tree: ``in_subfolders``, whether images and labels lie one
    folder deeper; ``id_table``, an :class:`IdTable`; ``selection``, which of the images belong to
    the set (``selection.Listed`` or ``Fold``); ``label_ending``, ".mat" for the labels of SBD, ""
    for images; ``foreground_suffix``, the end of the stems in ``label_dir`` of images that show the
    foreground (not 0), handed on as ``foreground_file_name``; ``evaluator_type``.
    """

    name: str
    image_dir: Path
    label_dir: Path
    thing_classes: tuple = ("object",)
    class_dir: Optional[Path] = None
    class_of_id: Optional[ClassRule] = None
    ignore_dir: Optional[Path] = None
    max_instances: Optional[int] = None
    image_suffix: str = ""
    label_suffix: str = ""
    in_subfolders: bool = False
    id_table: Optional[IdTable] = None
    selection: Optional[object] = None
    label_ending: str = ""
    foreground_suffix: Optional[str] = None
    evaluator_type: str = "coco"
    hint: str = field(default="", compare=False)

    def folders(self):
        """The folders in use: list of (parameter name, path)."""
        keys = ("image_dir", "label_dir", "class_dir", "ignore_dir")
        return [(key, getattr(self, key)) for key in keys if getattr(self, key) is not None]

    def images(self):
        """The image files by stem, see :func:`files_by_stem`; [] where a list names no file."""
        found = files_by_stem(self.image_dir, self.image_suffix, self.in_subfolders)
        if self.selection is None:
            return found
        return {stem: found.get(stem, []) for stem in self.selection.stems(found, self)}

    def labels(self):
        """The label files by stem, see :func:`files_by_stem`; those of a selection only."""
        endings = (self.label_ending,) if self.label_ending else IMAGE_SUFFIXES
        found = files_by_stem(self.label_dir, self.label_suffix, self.in_subfolders, endings)
        if self.selection is None:
            return found
        return {stem: found[stem] for stem in self.images() if stem in found}

    def foregrounds(self):
        """The files that show the foreground by stem; {} where the set has none."""
        if self.foreground_suffix is None:
            return {}
        return files_by_stem(self.label_dir, self.foreground_suffix)


def register_label_map_dataset(
    name,
    image_dir,
    label_dir,
    thing_classes=("object",),
    class_dir=None,
    class_of_id=None,
    *,
    ignore_dir=None,
    max_instances=None,
    image_suffix="",
    label_suffix="",
):
    """Register a folder of images with a folder of instance-id label images; nothing is read yet.

    An image belongs to the label of the same file-name stem. Labels are single-channel 8 or 16 bit
    PNG or 16 or 32 bit TIFF; ids need not be consecutive. Images without instances stay in the set.

    Args:
        name (str): name in ``DatasetCatalog``.
        image_dir, label_dir (str or pathlib.Path): folders, not searched below their first level.
        thing_classes (sequence of str): names of the classes. With one class and neither
            ``class_dir`` nor ``class_of_id``, every id is an instance of it.
        class_dir (str or pathlib.Path): folder of class-id images, 0 = none, 1.. = classes in the
            order of ``thing_classes``. An instance has the class of most of its pixels; where that
            is 0 it is left out.
        class_of_id: the class of an instance from its id: a callable ``id -> 0-based index, or None
            for an id that is no instance``; an int d: ``id // d`` is the 1-based class, 0 is none;
            or {"divisor": d, "classes": {26: 0, 24: "person"}}: ``id // d`` (d = 1 if not given) is
            looked up, indices or names, and what is not listed is no instance.
        ignore_dir (str or pathlib.Path): folder of 8 bit images, 255 = region to ignore; handed on
            as ``sem_seg_file_name``. Images without one have nothing to ignore.
        max_instances (int): leave out images with more instances than this.
        image_suffix, label_suffix (str): ends of the stems that are dropped before stems are
            compared ("_rgb", "_label"); files without them are not part of the set.

    Raises:
        UserError: parameters that contradict each other, or a name that is taken. Files are read
            when the set is first used, and what is wrong with them is raised then.
    """
    source = make_source(
        name=name,
        image_dir=image_dir,
        label_dir=label_dir,
        thing_classes=thing_classes,
        class_dir=class_dir,
        class_of_id=class_of_id,
        ignore_dir=ignore_dir,
        max_instances=max_instances,
        image_suffix=image_suffix,
        label_suffix=label_suffix,
    )
    register_label_map_source(source)


def register_label_map_source(source, replace=False):
    """Register a :class:`LabelMapSource`; ``replace`` as in ``registration.register_source``."""
    metadata = {
        "thing_classes": list(source.thing_classes),
        "evaluator_type": source.evaluator_type,
        "image_dir": str(source.image_dir),
        "label_dir": str(source.label_dir),
    }
    register_source(source, load_label_maps, metadata, replace=replace)


def make_source(
    *, name, thing_classes=("object",), class_of_id=None, kind=LabelMapSource, **parameters
):
    """A checked source of the arguments of :func:`register_label_map_dataset`.

    Args:
        name, thing_classes, class_of_id: see there.
        kind (type): :class:`LabelMapSource` or a subclass.
        **parameters: the other fields of ``kind``.

    Returns:
        LabelMapSource: of the given kind.
    """
    if isinstance(thing_classes, str) or not all(isinstance(c, str) for c in thing_classes):
        raise UserError(
            f"Data set {name!r}: the classes must be a list of names, not {thing_classes!r}."
        )
    thing_classes = tuple(thing_classes)
    if class_of_id is not None and parameters.get("class_dir") is not None:
        raise UserError(f"Data set {name!r} has both class_dir and class_of_id; keep one of them.")
    classless = parameters.get("label_ending") != SBD_ENDING
    single = class_of_id is None and parameters.get("class_dir") is None and classless
    if single and len(thing_classes) != 1:
        raise UserError(
            f"Data set {name!r} has {len(thing_classes)} classes but nothing says which instance "
            "is of which: give class_dir or class_of_id, or exactly one class."
        )
    limit = parameters.get("max_instances")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise UserError(
            f"Data set {name!r}: max_instances must be a whole number of 0 or more, not {limit!r}."
        )
    for key in ("image_dir", "label_dir", "class_dir", "ignore_dir"):
        if parameters.get(key) is not None:
            parameters[key] = Path(parameters[key]).expanduser().resolve()
    return kind(
        name=name,
        thing_classes=thing_classes,
        class_of_id=_class_rule(name, class_of_id, thing_classes),
        **parameters,
    )


def _class_rule(name, rule, thing_classes):
    if rule is None:
        return None
    if callable(rule):
        return ClassRule(function=rule, function_key=_function_key(rule))
    if isinstance(rule, Mapping):
        entries = _class_table(name, rule, thing_classes)
        divisor = rule.get("divisor", 1)
    else:
        entries, divisor = (), rule
    if not isinstance(divisor, int) or isinstance(divisor, bool) or divisor < 1:
        raise UserError(
            f"Data set {name!r}: class_of_id needs a whole divisor of 1 or more, not {divisor!r}."
        )
    return ClassRule(table=(divisor, entries))


def _class_table(name, rule, thing_classes):
    unknown = set(rule) - {"divisor", "classes"}
    classes = rule.get("classes")
    if unknown or not isinstance(classes, Mapping) or not classes:
        raise UserError(
            f"Data set {name!r}: class_of_id {dict(rule)} must have the keys 'classes' "
            "(id // divisor to class index or name) and, if it is not 1, 'divisor'."
        )
    entries = []
    for key, value in classes.items():
        index = thing_classes.index(value) if value in thing_classes else value
        if not isinstance(index, int) or not 0 <= index < len(thing_classes):
            raise UserError(
                f"Data set {name!r}: class_of_id gives {value!r} for {key}, which is neither a "
                f"name in {list(thing_classes)} nor an index below {len(thing_classes)}."
            )
        entries.append((_whole_id(name, key), index))
    twice = [key for key, count in Counter(key for key, _ in entries).items() if count > 1]
    if twice:
        raise UserError(f"Data set {name!r}: class_of_id lists {twice[0]} twice; keep one of them.")
    return tuple(sorted(entries))


def _whole_id(name, key):
    try:
        number = int(key)
        if isinstance(key, str) or number == key:
            return number
    except (TypeError, ValueError):
        pass
    raise UserError(
        f"Data set {name!r}: class_of_id lists {key!r}, which is no whole number. Under 'classes', "
        "ids (divided by the divisor) stand before the colon and classes after it, as in {26: car}."
    )


def _function_key(function):
    """What two definitions of the same rule have in common, even if written as two lambdas."""
    code = getattr(function, "__code__", None)
    if code is None:
        return (function,)
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return (code.co_code, code.co_consts, code.co_names, cells, function.__defaults__)


def files_by_stem(folder, suffix="", in_subfolders=False, endings=IMAGE_SUFFIXES):
    """The image files of a folder by their stem.

    Args:
        folder (pathlib.Path): searched at its first level only; hidden files are passed over.
        suffix (str): files whose stem does not end in it are passed over; it is cut off.
        in_subfolders (bool): search the second level instead.
        endings (collection of str): of the names, in small letters, with the dot.

    Returns:
        dict[str, list[pathlib.Path]]: sorted by stem; more than one file is a duplicate stem.
    """
    found = {}
    for path in sorted(folder.glob("*/*") if in_subfolders else folder.iterdir()):
        hidden = path.name.startswith(".")
        if path.suffix.lower() in endings and path.stem.endswith(suffix) and not hidden:
            found.setdefault(path.stem[: len(path.stem) - len(suffix)], []).append(path)
    return dict(sorted(found.items()))


def read_label(path):
    """Read an image of ids.

    Args:
        path (pathlib.Path): single-channel, lossless.

    Returns:
        ndarray: (H, W) int32 or an unsigned type of 8 or 16 bit.

    Raises:
        UserError: unreadable, more than one channel, lossy, negative or fractional values.
    """
    try:
        with Image.open(path) as image:
            lossy, mode = image.format in LOSSY_FORMATS and image.format, image.mode
        labels = read_image(str(path)) if not lossy else None
    except READ_ERRORS as error:
        raise UserError(f"Label {path} cannot be read ({error}); write it again.") from error
    if lossy:
        raise UserError(
            f"Label {path} is stored as {lossy}, which changes ids; store it as PNG or TIFF."
        )
    if labels.ndim != 2:
        raise UserError(
            f"Label {path} has {labels.shape[2]} channels (mode {mode}); an id image has one: "
            "store one integer per pixel."
        )
    return _whole_numbers(path, labels)


def _whole_numbers(path, labels):
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int32)
        if not np.array_equal(whole, labels):
            raise UserError(f"Label {path} has fractions or nan; an id image has whole numbers.")
        labels = whole
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise UserError(
            f"Label {path} has negative ids (lowest {labels.min()}); use 0 for background, and "
            "ignore_dir for regions to ignore."
        )
    return labels


def encode_label_map(labels, classes=None):
    """Run-length encodings of all instances of a label map.

    Args:
        labels (ndarray): (H, W) integers, 0 = background.
        classes (ndarray): (H, W) integers, the class-id image, or None.

    Returns:
        list[dict]: by rising id: ``id`` (int), ``bbox`` [x, y, width, height] and ``area`` in
        pixels, ``counts`` (str, COCO's compressed encoding of the full image) and, with
        ``classes``, ``classes``: [[class id, number of pixels], ...], most pixels first.
    """
    height, width = labels.shape
    column_major = labels.T.ravel()  # the order of COCO's run lengths
    ids, starts, ends = _runs_by_id(column_major)
    records = []
    for instance_id, begin, end in zip(ids, starts, ends):
        bounds = np.stack([begin, end], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=column_major.size)
        counts = counts[:-1] if counts[-1] == 0 else counts
        rle = mask_util.frPyObjects(
            {"counts": counts.tolist(), "size": [height, width]}, height, width
        )
        records.append(
            {
                "id": int(instance_id),
                "bbox": mask_util.toBbox(rle).tolist(),
                "area": int((end - begin).sum()),
                "counts": rle["counts"].decode("ascii"),
            }
        )
    if classes is not None:
        for record, votes in zip(records, _class_votes(ids, labels, classes)):
            record["classes"] = votes
    return records


def _runs_by_id(values):
    """Runs of equal non-zero values: ids (N,), and per id the starts and ends of its runs."""
    if values.size == 0:
        return np.empty(0, int), [], []
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [values.size]])
    run_values = values[starts]
    keep = np.flatnonzero(run_values)
    order = keep[np.argsort(run_values[keep], kind="stable")]
    ids, first = np.unique(run_values[order], return_index=True)
    return ids, np.split(starts[order], first[1:]), np.split(ends[order], first[1:])


def _class_votes(ids, labels, classes):
    """Per id the class ids of its pixels: [[class id, number of pixels], ...], most first."""
    inside = labels > 0
    index = np.searchsorted(ids, labels[inside])
    # One number for a pair: np.unique of pairs takes twenty times as long.
    span = int(classes.max(initial=0)) + 1
    pairs, votes = np.unique(index * span + classes[inside], return_counts=True)
    per_id = [[] for _ in ids]
    for pair, count in zip(pairs.tolist(), votes.tolist()):
        per_id[pair // span].append([pair % span, count])
    return [sorted(found, key=lambda vote: (-vote[1], vote[0])) for found in per_id]


def read_instances(label_path, class_path=None, id_table=None):
    """The encoded instances of one label file, without the cache.

    Args:
        label_path (pathlib.Path): instance ids.
        class_path (pathlib.Path): class ids of the same size, or None.
        id_table (IdTable): which ids are encoded; None: all but 0.

    Returns:
        tuple[tuple[int, int], list[dict]]: (height, width), records of :func:`encode_label_map`.

    Raises:
        UserError: a file that is unreadable or no id image, sizes that differ, or an id that is not
            in the table.
    """
    labels, classes = read_labels(label_path, class_path)
    if id_table is not None:
        unknown = id_table.unknown_ids(labels)
        if unknown:
            raise UserError(unknown_ids_sentence(label_path, unknown, id_table))
        labels = id_table.select(labels)
    return labels.shape, encode_label_map(labels, classes)


def read_labels(label_path, class_path=None):
    """The ids of the instances of one image and, where the format has them, the classes.

    Args:
        label_path (pathlib.Path): an image of ids, or a ``.mat`` of SBD, which has the classes too.
        class_path (pathlib.Path): class ids of the same size, or None.

    Returns:
        tuple[ndarray, ndarray or None]: (H, W) integers each.

    Raises:
        UserError: a file that is unreadable or no id image, or sizes that differ.
    """
    if label_path.suffix.lower() == SBD_ENDING:
        return read_sbd(label_path)
    labels = read_label(label_path)
    classes = None if class_path is None else read_label(class_path)
    if classes is not None and classes.shape != labels.shape:
        raise UserError(size_sentence("Class image", class_path, classes.shape, labels.shape))
    return labels, classes


def size_sentence(what, path, size, label_size):
    """The sentence for an image that does not have the size (height, width) of its label."""
    return (
        f"{what} {path} is {size[1]}x{size[0]} pixels but its label is "
        f"{label_size[1]}x{label_size[0]}; bring both to one size."
    )


def unknown_ids_sentence(path, unknown, id_table):
    """The sentence for ids (list of int) that a label has and its table has not."""
    ranges = ", ".join(f"{first} to {last}" for first, last in id_table.known)
    return (
        f"Label {path} has {'ids' if len(unknown) > 1 else 'the id'} {listed(unknown)}, but the "
        f"format has only {ranges}. {id_table.hint}".rstrip()
    )


def cached_instances(label_path, class_path=None, id_table=None):
    """:func:`read_instances` through a cache whose key is the content of the files."""
    use = "" if id_table is None else f", ids {id_table.known} {id_table.kept}"
    key = hashlib.sha256(f"label maps {CACHE_FORMAT}{use}".encode())
    for path in filter(None, (label_path, class_path)):
        try:
            key.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(f"Label {path} cannot be read ({error}).") from error
    entry = cache_root() / "label_maps" / f"{key.hexdigest()}.json"
    if entry.exists():
        try:
            size, records = json.loads(entry.read_text())
            return tuple(size), records
        except (ValueError, TypeError) as error:
            logger.warning(
                "Cache entry %s is broken (%s); encoding %s anew.", entry, error, label_path
            )
    size, records = read_instances(label_path, class_path, id_table)
    with atomic_path(entry) as path:
        path.write_text(json.dumps([size, records], separators=(",", ":")))
    return size, records


def class_index(source, record):
    """The 0-based class of an instance.

    Args:
        source (LabelMapSource): its class rule.
        record (dict): of :func:`encode_label_map`.

    Returns:
        int or None: None if the record is no instance of this set.

    Raises:
        UserError: a class that the set does not have.
    """
    ignores = source.id_table.ignores if source.id_table is not None else lambda value: False
    if ignores(record["id"]):
        return None
    if "classes" in record:
        class_id = record["classes"][0][0]
        index = None if class_id == 0 or ignores(class_id) else class_id - 1
    elif source.class_of_id is not None:
        index = source.class_of_id(record["id"])
        index = None if index is None else int(index)
    else:
        index = 0
    if index is not None and not 0 <= index < len(source.thing_classes):
        raise UserError(
            f"instance {record['id']} gets class {index + 1}, but there are "
            f"{len(source.thing_classes)} classes: {', '.join(source.thing_classes)}"
        )
    return index


def load_label_maps(source):
    """Detectron2's standard dicts of a data set of label maps.

    Args:
        source (LabelMapSource): what to load.

    Returns:
        list[dict]: file_name, height, width, image_id (the stem), annotations,
        sem_seg_file_name where there is a file in ``ignore_dir`` or an id that is ignored, and
        foreground_file_name where the source has a ``foreground_suffix``; sorted by stem.

    Raises:
        UserError: names the first files that cannot be used.
    """
    for key, folder in source.folders():
        require_folder(source, key, folder)
    images, labels = source.images(), source.labels()
    if not images:
        raise UserError(no_image_sentence(source))
    _require_labels(source, images, labels)
    classes = files_by_stem(source.class_dir) if source.class_dir else None
    ignored = files_by_stem(source.ignore_dir) if source.ignore_dir else {}
    foregrounds = source.foregrounds()
    dicts, problems = [], []
    for stem, paths in images.items():
        try:
            record = _load_one(source, stem, paths, labels, classes)
            _add_maps(source, record, ignored, foregrounds)
        except UserError as error:
            problems.append(str(error))
            continue
        dicts.append(record)
    if problems:
        raise UserError(
            f"Data set {source.name!r} cannot be used: {first_few(problems)} "
            f"`python tools/check_dataset.py {source.name}` lists everything."
        )
    _warn_of_unused(source, images, labels)
    limit = source.max_instances
    return dicts if limit is None else [d for d in dicts if len(d["annotations"]) <= limit]


def _add_maps(source, record, ignored, foregrounds):
    """Enter the maps of what is ignored and of the foreground into a data set dict."""
    stem, size = record["image_id"], (record["height"], record["width"])
    if stem in ignored:
        path = one_file(stem, ignored, source.ignore_dir, "ignore map")
        check_ignore_map(path, size)
        record["sem_seg_file_name"] = str(path)
    if source.foreground_suffix is not None:
        path = one_file(stem, foregrounds, source.label_dir, "foreground")
        check_foreground(path, size)
        record["foreground_file_name"] = str(path)


def no_image_sentence(source):
    """The sentence for a set whose folder of images has none."""
    pattern = "*/" * source.in_subfolders + f"*{source.image_suffix}.*"
    where = f"Data set {source.name!r}: there is no image {pattern} in {source.image_dir}."
    return f"{where} {source.hint}".rstrip()


def _require_labels(source, images, labels):
    """Raise a sentence at once, before anything is decoded, if many labels are absent."""
    missing = [stem for stem in images if stem not in labels]
    if len(missing) > FEW:
        raise UserError(
            f"Data set {source.name!r} is incomplete: {len(missing)} of the {len(images)} images "
            f"in {source.image_dir} have no label in {source.label_dir}; the first is for "
            f"{missing[0]!r}. Complete the labels, or remove the images."
        )


def check_foreground(path, size):
    """Raise unless a file can show the foreground of an image of a size (height, width).

    Only the header is read.
    """
    found, _ = image_header(path)
    if found != tuple(size):
        raise UserError(size_sentence("Foreground", path, found, size))


def read_foreground(path, size):
    """The foreground of an image that a data set supplies.

    Args:
        path (pathlib.Path or str): one channel, not 0 = foreground.
        size (tuple[int, int]): height and width of its image.

    Returns:
        ndarray: (height, width) bool.

    Raises:
        UserError: unreadable, or of another size.
    """
    check_foreground(path, size)
    return read_label(Path(path)) != 0


def _warn_of_unused(source, images, labels):
    unused = sorted(set(labels) - set(images))
    if unused:
        logger.warning(
            "Data set %r: %d of the labels in %s have no image (first: %s).",
            source.name,
            len(unused),
            source.label_dir,
            unused[0],
        )


def one_file(stem, files, folder, what):
    """The only file of a stem, else a sentence."""
    paths = files.get(stem, [])
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise UserError(f"There is no {what} for image {stem!r} in {folder}; add it.")
    names = ", ".join(path.name for path in paths)
    raise UserError(f"In {folder} several files have the stem {stem!r}: {names}; keep one.")


def _load_one(source, stem, image_paths, labels, classes):
    if not image_paths:
        raise UserError(
            f"{source.image_dir} has no image {stem!r}, which the set's list names; unpack the "
            "whole archive again."
        )
    image_path = one_file(stem, {stem: image_paths}, source.image_dir, "image")
    label_path = one_file(stem, labels, source.label_dir, "label")
    class_path = None
    if classes is not None:
        class_path = one_file(stem, classes, source.class_dir, "class image")
    (height, width), records = cached_instances(label_path, class_path, source.id_table)
    image_size, mode = image_header(image_path)
    require_8_bit(image_path, mode)
    if image_size != (height, width):
        raise UserError(size_sentence("Image", image_path, image_size, (height, width)))
    try:
        annotations = to_annotations(source, records, (height, width))
    except UserError as error:
        raise UserError(f"In label {label_path}, {error}.") from error
    loaded = {
        "file_name": str(image_path),
        "height": height,
        "width": width,
        "image_id": stem,
        "annotations": annotations,
    }
    ignored = [r for r in records if source.id_table and source.id_table.ignores(r["id"])]
    if ignored:
        regions = [{"size": [height, width], "counts": record["counts"]} for record in ignored]
        loaded["sem_seg_file_name"] = str(cached_ignore_map(regions, (height, width)))
    return loaded


def to_annotations(source, records, size):
    """Detectron2's annotations of the records that are instances of the set.

    Args:
        source (LabelMapSource): its class rule.
        records (list[dict]): of :func:`encode_label_map`.
        size (tuple[int, int]): height, width.

    Returns:
        list[dict]: bbox (XYWH_ABS), category_id, iscrowd 0, segmentation (RLE of the full image).
    """
    annotations = []
    for record in records:
        index = class_index(source, record)
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
