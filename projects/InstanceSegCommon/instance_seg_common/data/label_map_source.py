"""What a data set of label maps is: its folders, its classes, which images belong to it."""

from dataclasses import dataclass, field
from typing import Optional

from ..errors import UserError
from .class_rules import ClassOfId, IdTable
from .encoding import EncodedInstance
from .label_files import LabelFolders, SetFiles
from .label_objects import COLORS, FILES, IDS, KINDS, ObjectRule
from .reading import PLAIN, Reading
from .sbd import ENDING as SBD_ENDING
from .selection import Selection


@dataclass(frozen=True)
class LabelMapSource:
    """What one data set of label maps is.

    Args:
        name: in ``DatasetCatalog``.
        folders: where the files are.
        thing_classes: names of the classes.
        class_of_id: the class of an instance from its id. Without it, class images or a format that
            has the classes in its labels say which instance is of which class; without these, every
            id is an instance of the only class.
        id_table: which ids the format has; None: all are objects.
        selection: which of the images belong to the set; None: all.
        max_instances: images with more of them are left out.
        reading: how the images are read.
        instances: what of a label is an object, one of ``label_objects.KINDS``; None: ids, unless
            these look like anything else.
        evaluator_type: of the metadata, what the evaluators are chosen by.
        hint: what to do about a folder that is missing.
        check_command: what lists everything that is wrong, see ``registration.check_hint``.

    Raises:
        UserError: parameters that contradict each other.
    """

    name: str
    folders: LabelFolders
    thing_classes: tuple[str, ...] = ("object",)
    class_of_id: Optional[ClassOfId] = None
    id_table: Optional[IdTable] = None
    selection: Optional[Selection] = None
    max_instances: Optional[int] = None
    reading: Reading = PLAIN
    instances: Optional[str] = None
    evaluator_type: str = "coco"
    hint: str = field(default="", compare=False)
    check_command: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        class_images = self.folders.class_dir is not None
        if class_images and self.class_of_id is not None:
            raise UserError(
                f"Data set {self.name!r} has both class_dir and class_of_id; give one of them."
            )
        in_labels = SBD_ENDING in self.folders.label_dir.endings
        classes_given = class_images or in_labels or self.class_of_id is not None
        if not classes_given and len(self.thing_classes) != 1:
            raise UserError(
                f"Data set {self.name!r} has {len(self.thing_classes)} classes but nothing says "
                "which instance is of which: give class_dir or class_of_id, or exactly one class."
            )
        self._check_planes()
        limit = self.max_instances
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UserError(
                f"Data set {self.name!r}: max_instances must be a whole number of 0 or more, not "
                f"{limit!r}."
            )
        self._check_instances()

    def _check_planes(self) -> None:
        if self.reading.planes != "each":
            return
        if self.folders.ignore_dir is not None or self.instances == FILES:
            key = "instances: files" if self.instances == FILES else "ignore_dir"
            raise UserError(
                f"Data set {self.name!r} has planes: each and {key}, whose files have one plane; "
                "write the planes as files of their own, or leave one of the two keys out."
            )

    def _check_instances(self) -> None:
        if self.instances is not None and self.instances not in KINDS:
            raise UserError(
                f"Data set {self.name!r}: instances must be one of {', '.join(KINDS)}, not "
                f"{self.instances!r}."
            )
        if self.instances in (COLORS, FILES) and self.class_of_id is not None:
            raise UserError(
                f"Data set {self.name!r}: with `instances: {self.instances}` there are no ids that "
                "class_of_id could read; give class_dir, or one class."
            )

    @property
    def rule(self) -> ObjectRule:
        """What of a label is an object."""
        return ObjectRule(self.instances or IDS, self.id_table)

    @property
    def may_be_no_ids(self) -> bool:
        """Whether nobody has said that the values of the labels are ids."""
        return self.instances is None and self.id_table is None

    def files(self) -> SetFiles:
        """All files; of a selection only those of its images.

        Raises:
            UserError: a list of images is not as it should be.
        """
        folders = self.folders
        found = folders.images_and_labels(self.instances == FILES)
        images, labels = found.images, found.labels
        if self.selection is not None:
            stems = self.selection.stems(images, self)
            images = {stem: images.get(stem, []) for stem in stems}
            labels = {stem: labels[stem] for stem in images if stem in labels}
        return SetFiles(
            images=images,
            labels=labels,
            classes=folders.class_dir.files() if folders.class_dir else {},
            ignored=folders.ignore_dir.files() if folders.ignore_dir else {},
            foregrounds=folders.foreground_dir.files() if folders.foreground_dir else {},
            passed_over=found.passed_over,
        )

    def ignores(self, value: int) -> bool:
        """Whether an id or a class is a region to ignore."""
        return self.id_table is not None and self.id_table.ignores(value)

    def class_index(self, record: EncodedInstance) -> Optional[int]:
        """The 0-based class of an instance; None if the record is no instance of this set.

        Raises:
            UserError: a class that the set does not have.
        """
        index = self._class_index(record)
        if index is not None and not 0 <= index < len(self.thing_classes):
            raise UserError(
                f"instance {record['id']} gets class {index + 1}, but there are "
                f"{len(self.thing_classes)} classes: {', '.join(self.thing_classes)}"
            )
        return index

    def _class_index(self, record: EncodedInstance) -> Optional[int]:
        if self.ignores(record["id"]):
            return None
        if "classes" in record:
            class_id = record["classes"][0][0]
            return None if class_id == 0 or self.ignores(class_id) else class_id - 1
        return 0 if self.class_of_id is None else self.class_of_id.class_of(record["id"])
