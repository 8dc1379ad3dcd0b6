"""The files of a data set of label maps: which there are, and how they belong together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import UserError
from .label_folder import FilesByStem, Folder, Found

# What Cellpose and Omnipose write beside an image; none of it is an image of a data set.
BESIDE_IMAGES = ("_masks", "_cp_masks", "_flows", "_cp_flows", "_cp_output", "_outlines")


@dataclass(frozen=True)
class LabelFolders:
    """The folders of a data set of label maps.

    Args:
        image_dir: images.
        label_dir: what the objects are.
        class_dir: class ids.
        ignore_dir: maps of ignored regions.
        foreground_dir: images that are not 0 where there is an object.
    """

    image_dir: Folder
    label_dir: Folder
    class_dir: Optional[Folder] = None
    ignore_dir: Optional[Folder] = None
    foreground_dir: Optional[Folder] = None

    def paths(self) -> "list[tuple[str, Path]]":
        """The folders in use: (parameter name, path) each."""
        folders = {
            "image_dir": self.image_dir,
            "label_dir": self.label_dir,
            "class_dir": self.class_dir,
            "ignore_dir": self.ignore_dir,
        }
        return [(name, folder.path) for name, folder in folders.items() if folder is not None]

    @property
    def in_one(self) -> bool:
        """Whether images and labels lie in one folder."""
        image, label = self.image_dir, self.label_dir
        return (image.path, image.below) == (label.path, label.below)

    def images_and_labels(self, one_file_an_object: bool) -> "SetFiles":
        """The images and the labels, and in one folder what is neither.

        Args:
            one_file_an_object: a stem has as many labels as its image has objects.
        """
        image, label = self.image_dir, self.label_dir
        labels_by = label.by_object if one_file_an_object else label.by_stem
        # With one folder an image its name is that of the image, whatever the image is called.
        by_folder = one_file_an_object and label.below and image.has_star
        images_by = image.by_object if by_folder else image.by_stem
        if not self.in_one:
            return SetFiles(images_by(image.found()), labels_by(label.found()))
        told = _told_apart(image, label, lambda found: _paths(labels_by(found)))
        return SetFiles(
            images_by(told.images),
            labels_by(told.labels),
            passed_over=tuple(found.path for found in told.passed_over),
        )


class _Told(NamedTuple):
    """The files of one folder that has both images and labels."""

    images: list[Found]
    labels: list[Found]
    passed_over: list[Found]


def _told_apart(
    image: Folder, label: Folder, labels_among: "Callable[[list[Found]], set[Path]]"
) -> _Told:
    """Images and labels of one folder: by both suffixes, or one of them and what it leaves.

    Args:
        image, label: the same folder.
        labels_among: the paths of those files whose names are of labels.
    """
    found = image.found()
    if image.suffix and label.suffix:
        return _Told(found, found, [])
    if image.suffix:
        return _Told(found, [f for f in found if not f.name.endswith(image.suffix)], [])
    if not label.suffix:
        return _Told(found, found, [])
    passed_over = [f for f in found if _is_beside(f.name, label.suffix)]
    left = [f for f in found if f not in passed_over]
    labels = labels_among(left)
    images = [f for f in left if f.path not in labels]
    return _Told(images, left, passed_over)


def _paths(files: FilesByStem) -> "set[Path]":
    return {path for paths in files.values() for path in paths}


def _is_beside(name: str, label_suffix: str) -> bool:
    """Whether a file is one that a program writes beside an image, but not a label of the set."""
    suffix = max((s for s in BESIDE_IMAGES if name.endswith(s)), key=len, default="")
    is_label = name.endswith(label_suffix) and len(label_suffix) >= len(suffix)
    return bool(suffix) and not is_label


@dataclass(frozen=True)
class SetFiles:
    """The files of a data set as they are on disk now, by stem.

    Args:
        images: with an empty list for an image that a list names and that is absent.
        labels: of the images in the set, and labels without an image; where every file shows one
            object, those of an image in the order of their numbers.
        classes, ignored, foregrounds: {} where the set has no folder of them.
        passed_over: neither images nor labels, though their endings are those of images.
    """

    images: FilesByStem
    labels: FilesByStem
    classes: FilesByStem = field(default_factory=dict)
    ignored: FilesByStem = field(default_factory=dict)
    foregrounds: FilesByStem = field(default_factory=dict)
    passed_over: tuple[Path, ...] = ()


def one_file(stem: str, files: FilesByStem, *, folder: Path, what: str) -> Path:
    """The only file of a stem.

    Args:
        stem: of the image.
        files: where it is looked up.
        folder: of the files, for the message.
        what: the file shows, for the message.

    Raises:
        UserError: there is none, or more than one.
    """
    paths = files.get(stem, [])
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise UserError(f"There is no {what} for image {stem!r} in {folder}; add it.")
    raise UserError(same_stem_sentence(stem, paths, folder))


def same_stem_sentence(stem: str, paths: "list[Path]", folder: Path) -> str:
    """The sentence for several files of one stem."""
    names = ", ".join(path.name for path in paths)
    return (
        f"In {folder} several files have the stem {stem!r}: {names}; give the others names of "
        "their own, or move them to another folder."
    )
