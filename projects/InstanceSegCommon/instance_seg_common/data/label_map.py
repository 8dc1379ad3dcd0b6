"""Registering data sets that are a folder of images and a folder of instance-id label images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypedDict, Union

from ..errors import UserError
from .class_rules import WrittenRule, class_of_id_rule
from .label_files import LabelFolders
from .label_folder import Folder
from .label_map_loading import load_label_maps
from .label_map_source import LabelMapSource
from .reading import taken_reading
from .registration import register_source

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FurtherOptions(TypedDict, total=False):
    """Options of :func:`register_label_map_dataset` that few sets need, described there."""

    ignore_dir: Union[str, Path, None]
    instances: Optional[str]
    max_instances: Optional[int]
    image_suffix: str
    label_suffix: str
    planes: str
    channels: Sequence[int]
    exif: str


def register_label_map_dataset(
    name: str,
    image_dir: Union[str, Path],
    label_dir: Union[str, Path],
    *,
    thing_classes: Sequence[str] = ("object",),
    class_dir: Union[str, Path, None] = None,
    class_of_id: Optional[WrittenRule] = None,
    **options: "Unpack[FurtherOptions]",
) -> None:
    """Register a folder of images with a folder of instance-id label images; nothing is read yet.

    An image belongs to the label of the same file-name stem. Labels are lossless images of one
    channel, of any depth; ids need not be consecutive. Images without instances stay in the set.

    Args:
        name: in ``DatasetCatalog``.
        image_dir, label_dir: folders. In a path, "*" stands for any folder, "**" for any number of
            them; what they stand for is part of the stem.
        thing_classes: names of the classes. With one class and neither ``class_dir`` nor
            ``class_of_id``, every id is an instance of it.
        class_dir: folder of class-id images, 0 = none, 1.. = classes in the order of
            ``thing_classes``. An instance has the class of most of its pixels; where that is 0 it
            is left out.
        class_of_id: the class of an instance from its id. An int d: ``id // d`` is the class,
            counted from 1, and 0 is none. {"divisor": d, "classes": {26: 0, 24: "person"}}:
            ``id // d`` (d = 1 if not given) is looked up; the values are indices or names, and an
            id that is not listed is no instance.
        **options: ``instances``, what of a label is an object: "ids", every value; "components",
            every connected component of a value, corners included; "colors", every colour;
            "files", every label file, of which an image has several, named by its stem,
            ``label_suffix`` and a number, or in a folder of its own, for which ``label_dir`` has a
            "*"; if not given, ids, unless these look like a binary mask or classes.
            ``ignore_dir``, folder of 8 bit images, 255 = region to ignore, handed on as
            ``sem_seg_file_name``; images without one have nothing to ignore. ``max_instances``:
            images with more instances than this are left out. ``image_suffix``, ``label_suffix``:
            ends of the stems that are dropped before stems are compared ("_rgb", "_label"); files
            without them are not part of the set. ``planes`` ("error", "first", "each"),
            ``channels`` (numbers from 0) and ``exif`` ("apply", "ignore"): how images are read, see
            :class:`~.reading.Reading`; with "each" the labels have as many planes as the images.

    Raises:
        UserError: parameters that contradict each other, or a name that is taken. Files are read
            when the set is first used, and what is wrong with them is raised then.
    """
    register_label_map_source(
        source_of_folders(
            name=name,
            image_dir=image_dir,
            label_dir=label_dir,
            thing_classes=thing_classes,
            class_dir=class_dir,
            class_of_id=class_of_id,
            **options,
        )
    )


def source_of_folders(
    *,
    name: str,
    thing_classes: Sequence[str] = ("object",),
    class_of_id: Optional[WrittenRule] = None,
    max_instances: Optional[int] = None,
    instances: Optional[str] = None,
    hint: str = "",
    check_command: str = "",
    **folders: Any,
) -> LabelMapSource:
    """The source of the arguments of :func:`register_label_map_dataset`.

    Args:
        name, thing_classes, class_of_id, max_instances, instances: see there.
        hint: what to do about a folder that is missing.
        check_command: what lists everything that is wrong with the set.
        **folders: ``image_dir``, ``label_dir``, ``class_dir``, ``ignore_dir``, ``image_suffix``,
            ``label_suffix``, ``planes``, ``channels``, ``exif``, see there.

    Raises:
        UserError: parameters that contradict each other.
    """
    if isinstance(thing_classes, str) or not all(isinstance(c, str) for c in thing_classes):
        raise UserError(
            f"Data set {name!r}: the classes must be a list of names, not {thing_classes!r}."
        )
    reading = taken_reading(folders)
    return LabelMapSource(
        name=name,
        reading=reading,
        folders=_label_folders(**folders),
        thing_classes=tuple(thing_classes),
        class_of_id=class_of_id_rule(name, class_of_id, thing_classes),
        max_instances=max_instances,
        instances=instances,
        hint=hint,
        check_command=check_command,
    )


def _label_folders(
    *,
    image_dir: Union[str, Path],
    label_dir: Union[str, Path],
    class_dir: Union[str, Path, None] = None,
    ignore_dir: Union[str, Path, None] = None,
    image_suffix: str = "",
    label_suffix: str = "",
) -> LabelFolders:
    return LabelFolders(
        image_dir=Folder.at(image_dir, image_suffix),
        label_dir=Folder.at(label_dir, label_suffix),
        class_dir=None if class_dir is None else Folder.at(class_dir),
        ignore_dir=None if ignore_dir is None else Folder.at(ignore_dir),
    )


def register_label_map_source(source: LabelMapSource, *, replace: bool = False) -> None:
    """Register a :class:`LabelMapSource`; ``replace`` as in ``registration.register_source``."""
    metadata = {
        "thing_classes": list(source.thing_classes),
        "evaluator_type": source.evaluator_type,
        "image_dir": source.folders.image_dir.written,
        "label_dir": source.folders.label_dir.written,
    }
    register_source(source, load_label_maps, metadata, replace=replace)
