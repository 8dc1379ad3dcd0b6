"""The results of all images of a run in one file, for those forms that are read so."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from ..data.cache import atomic_path
from .journal import Entry


def join_coco(folder: Path, entries: "Sequence[Entry]") -> Path:
    """``coco.json``: a COCO data set of all images, each annotation with its score.

    Args:
        folder: of the run.
        entries: of the images.
    """
    path = folder / "coco.json"
    images, categories, number = [], [], 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [\n')
        for image_id, entry in enumerate(entries, start=1):
            content = json.loads(_file_of(folder / "coco", entry, ".json").read_text("utf-8"))
            images.append({**content["images"][0], "id": image_id})
            categories = max(categories, content["categories"], key=len)
            for annotation in content["annotations"]:
                number += 1
                moved = {**annotation, "id": number, "image_id": image_id}
                file.write((",\n" if number > 1 else "") + json.dumps(moved))
        rest = json.dumps({"images": images, "categories": categories})
        file.write("\n], " + rest[1:] + "\n")
    return path


def join_csv(folder: Path, entries: "Sequence[Entry]") -> Path:
    """``objects.csv``: the tables of all images, the image in the first column.

    Args:
        folder: of the run.
        entries: of the images.
    """
    path = folder / "objects.csv"
    files = [_file_of(folder / "csv", entry, ".csv") for entry in entries]
    columns: dict[str, None] = {}  # images may differ in their channels
    for file in files:
        with file.open(newline="", encoding="utf-8") as table:
            columns.update(dict.fromkeys(next(csv.reader(table))))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["image", *columns])
        writer.writeheader()
        for entry, file in zip(entries, files):
            with file.open(newline="", encoding="utf-8") as table:
                writer.writerows({"image": entry.name, **row} for row in csv.DictReader(table))
    return path


def _file_of(folder: Path, entry: Entry, ending: str) -> Path:
    return folder / f"{entry.name}{ending}"


JOINED = {"coco": join_coco, "csv": join_csv}
