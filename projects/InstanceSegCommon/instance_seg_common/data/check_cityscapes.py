"""The check of what only Cityscapes has: disparities and cameras."""

from .check_report import Report
from .cityscapes import CityscapesSource
from .cityscapes_distances import stereo_problems


def check_stereo(source: CityscapesSource, report: Report) -> None:
    """Check the files that distances are computed from, all pixels decoded.

    Args:
        source: where they are; with one of the two folders absent nothing is computed from the
            other, which is worth a notice.
        report: findings are added to it.
    """
    if not source.folders.label_dir.path.is_dir():
        return  # the report has the sentence
    absent = source.absent_stereo()
    for folder in absent:
        sentence = f"There is no folder {folder}: AP100m and AP50m will be left out."
        report.notice("no distances", folder, sentence)
    if not absent:
        for path, sentence in stereo_problems(source, decode=True):
            report.error("distance unusable", path, sentence)
