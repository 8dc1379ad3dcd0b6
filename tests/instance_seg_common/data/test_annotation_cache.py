"""Label files are encoded once for each content."""

import numpy as np
import pytest
import tifffile
from detectron2.data import DatasetCatalog
from PIL import ImageFile

from instance_seg_common.data import annotation_cache, register_label_map_dataset


def load(name, folders, **options):
    register_label_map_dataset(name, folders.root / "images", folders.root / "labels", **options)
    return DatasetCatalog.get(name)


class Readings:
    """Counts how many label files are encoded anew."""

    def __init__(self, monkeypatch):
        self.paths = []
        original = annotation_cache.read_instances
        monkeypatch.setattr(
            annotation_cache,
            "read_instances",
            lambda paths, *rest, **options: (
                self.paths.append(paths[0].name),
                original(paths, *rest, **options),
            )[1],
        )


def test_cache_by_content(fresh_name, folders, two_squares, monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(tmp_path / "cache"))
    readings = Readings(monkeypatch)
    folders.add("a", two_squares)
    folders.add("b", np.roll(two_squares, 1, axis=1))
    first = load(fresh_name, folders)
    assert readings.paths == ["a.png", "b.png"]
    folders.path("labels", "a.png").touch()
    assert DatasetCatalog.get(fresh_name) == first
    assert readings.paths == ["a.png", "b.png"]
    two_squares[two_squares == 7] = 0
    folders.write("labels", two_squares, "a.png")
    assert len(DatasetCatalog.get(fresh_name)[0]["annotations"]) == 1
    assert readings.paths == ["a.png", "b.png", "a.png"]


@pytest.mark.parametrize("content", ["", "[[20, 30], [{", "{}", "7"])
def test_a_broken_cache_entry_is_made_anew(
    fresh_name, folders, two_squares, monkeypatch, tmp_path, content, caplog
):
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(tmp_path / "cache"))
    folders.add("a", two_squares)
    first = load(fresh_name, folders)
    (entry,) = (tmp_path / "cache" / "label_maps").iterdir()
    good = entry.read_text()
    entry.write_text(content)
    assert DatasetCatalog.get(fresh_name) == first
    assert entry.read_text() == good
    assert str(entry) in caplog.text


def test_class_rule_is_not_frozen_into_the_cache(fresh_name, folders, two_squares):
    folders.add("a", two_squares)
    rules = [{"classes": {7: index, 1000: index}} for index in (0, 1)]
    (one,) = load(fresh_name, folders, thing_classes=("x", "y"), class_of_id=rules[0])
    DatasetCatalog.remove(fresh_name)
    (two,) = load(fresh_name, folders, thing_classes=("x", "y"), class_of_id=rules[1])
    assert one["annotations"][0]["category_id"] == 0
    assert two["annotations"][0]["category_id"] == 1


def test_second_start_on_real_images_decodes_none(fresh_name, shared_data, monkeypatch):
    folder = shared_data / "dsb2018" / "train"
    register_label_map_dataset(
        fresh_name, folder / "images", folder / "labels", thing_classes=("nucleus",)
    )
    first = DatasetCatalog.get(fresh_name)

    def refuse(*args, **kwargs):
        raise AssertionError("a label was decoded again")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)  # headers may be read
    second = DatasetCatalog.get(fresh_name)
    assert first == second
    assert len(second) == 375
    assert sum(len(record["annotations"]) for record in second) == 15374


def test_each_kind_of_objects_has_its_own_entries(fresh_name, folders, two_squares):
    folders.add("a", (two_squares > 0).astype(np.uint8))
    for kind, number in (("components", 2), ("ids", 1), ("colors", 1), ("components", 2)):
        (record,) = load(fresh_name, folders, instances=kind)
        assert len(record["annotations"]) == number
        DatasetCatalog.remove(fresh_name)


def test_the_highest_ids_survive_the_cache(fresh_name, folders, two_squares):
    highest = 2**64 - 1
    labels = np.where(two_squares == 7, np.uint64(highest), two_squares.astype(np.uint64))
    folders.write("images", np.zeros((20, 30, 3), np.uint8))
    tifffile.imwrite(folders.path("labels", "a.tif"), labels)
    rule = {"classes": {highest: 1, 1000: 0}}
    (first,) = load(fresh_name, folders, thing_classes=("x", "y"), class_of_id=rule)
    assert [a["category_id"] for a in first["annotations"]] == [0, 1]
    assert DatasetCatalog.get(fresh_name) == [first]
