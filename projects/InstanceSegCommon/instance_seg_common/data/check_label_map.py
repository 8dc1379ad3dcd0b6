"""The check of a data set of label maps.

Shapes: H, W height and width in pixels; a label map is (H, W) integers, 0 = background.
"""

from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np

from ..errors import UserError
from .check_classes import ClassCheck
from .check_image import check_image
from .check_report import Report, listed
from .encoding import EncodedInstance, encode_label_map
from .images import image_header, read_ignore_map
from .label_advice import folder_problem, missing_folder_sentence, pairing_advice
from .label_files import SetFiles, one_file, same_stem_sentence
from .label_images import read_foreground, read_label, size_sentence
from .label_map_source import LabelMapSource
from .label_objects import COLORS, COMPONENTS, FILES, covered, read_ids, read_instances
from .label_pixels import number_of_channels
from .label_suspicion import suspicion
from .planes import Plane, planes_of
from .sbd import ENDING as SBD_ENDING

IMAGE, LABEL, CLASS_IMAGE = "image", "label", "class image"


def check_label_maps(source: LabelMapSource, report: Report) -> None:
    """Check all files of a data set of label maps.

    Args:
        source: where the files are.
        report: findings and figures are added to it.
    """
    absent = [(key, path) for key, path in source.folders.paths() if not path.is_dir()]
    for key, path in absent:
        report.error("folder missing", path, missing_folder_sentence(source, key, path))
    if absent:
        return
    try:
        files = source.files()
    except UserError as error:  # a list of images
        report.error("list unusable", source.name, str(error))
        return
    problem = folder_problem(source, files)
    if problem:
        report.error("folders", source.folders.image_dir.path, problem)
        if files.images:
            return
    advice = pairing_advice(source, files)
    if advice:
        report.error("names do not pair", source.folders.label_dir.path, advice)
    if files.passed_over:
        first = files.passed_over[0]
        sentence = f"{len(files.passed_over)} files beside the images are passed over: {first} ..."
        report.notice("passed over", first, sentence)
    check = _ImageCheck(source, files, report)
    for stem in sorted(set(files.images) | set(files.labels)):
        check.run(stem)
    doubt = suspicion(source.name, check.encoded) if source.may_be_no_ids else None
    if doubt:
        report.error("no ids", source.folders.label_dir.path, doubt)


class _ImageCheck:
    """The check of the files of one stem; findings and figures are added to the report."""

    def __init__(self, source: LabelMapSource, files: SetFiles, report: Report) -> None:
        self.source, self.files, self.report = source, files, report
        self.encoded: list[list[EncodedInstance]] = []
        self.classes = ClassCheck(source, report)
        folders = source.folders
        # What is needed of each image: its folder and the files there.
        self.needed = {
            IMAGE: (folders.image_dir.path, files.images),
            LABEL: (folders.label_dir.path, files.labels),
        }
        if folders.class_dir is not None:
            self.needed[CLASS_IMAGE] = (folders.class_dir.path, files.classes)

    def run(self, stem: str) -> None:
        paths = {what: files.get(stem, []) for what, (_, files) in self.needed.items()}
        self._check_pairing(stem, paths)
        for plane in self._planes(paths):
            self._check_label(stem, paths, plane)
        self._check_foreground(stem, paths[LABEL])

    def _planes(self, paths: "dict[str, list[Path]]") -> "list[Plane]":
        """The planes of an image; the file as a whole where they cannot be told."""
        if paths[IMAGE] and paths[LABEL]:
            try:
                return planes_of(paths[IMAGE][0], paths[LABEL][0], self.source.reading)
            except UserError as error:
                self.report.error("planes differ", paths[IMAGE][0], str(error))
        return [] if self.source.reading.planes == "each" else [Plane(None, None)]

    def _check_pairing(self, stem: str, paths: "dict[str, list[Path]]") -> None:
        of_list = f"The list of {self.source.name}"
        for what, files in paths.items():
            folder, _ = self.needed[what]
            if len(files) > 1 and (what != LABEL or self.source.instances != FILES):
                sentence = same_stem_sentence(stem, files, folder)
                self.report.error("duplicate stem", files[1], sentence)
            if not files:
                other = next((path[0] for path in paths.values() if path), of_list)
                zero = " (for an image without objects, 0 everywhere)" if what == LABEL else ""
                sentence = f"{other} has no {what} of stem {stem!r} in {folder}; add it{zero}."
                self.report.error(f"{what} missing", other, sentence)

    def _check_label(self, stem: str, paths: "dict[str, list[Path]]", plane: Plane) -> None:
        labels, classes = self._read_both(paths, plane.of_label)
        if paths[IMAGE]:
            size = None if labels is None else (labels.shape[0], labels.shape[1])
            reading = replace(self.source.reading, plane=plane.of_image)
            check_image(paths[IMAGE][0], self.report, size, reading=reading, by="its label")
        if labels is None:
            return
        self._check_ignored(stem, labels.shape)
        label_path = paths[LABEL][0]
        labels, regions = self._without_regions(label_path, labels)
        records = self._encode(paths, labels, classes)
        self.encoded.append(records)
        limit = self.source.max_instances
        if limit is not None and len(records) > limit:
            return  # not part of the set
        self.report.crowds += regions
        if classes is not None:
            class_path = paths.get(CLASS_IMAGE, paths[LABEL])[0]
            self.classes.check_image(class_path, labels, classes)
            self.classes.check_instances(class_path, records)
        elif self.source.folders.class_dir is None:
            self.classes.check_rule(label_path, records)
        self._check_channels(label_path)
        self._check_parts(label_path, records)
        self._check_files(paths[LABEL], records)

    def _encode(
        self, paths: "dict[str, list[Path]]", labels: np.ndarray, classes: Optional[np.ndarray]
    ) -> "list[EncodedInstance]":
        """The instances of one image whose files are known to be readable."""
        if self.source.instances != FILES:
            each_part = self.source.instances == COMPONENTS
            return encode_label_map(labels, classes, each_part=each_part)
        class_path = None if classes is None else paths[CLASS_IMAGE][0]
        return read_instances(paths[LABEL], class_path, self.source.rule)[1]

    def _read_both(
        self, paths: "dict[str, list[Path]]", plane: Optional[int]
    ) -> "tuple[Optional[np.ndarray], Optional[np.ndarray]]":
        """Ids and classes (H, W) of one image; None what is absent or unusable.

        Of files of one object each it is 1 for ids wherever one has an object.
        """
        labels, classes = self._read(paths[LABEL], plane)
        class_paths = paths.get(CLASS_IMAGE, [])
        if labels is not None and class_paths:
            classes = self._read_classes(class_paths[0], plane)
            if classes is not None and classes.shape != labels.shape:
                sentence = size_sentence(
                    "Class image", class_paths[0], size=classes.shape, label_size=labels.shape
                )
                self.report.error("sizes differ", class_paths[0], sentence)
                classes = None
        if classes is not None and self.source.id_table is not None:
            classes = self.source.id_table.without_ignored(classes)
        return labels, classes

    def _read(
        self, paths: "list[Path]", plane: Optional[int]
    ) -> "tuple[Optional[np.ndarray], Optional[np.ndarray]]":
        """Ids (H, W) of the labels of an image, and classes if they are in the same file.

        None each if there is no path or it cannot be used.
        """
        if not paths:
            return None, None
        try:
            if self.source.instances == FILES:
                return covered(paths).astype(np.uint8), None
            return read_ids(paths[0], None, self.source.rule, plane=plane)
        except UserError as error:
            self.report.error("label unusable", paths[0], str(error))
            return None, None

    def _read_classes(self, path: Path, plane: Optional[int]) -> Optional[np.ndarray]:
        try:
            return read_label(path, plane=plane)
        except UserError as error:
            self.report.error("label unusable", path, str(error))
            return None

    def _check_foreground(self, stem: str, labels: "list[Path]") -> None:
        """Check the foreground of an image, against the size of its label if there is one."""
        if self.source.folders.foreground_dir is None:
            return
        folder = self.source.folders.foreground_dir.path
        try:
            path = one_file(stem, self.files.foregrounds, folder=folder, what="foreground")
            if labels:
                read_foreground(path, image_header(labels[0]).size)
        except UserError as error:
            self.report.error("foreground unusable", folder / stem, str(error))

    def _check_ignored(self, stem: str, size: "tuple[int, ...]") -> None:
        paths = self.files.ignored.get(stem, [])
        if not paths:
            return
        try:
            folder = paths[0].parent
            read_ignore_map(
                one_file(stem, self.files.ignored, folder=folder, what="ignore map"), size
            )
        except UserError as error:
            self.report.error("ignore map unusable", paths[0], str(error))

    def _without_regions(self, path: Path, labels: np.ndarray) -> "tuple[np.ndarray, int]":
        """Check ids by the set's table: (H, W) objects alone, and how many regions to ignore."""
        table = self.source.id_table
        if table is None:
            return labels, 0
        unknown = table.unknown_ids(labels)
        if unknown:
            self.report.error("unknown id", path, table.unknown_sentence(path, unknown))
        kept = table.select(labels)
        regions = [i for i in np.unique(kept).tolist() if i and table.ignores(i)]
        return np.where(np.isin(kept, regions), 0, kept), len(regions)

    def _check_channels(self, path: Path) -> None:
        if path.suffix.lower() == SBD_ENDING or self.source.instances == COLORS:
            return
        number = number_of_channels(path)
        if number > 1:
            sentence = f"{path} has {number} channels that say the same; one of them is read."
            self.report.notice("several channels", path, sentence)

    def _check_parts(self, path: Path, records: "list[EncodedInstance]") -> None:
        split = [record["id"] for record in records if len(record["parts"]) > 1]
        if split:
            sentence = (
                f"In {path} instances consist of several parts: ids {listed(split)}. If each part "
                f"is an object, write `instances: {COMPONENTS}`."
            )
            self.report.notice("disconnected instances", path, sentence)

    def _check_files(self, paths: "list[Path]", records: "list[EncodedInstance]") -> None:
        """Check the files of one object each."""
        if self.source.instances != FILES:
            return
        shown = {record["id"] for record in records}
        empty = [path for number, path in enumerate(paths, start=1) if number not in shown]
        if empty:
            sentence = f"{listed(empty)}: 0 everywhere, which is no object."
            self.report.notice("no object in the file", empty[0], sentence)
        of_mask: dict[str, int] = {}
        for record in records:
            first = of_mask.setdefault(record["counts"], record["id"])
            if first != record["id"]:
                path, same = paths[record["id"] - 1], paths[first - 1]
                sentence = f"{path} has the same pixels as {same.name}; both are kept as objects."
                self.report.notice("same mask twice", path, sentence)
