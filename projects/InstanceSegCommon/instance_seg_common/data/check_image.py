"""The check of one image file, of any kind of data set."""

from pathlib import Path
from typing import Optional, Union

from ..errors import UserError
from .check_report import Report
from .image_facts import kind_of, orientation_sentence, size_sentence
from .image_header import ImageHeader
from .images import image_header, read_pixels
from .reading import PLAIN, Reading

RULE, TURNED = "axes by a rule", "EXIF orientation"
DEPTHS, CHANNELS = "several depths", "several numbers of channels"
GREY_OR_COLORS = {1, 3}  # numbers of channels that one model takes: grey is repeated


def check_image(
    path: Union[str, Path],
    report: Report,
    size: "Optional[tuple[int, int]]" = None,
    *,
    reading: Reading = PLAIN,
    by: str = "its annotation",
) -> "Optional[tuple[int, int]]":
    """Decode an image as training will.

    Args:
        path: of the file.
        report: findings are added to it.
        size: the height and width that belong to it.
        reading: of the image.
        by: what states the size.

    Returns:
        Its height and width, None if unreadable.
    """
    try:
        header = image_header(path, reading)
        height, width = read_pixels(path, reading).shape[:2]
    except UserError as error:
        report.error("image unreadable", path, str(error))
        return None
    report.image_kinds[kind_of(header)] += 1
    _check_depths(path, header.dtype, report)
    _check_channels(path, header, report)
    if header.rule and not _is_said(report, header.rule):
        report.notice(RULE, path, f"Image {path}: {header.rule}.")
    differs = size is not None and (height, width) != tuple(size)
    if header.orientation != 1:
        report.orientations[header.orientation] += 1
        if reading.exif == "apply" and not differs:
            report.notice(TURNED, path, orientation_sentence(path, header))
    if size is not None and differs:
        sentence = size_sentence(path, reading, size=(height, width), stated=size, by=by)
        report.error("sizes differ", path, sentence)
    return height, width


def _check_depths(path: Union[str, Path], dtype: str, report: Report) -> None:
    """Say once that a set mixes depths: one mean and one deviation cannot fit all its images."""
    others = sorted({kind.split(",")[0] for kind in report.image_kinds} - {dtype})
    if others and not any(notice.kind == DEPTHS for notice in report.notices):
        sentence = f"Image {path} is {dtype}, others of the set are {', '.join(others)}."
        report.notice(DEPTHS, path, sentence)


def _check_channels(path: Union[str, Path], header: ImageHeader, report: Report) -> None:
    """Say once that no model takes all images of a set: it has one number of channels."""
    number = header.channels - (header.alpha is not None)
    report.channels[number] += 1
    others = sorted(set(report.channels) - {number})
    fits = set(report.channels) <= GREY_OR_COLORS
    if others and not fits and not any(notice.kind == CHANNELS for notice in report.notices):
        sentence = (
            f"Image {path} has {number} channels, others of the set have "
            f"{', '.join(map(str, others))}, and a model takes one number: give `channels` of the "
            "files, or make sets of their own."
        )
        report.notice(CHANNELS, path, sentence)


def _is_said(report: Report, rule: str) -> bool:
    """Whether a notice has the rule already: a set has many files of one kind."""
    return any(n.kind == RULE and n.sentence.endswith(f": {rule}.") for n in report.notices)
