"""What is wrong with the folders of a data set, and the line of YAML that reads what is there."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Optional, Union

from .check_report import listed
from .label_files import SetFiles
from .label_folder import IMAGE_ENDINGS
from .label_map_source import LabelMapSource
from .label_names import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    like,
    most_frequent_suffixes,
    near_pairs,
    suffix_of_objects,
)
from .label_objects import FILES
from .registration import missing_sentence

SPLITS = ("train", "training", "val", "valid", "validation", "test")
MOST_ENDINGS = 3  # that are named
ENOUGH = 20  # folders or files that are looked at, to know a layout
CELLPOSE_ENDING = "_seg.npy"
PLAIN = re.compile(r"[\w./*~+-]*[A-Za-z*][\w./*~+-]*")  # what YAML needs no quotes for


def missing_folder_sentence(source: LabelMapSource, key: str, path: Path) -> str:
    """The sentence for a folder that is not there, with one beside it that is called like it."""
    sentence = missing_sentence(source, key, path)
    names = [child.name for child in _subfolders(path.parent)]
    near = like(names, (path.name.casefold(),))
    if near is None and key in ("image_dir", "label_dir"):
        near = like(names, LABEL_FOLDERS if key == "label_dir" else IMAGE_FOLDERS)
    if near is None:
        return sentence
    return f"{sentence} There is a folder {near}: write `{_keys(**{key: path.parent / near})}`."


def folder_problem(source: LabelMapSource, files: SetFiles) -> Optional[str]:
    """The sentence for folders in which images and labels cannot be told or found at all."""
    if not files.images:
        return _no_image_sentence(source)
    folders = source.folders
    if folders.in_one and not folders.image_dir.suffix and not folders.label_dir.suffix:
        return _one_folder_sentence(source, files)
    return None


def _no_image_sentence(source: LabelMapSource) -> str:
    folder = source.folders.image_dir
    where = f"Data set {source.name!r}: there is no image {folder.pattern} in {folder.path}."
    layout = _layout_below(source)
    if layout:
        return f"{where} {layout}"
    names = [found.path.name for found in folder.found()]
    if names:
        return f"{where} Correct image_suffix: its files are called {listed(names, 3)}."
    return " ".join(filter(None, (where, _content(folder.path), source.hint)))


def _one_folder_sentence(source: LabelMapSource, files: SetFiles) -> str:
    stems, folder = list(files.images), source.folders.image_dir
    advice = _suffix_advice(stems, stems)
    pickles = "" if advice else _pickle_sentence(folder.path)
    fallback = "write what the names of one of the two end with, such as `label_suffix: _masks`"
    return (
        f"Data set {source.name!r}: image_dir and label_dir are one folder, {folder}, and nothing "
        f"tells its labels from its images; {advice or fallback}. {pickles}".rstrip()
    )


def _suffix_advice(images: Collection[str], labels: Collection[str]) -> str:
    """The keys that pair stems; "" if none do."""
    of_objects = suffix_of_objects(images, labels)
    suffixes = most_frequent_suffixes(near_pairs(images, labels))
    if suffixes is not None:
        return f"write `{_keys(image_suffix=suffixes[0], label_suffix=suffixes[1])}`"
    if of_objects is not None:
        keys = _keys(instances=FILES, label_suffix=of_objects)
        return f"every label seems to show one object: write `{keys}`"
    return ""


def _keys(**keys: Union[str, Path]) -> str:
    """Keys of an entry as they stand in a YAML file; those without a value are left out."""
    texts = {key: str(value) for key, value in keys.items() if str(value)}
    quoted = {key: text if PLAIN.fullmatch(text) else f"'{text}'" for key, text in texts.items()}
    return ", ".join(f"{key}: {text}" for key, text in quoted.items())


def pairing_advice(source: LabelMapSource, files: SetFiles) -> str:
    """A sentence on images and labels that do not pair, "" where nothing is known about them."""
    images = sorted(set(files.images) - set(files.labels))
    labels = sorted(set(files.labels) - set(files.images))
    if not images or source.selection is not None:
        return ""
    folder = source.folders.label_dir
    if not files.labels:
        labels = [found.name for found in folder.found()]
    advice = ""
    if len(images) == len(files.images):  # where some pair, keys that pair others are none to write
        advice = (
            _suffix_advice(images, labels)
            or _label_layout(source, images)
            or _folder_advice(images, labels)
        )
    if advice:
        return f"To read what is there, {advice}."
    return _pair_sentence(images, labels) or ("" if files.labels else _content(folder.path))


def _pair_sentence(images: Collection[str], labels: Collection[str]) -> str:
    """The sentence on two names that are nearly alike; "" if there are none."""
    pairs = near_pairs(images, labels)
    if not pairs:
        return ""
    first, second, _ = pairs[0]
    alike = first.casefold() == second.casefold()
    how = ", which differ only in upper and lower case" if alike else ""
    return f"Nearly alike are {first!r} and {second!r}{how}: give both files one name."


def _label_layout(source: LabelMapSource, images: Collection[str]) -> str:
    """The keys for labels that lie deeper than their folder; "" if they do not."""
    folder = source.folders.label_dir
    if folder.below or folder.found():
        return ""
    below = [child for child in _subfolders(folder.path) if _has_images(child)]
    if not below:
        return ""
    if 2 * len({child.name for child in below} & set(images)) >= min(len(below), ENOUGH):
        return f"write `{_keys(label_dir=folder.path / '*', instances=FILES)}`"
    if len(below) == 1:
        return f"write `{_keys(label_dir=below[0])}`"
    image = source.folders.image_dir
    return f"write `{_keys(image_dir=image.path / '**', label_dir=folder.path / '**')}`"


def _folder_advice(images: Collection[str], labels: Collection[str]) -> str:
    """The key for labels in a folder that is called like an image, or like that of one image."""
    of_images = Counter(stem.rpartition("/")[0] for stem in images)
    single = {folder for folder, count in of_images.items() if folder and count == 1}
    of_labels = {stem.rpartition("/")[0] for stem in labels} - {""}
    if not of_labels or 2 * len(of_labels & (single | set(images))) < len(of_labels):
        return ""
    return f"every label seems to show one object: write `{_keys(instances=FILES)}`"


def _layout_below(source: LabelMapSource) -> str:
    """The sentence for a folder whose images lie deeper; "" if it has none."""
    image, label = source.folders.image_dir.path, source.folders.label_dir.path
    children = _subfolders(image)
    split = like([child.name for child in children], SPLITS)
    for folder in (image, image / (split or "")):
        names = _image_and_label_folder(folder)
        if names is not None:
            keys = _keys(image_dir=folder / names[0], label_dir=folder / names[1])
            return f"Write `{keys}`."
    found = Counter(filter(None, map(_image_and_label_folder, children[:ENOUGH])))
    if found:
        names, _ = found.most_common(1)[0]
        objects = FILES if _several_labels(children[:ENOUGH], names) else ""
        of_images, of_labels = (image / "*" / name for name in names)
        keys = _keys(image_dir=of_images, label_dir=of_labels, instances=objects)
        return f"Every folder below it has images and labels of its own: write `{keys}`."
    if any(map(_has_images, children[:ENOUGH])):
        keys = _keys(image_dir=image / "**", label_dir=label / "**")
        return f"There are images in folders below it: write `{keys}` if labels lie likewise."
    return ""


def _image_and_label_folder(folder: Path) -> "Optional[tuple[str, str]]":
    """The names of the folders of images and of labels in a folder that has both."""
    names = [child.name for child in _subfolders(folder)]
    image, label = like(names, IMAGE_FOLDERS), like(names, LABEL_FOLDERS)
    return None if image is None or label is None else (image, label)


def _several_labels(folders: "list[Path]", names: "tuple[str, str]") -> bool:
    """Whether there are more labels than images in folders that have both."""
    images, labels = (
        sum(_is_image(file) for folder in folders if (folder / name).is_dir()
            for file in (folder / name).iterdir())
        for name in names
    )  # fmt: skip
    return labels > images


def _content(folder: Path) -> str:
    """A sentence on what a folder has instead of images."""
    counts = Counter(path.suffix for path in _files(folder))
    if not counts:
        return f"{folder} has no files." if not _subfolders(folder) else ""
    kinds = ", ".join(f"{n} *{ending}" for ending, n in counts.most_common(MOST_ENDINGS))
    endings = ", ".join(IMAGE_ENDINGS)
    return (
        _pickle_sentence(folder) or f"{folder} has {kinds}; files that are read end with {endings}."
    )


def _pickle_sentence(folder: Path) -> str:
    """The sentence on what Cellpose's program saves; "" if a folder has none of it."""
    if not any(path.name.endswith(CELLPOSE_ENDING) for path in _files(folder)):
        return ""
    return (
        f"{folder} has Cellpose's files *{CELLPOSE_ENDING}, which are not read, for they are "
        "Python pickles, and to open one may run code: save the masks as PNG or TIFF (in Cellpose "
        "`--save_png` or `--save_tif`, or the File menu)."
    )


def _files(folder: Path) -> "list[Path]":
    return [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]


def _subfolders(folder: Path) -> "list[Path]":
    if not folder.is_dir():
        return []
    children = sorted(folder.iterdir())
    return [child for child in children if child.is_dir() and not child.name.startswith(".")]


def _has_images(folder: Path) -> bool:
    return any(map(_is_image, folder.iterdir()))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")
