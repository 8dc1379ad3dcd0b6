"""The check of a data set of label maps.

Shapes: H, W height and width in pixels; a label map is (H, W) integers, 0 = background.
"""

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..errors import UserError
from .check_report import listed
from .images import READ_ERRORS, image_header, read_ignore_map, require_8_bit
from .label_map import (
    class_index,
    encode_label_map,
    files_by_stem,
    no_image_sentence,
    one_file,
    read_foreground,
    read_labels,
    size_sentence,
    unknown_ids_sentence,
)
from .registration import missing_sentence


def check_label_maps(source, report):
    """Check all files of a data set of label maps.

    Args:
        source (LabelMapSource): where the files are.
        report (Report): findings and figures are added to it.
    """
    absent = [(key, path) for key, path in source.folders() if not path.is_dir()]
    for key, path in absent:
        report.error("folder missing", path, missing_sentence(source, key, path))
    if absent:
        return
    try:
        files = {"image": source.images(), "label": source.labels()}
    except UserError as error:  # a list of images
        report.error("list unusable", source.name, str(error))
        return
    if source.class_dir:
        files["class image"] = files_by_stem(source.class_dir)
    if not files["image"]:
        report.error("no images", source.image_dir, no_image_sentence(source))
    ignored = files_by_stem(source.ignore_dir) if source.ignore_dir else {}
    foregrounds = source.foregrounds()
    for stem in sorted(set(files["image"]) | set(files["label"])):
        _check_stem(source, stem, files, ignored.get(stem, []), report)
        if source.foreground_suffix is not None:
            _check_foreground(source, stem, files["label"].get(stem, []), foregrounds, report)


def _check_stem(source, stem, files, ignored, report):
    paths = {what: found.get(stem, []) for what, found in files.items()}
    _check_pairing(stem, paths, source, report)
    size = check_image(paths["image"][0], report) if paths["image"] else None
    labels, classes = _read_both(source, paths, report)
    if labels is None:
        return
    label_path = paths["label"][0]
    if size is not None and size != labels.shape:
        sentence = size_sentence("Image", paths["image"][0], size, labels.shape)
        report.error("sizes differ", paths["image"][0], sentence)
    _check_ignored(stem, ignored, labels.shape, source, report)
    labels, regions = _check_ids(source, label_path, labels, report)
    records = encode_label_map(labels, classes)
    if source.max_instances is not None and len(records) > source.max_instances:
        return  # not part of the set
    report.crowds += regions
    if classes is not None:
        class_path = paths.get("class image", paths["label"])[0]
        _check_class_image(source, class_path, labels, classes, records, report)
    elif source.class_dir is None:
        _check_rule(source, label_path, records, report)
    _check_parts(label_path, labels, records, report)


def _read_both(source, paths, report):
    """Ids and classes (H, W) of one image; None what is absent or unusable."""
    labels, classes = _read(paths["label"], report)
    class_paths = paths.get("class image", [])
    if labels is not None and class_paths:
        classes, _ = _read(class_paths, report)
        if classes is not None and classes.shape != labels.shape:
            sentence = size_sentence("Class image", class_paths[0], classes.shape, labels.shape)
            report.error("sizes differ", class_paths[0], sentence)
            classes = None
    if classes is not None and source.id_table is not None:
        classes = source.id_table.without_ignored(classes)
    return labels, classes


def _check_foreground(source, stem, labels, foregrounds, report):
    """Judge the foreground of an image that has a label, list of paths."""
    try:
        path = one_file(stem, foregrounds, source.label_dir, "foreground")
        if labels:
            read_foreground(path, image_header(labels[0])[0])
    except UserError as error:
        report.error("foreground unusable", source.label_dir / stem, str(error))


def _check_ignored(stem, paths, size, source, report):
    if not paths:
        return
    try:
        read_ignore_map(one_file(stem, {stem: paths}, source.ignore_dir, "ignore map"), size)
    except UserError as error:
        report.error("ignore map unusable", paths[0], str(error))


def _check_ids(source, path, labels, report):
    """Judge ids by the set's table: (H, W) objects alone, and the number of regions to ignore."""
    table = source.id_table
    if table is None:
        return labels, 0
    unknown = table.unknown_ids(labels)
    if unknown:
        report.error("unknown id", path, unknown_ids_sentence(path, unknown, table))
    kept = table.select(labels)
    ids = np.unique(kept)
    regions = [i for i in ids.tolist() if i and table.ignores(i)]
    return np.where(np.isin(kept, regions), 0, kept), len(regions)


def _check_pairing(stem, paths, source, report):
    for what, found in paths.items():
        folder = {"image": source.image_dir, "label": source.label_dir}.get(what, source.class_dir)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            sentence = f"In {folder} several files have the stem {stem!r}: {names}; keep one."
            report.error("duplicate stem", found[1], sentence)
        if not found:
            other = next((path[0] for path in paths.values() if path), f"The list of {source.name}")
            sentence = (
                f"{other} has no {what} of stem {stem!r} in {folder}; add it, or remove both."
            )
            report.error(f"{what} missing", other, sentence)


def check_image(path, report, size=None):
    """Decode an image as Detectron2 will.

    Args:
        path (pathlib.Path or str): the file.
        report (Report): findings are added to it.
        size (tuple[int, int]): the height and width it should have, or None.

    Returns:
        tuple[int, int] or None: its height and width, None if unreadable.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
        found = read_image(str(path)).shape[:2]
    except READ_ERRORS as error:
        sentence = f"Image {path} cannot be read ({error}); replace the file."
        report.error("image unreadable", path, sentence)
        return None
    try:
        require_8_bit(path, mode)
    except UserError as error:
        report.error("image not 8 bit", path, str(error))
    if size is not None and found != tuple(size):
        sentence = (
            f"Image {path} is {found[1]}x{found[0]} pixels, but the annotations say "
            f"{size[1]}x{size[0]}; correct width and height there."
        )
        report.error("sizes differ", path, sentence)
    return found


def _read(paths, report):
    """Ids (H, W) of the first of the paths, and classes if they are in the same file.

    None each if there is no path or it cannot be used.
    """
    if not paths:
        return None, None
    try:
        return read_labels(paths[0])
    except UserError as error:
        report.error("label unusable", paths[0], str(error))
        return None, None


def _check_class_image(source, path, labels, classes, records, report):
    count = len(source.thing_classes)
    wrong = [value for value in np.unique(classes).tolist() if value > count]
    if wrong:
        sentence = (
            f"{path} has the class values {listed(wrong)}, but there are {count} classes "
            f"({', '.join(source.thing_classes)}); allowed are 0 to {count}."
        )
        report.error("class out of range", path, sentence)
    mixed = [record for record in records if len(record["classes"]) > 1]
    if mixed:
        sentence = (
            f"In {path} some instances have more than one class: ids "
            f"{listed(record['id'] for record in mixed)}; the class of most pixels is used."
        )
        report.error("instance with two classes", path, sentence)
    none = [record["id"] for record in records if record["classes"][0][0] == 0]
    if none:
        sentence = f"In {path} the instances {listed(none)} have class 0 (none) and are left out."
        report.error("instance without class", path, sentence)
    lost = sorted(set(np.unique(classes).tolist()) - {0} - set(np.unique(classes[labels > 0])))
    if lost:
        sentence = (
            f"{path} has pixels of class {listed(lost)}, but no instance id has a pixel there; "
            "add the instance to the label or clear the pixels."
        )
        report.error("class without instance", path, sentence)
    usable = [r for r in records if 0 < r["classes"][0][0] <= count]
    _count(source, path, usable, report)


def _check_rule(source, path, records, report):
    usable, wrong = [], []
    for record in records:
        try:
            if class_index(source, record) is not None:
                usable.append(record)
        except UserError:
            wrong.append(record["id"])
    if wrong:
        sentence = (
            f"In {path} class_of_id gives a class beyond the {len(source.thing_classes)} of the "
            f"set for the ids {listed(wrong)}; add classes or correct the rule."
        )
        report.error("class out of range", path, sentence)
    _count(source, path, usable, report)


def _count(source, path, records, report):
    """Add the figures of one image."""
    report.instances_per_image.append(len(records))
    report.classes.update(source.thing_classes[class_index(source, r)] for r in records)
    report.areas += [record["area"] for record in records]
    if not records:
        report.notice("no instances", path, f"{path} has no instances.")


def _check_parts(path, labels, records, report):
    try:
        from scipy import ndimage
    except ImportError as error:
        raise UserError("The check of label maps needs scipy: pip install scipy.") from error
    eight_neighbours = np.ones((3, 3), dtype=int)
    split = []
    for record in records:
        x, y, width, height = (int(v) for v in record["bbox"])
        mask = labels[y : y + height, x : x + width] == record["id"]
        if ndimage.label(mask, structure=eight_neighbours)[1] > 1:
            split.append(record["id"])
    if split:
        sentence = f"In {path} instances consist of several parts: ids {listed(split)}."
        report.notice("disconnected instances", path, sentence)
