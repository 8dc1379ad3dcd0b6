"""The named sets: lazy, idempotent, of known counts."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from instance_seg_common.data import register_builtin_datasets
from instance_seg_common.errors import UserError


@pytest.fixture
def real(shared_data, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    register_builtin_datasets()


@pytest.mark.parametrize(
    ("name", "images", "annotations"),
    [
        ("dsb2018_val", 64, 3124),
        ("dsb2018_train_upto20", 143, 1675),
        ("dsb2018_val_upto20", 20, 254),
        ("coco_mini_train", 92, 829),
        ("coco_mini_val", 66, 560),
    ],
)
def test_counts(real, name, images, annotations):
    records = DatasetCatalog.get(name)
    assert len(records) == images
    assert sum(len(record["annotations"]) for record in records) == annotations


def test_classes(real):
    assert MetadataCatalog.get("dsb2018_val").thing_classes == ["nucleus"]
    assert len(MetadataCatalog.get("coco_mini_val").thing_classes) == 80


@pytest.mark.parametrize("name", ["dsb2018_train", "coco_mini_val"])
def test_absent_data_is_an_error_when_used_and_can_be_mended(tmp_path, monkeypatch, name):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_builtin_datasets()
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(name)
    folder = name.rsplit("_", 1)[0]
    for words in (str(tmp_path / folder), "Set DETECTRON2_DATASETS", f"contains {folder}/"):
        assert words in str(caught.value)


def test_a_second_call_changes_nothing_and_renders_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(tmp_path))
    register_builtin_datasets()
    before = MetadataCatalog.get("dsb2018_val")
    register_builtin_datasets()
    assert MetadataCatalog.get("dsb2018_val") is before
    assert list(tmp_path.iterdir()) == []
    for kind in ("shapes", "sticks", "shapes_256", "sticks_256"):
        for split in ("train", "val"):
            assert f"synthetic_{kind}_{split}" in DatasetCatalog.list()
