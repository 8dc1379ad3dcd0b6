"""Cityscapes' own tree: loaded by the loader of label maps; the check's sentences about it."""

import logging
import shutil

import cityscapes_tree as tree
import numpy as np
import pytest
from cityscapes_tree import label_files, write_image, write_tree
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from instance_seg_common.config import add_common_config
from instance_seg_common.data import register_builtin_datasets, register_cityscapes_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.cityscapes import CLASS_IDS
from instance_seg_common.data.images import read_ignore_map
from instance_seg_common.data.mapper import build_train_mapper
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.errors import UserError
from instance_seg_common.masks import decode_segmentation

VAL = "cityscapes_instance_val"
CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """``cityscapes`` below DETECTRON2_DATASETS, where nothing is yet."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_builtin_datasets()
    return tmp_path / "cityscapes"


def test_every_object_with_its_class_and_groups_as_ignored_regions(root):
    stems = write_tree(root)
    records = DatasetCatalog.get(VAL)
    assert [record["image_id"] for record in records] == sorted(stems)
    for record in records:
        label = tree.read_label(label_files(root)[record["image_id"]])
        assert record["file_name"].endswith(f"/{record['image_id']}_leftImg8bit.png")
        found = {}
        for annotation in record["annotations"]:
            mask = decode_segmentation(annotation["segmentation"], *label.shape)
            (number,) = np.unique(label[mask])
            assert np.array_equal(mask, label == number)
            assert annotation["iscrowd"] == 0
            found[int(number)] = CLASSES[annotation["category_id"]]
        expected = {
            i: name
            for i in np.unique(label).tolist()
            for name, class_id in CLASS_IDS.items()
            if i // 1000 == class_id
        }
        assert found == expected
        groups = (label >= 24) & (label <= 33)
        ignored = read_ignore_map(record["sem_seg_file_name"], label.shape)
        assert np.array_equal(ignored, groups)


def test_names_classes_splits_and_no_clash_with_detectron2(root):
    for split in ("train", "val", "test"):
        write_image(root, split, f"city{split}", 3)
        name = f"cityscapes_instance_{split}"
        assert MetadataCatalog.get(name).thing_classes == CLASSES
        assert MetadataCatalog.get(name).evaluator_type == "cityscapes"
        assert [r["image_id"] for r in DatasetCatalog.get(name)] == [f"city{split}_000003_000019"]
    assert "cityscapes_fine_instance_seg_val" in DatasetCatalog.list()


def test_an_image_without_groups_or_objects_stays_in_the_set(root):
    write_image(root, "val", "ulm", 0, scene=[(4, 0, 0, 5, 5, 9.0, 1.0)])
    (record,) = DatasetCatalog.get(VAL)
    assert record["annotations"] == []
    assert "sem_seg_file_name" not in record


def test_own_root_in_python(tmp_path, fresh_name):
    write_tree(tmp_path / "elsewhere")
    register_cityscapes_dataset(fresh_name, tmp_path / "elsewhere", "val")
    assert len(DatasetCatalog.get(fresh_name)) == 3


def test_the_second_start_decodes_nothing(root, monkeypatch):
    write_tree(root)
    first = DatasetCatalog.get(VAL)
    from instance_seg_common.data import annotation_cache

    monkeypatch.setattr(annotation_cache, "read_instances", None)
    assert DatasetCatalog.get(VAL) == first


def test_the_cache_holds_objects_and_groups_but_not_the_street(root):
    from instance_seg_common.data.annotation_cache import cached_instances
    from instance_seg_common.data.cityscapes import ID_TABLE
    from instance_seg_common.data.label_objects import ObjectRule

    stem, *_ = write_tree(root)
    _, records = cached_instances([label_files(root)[stem]], None, ObjectRule(id_table=ID_TABLE))
    ids = {record["id"] for record in records}
    assert ids == {i for i, *_ in tree.SCENE if i not in (4, 29001)}


def test_the_stock_mapper_carries_masks_and_ignored_regions(root):
    write_tree(root)
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.MASK_ON = "bitmask", True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (64,), "none"
    record = DatasetCatalog.get(VAL)[0]
    item = build_train_mapper(cfg)(record)
    assert item["instances"].gt_masks.tensor.shape == (len(record["annotations"]), 64, 128)
    label = tree.read_label(label_files(root)[record["image_id"]])
    share = ((label >= 24) & (label <= 33)).mean()
    assert (item["sem_seg"] == 255).float().mean().item() == pytest.approx(share, abs=0.01)


def paint(root, stem, value):
    path = label_files(root)[stem]
    label = tree.read_label(path).astype(np.uint16)
    label[60:64, 60:64] = value
    Image.fromarray(label).save(path)


def image_path(root, stem):
    return root / "leftImg8bit" / "val" / "frankfurt" / f"{stem}_leftImg8bit.png"


def cut(path):
    path.write_bytes(path.read_bytes()[:90])


def forget_labels(root, stem):
    for number in range(3, 8):
        write_image(root, "val", "munster", number)
    shutil.rmtree(root / "gtFine" / "val" / "munster")


def to_own_folder(root, stem):
    (root / "gtFine_trainvaltest").mkdir()
    shutil.move(root / "gtFine", root / "gtFine_trainvaltest" / "gtFine")


def without_cities(root, stem):
    for path in (root / "leftImg8bit" / "val").glob("*/*.png"):
        shutil.move(path, root / "leftImg8bit" / "val" / path.name)


# What is done to a good tree, and words of the sentence.
BREAKAGES = [
    (lambda r, s: shutil.rmtree(r), ["leftImg8bit/val does not exist", "contains cityscapes/"]),
    (
        lambda r, s: shutil.rmtree(r / "gtFine"),
        ["gtFine/val does not exist", "Unpack gtFine_trainvaltest.zip in"],
    ),
    (to_own_folder, ["gtFine/val does not exist", "gtFine_trainvaltest", "unpacked into a folder"]),
    (without_cities, ["no image */*_leftImg8bit.*", "leftImg8bit/val", "DETECTRON2_DATASETS"]),
    (forget_labels, ["5 of the 8 images", "'munster_000003_000019'", "gtFine/val"]),
    (lambda r, s: label_files(r)[s].unlink(), ["no label for image", "gtFine/val"]),
    (lambda r, s: paint(r, s, 34), ["the id 34", "0 to 33, 24000 to 33999"]),
    (lambda r, s: paint(r, s, 7001), ["_gtFine_instanceIds.png", "the id 7001"]),
    (lambda r, s: cut(label_files(r)[s]), ["_gtFine_instanceIds.png", "cannot be read"]),
    (lambda r, s: cut(image_path(r, s)) or image_path(r, s).write_bytes(b""), ["cannot be read"]),
    (
        lambda r, s: Image.new("RGB", (250, 128)).save(image_path(r, s)),
        ["_leftImg8bit.png", "250x128", "256x128"],
    ),
]


@pytest.mark.parametrize(("breakage", "words"), BREAKAGES)
def test_what_is_wrong_is_a_sentence(root, breakage, words):
    stem, *_ = write_tree(root)
    breakage(root, stem)
    DatasetCatalog.remove(VAL)  # the hint is that of the tree when the set was registered
    register_builtin_datasets()
    with pytest.raises(UserError) as caught:
        get_dataset_dicts(VAL)
    for word in [VAL, *words]:
        assert word in str(caught.value)
    assert not check_dataset(VAL).ok


def test_the_root_that_is_cityscapes_itself(tmp_path, monkeypatch):
    write_tree(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_builtin_datasets()
    with pytest.raises(UserError, match="seems to be Cityscapes itself.*folder above it"):
        get_dataset_dicts(VAL)


def test_the_check_of_a_sound_tree_counts(root):
    write_tree(root)
    report = check_dataset(VAL)
    assert report.ok, report.text()
    labels = [tree.read_label(path) for path in label_files(root).values()]
    objects = [tree.objects_of(label) for label in labels]
    assert report.instances_per_image == [len(masks) for masks, _ in objects]
    assert report.crowds == sum(len({24, 26} & set(np.unique(label))) for label in labels)
    counts = {name: sum(c.count(i) for _, c in objects) for i, name in enumerate(CLASSES)}
    assert report.classes == {name: count for name, count in counts.items() if count}
    assert sorted(report.areas) == sorted(int(m.sum()) for masks, _ in objects for m in masks)


def test_the_check_goes_on_behind_a_wrong_id_and_names_each_file(root):
    first, second, third = write_tree(root)
    paint(root, first, 40)
    cut(root / "disparity/val/frankfurt" / f"{second}_disparity.png")
    (root / "camera/val/lindau" / f"{third}_camera.json").unlink()
    found = {(f.kind, f.file.rsplit("/", 1)[1]) for f in check_dataset(VAL).errors}
    assert found == {
        ("unknown id", f"{first}_gtFine_instanceIds.png"),
        ("distance unusable", f"{second}_disparity.png"),
        ("distance unusable", f"{third}_camera.json"),
    }


def test_the_check_decodes_disparities(root):
    stem, *_ = write_tree(root)
    path = root / "disparity/val/frankfurt" / f"{stem}_disparity.png"
    path.write_bytes(path.read_bytes()[:-200])
    (error,) = check_dataset(VAL).errors
    assert error.file == str(path)
    assert "disparity_trainvaltest.zip" in error.sentence


def test_the_check_says_what_will_be_left_out(root):
    write_tree(root, stereo=False)
    report = check_dataset(VAL)
    assert report.ok
    assert "AP100m and AP50m will be left out" in report.text()


def test_the_tool(root, tmp_path, monkeypatch, capsys):
    import check_dataset as tool

    stem, *_ = write_tree(root)
    pictures = tmp_path / "pictures"
    arguments = ["check_dataset.py", VAL, "--max-pictures", "1", "--output", str(pictures)]
    monkeypatch.setattr("sys.argv", arguments)
    assert tool.main() == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{VAL}: 3 images, 26 instances, 4 regions to ignore")
    assert "Nothing is wrong." in out
    assert len(list(pictures.iterdir())) == 1
    paint(root, stem, 99)
    assert tool.main() == 1
    captured = capsys.readouterr()
    assert "the id 99" in captured.out
    assert "cannot be loaded" in captured.err


def test_labels_without_an_image_are_passed_over_with_a_warning(root, caplog):
    stem, *_ = write_tree(root)
    image_path(root, stem).unlink()
    with caplog.at_level(logging.WARNING):
        assert len(DatasetCatalog.get(VAL)) == 2
    assert "1 of the labels" in caplog.text
