"""Binary masks and class maps in place of ids are refused, by the loader and by the check."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from label_trees import FIRST, SECOND, image, label_map, square, write

from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.encoding import encode_label_map
from instance_seg_common.data.label_suspicion import suspicion
from instance_seg_common.errors import UserError


@pytest.fixture
def register(fresh_name, tmp_path):
    """Function of labels and options: a registered set of them."""

    def register(labels, **options):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if fresh_name in catalog.list():
                catalog.remove(fresh_name)
        for number, pixels in enumerate(labels):
            write(tmp_path / f"images/{number}.png", image())
            write(tmp_path / f"labels/{number}.png", pixels)
        register_label_map_dataset(fresh_name, tmp_path / "images", tmp_path / "labels", **options)
        return fresh_name

    return register


def binary(masks, value=255):
    return ((label_map(masks) > 0) * value).astype(np.uint8)


def classes(masks):
    labels = label_map(masks)
    return np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8)


FOUR = [*FIRST, square(25, 45)]


@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_is_refused_until_it_is_said_what_it_is(register, value):
    labels = [binary(FIRST, value), binary(SECOND, value), binary([], value)]
    name = register(labels)
    with pytest.raises(UserError, match=rf"looks like a binary mask: .* is {value}.*components"):
        DatasetCatalog.get(name)
    (error,) = check_dataset(name).errors
    assert error.kind == "no ids" and "`instances: components`" in error.sentence
    counts = {"components": [3, 2, 0], "ids": [1, 1, 0]}
    for kind, expected in counts.items():
        records = DatasetCatalog.get(register(labels, instances=kind))
        assert [len(record["annotations"]) for record in records] == expected
        assert check_dataset(name).ok


def test_a_class_map_is_refused_until_it_is_said_what_it_is(register):
    labels = [classes(FOUR), classes(FOUR)]
    name = register(labels)
    with pytest.raises(UserError, match=r"looks like a class map.*components.*class_of_id: 1"):
        DatasetCatalog.get(name)
    options = {"instances": "components", "class_of_id": 1, "thing_classes": ("x", "y")}
    record, _ = DatasetCatalog.get(register(labels, **options))
    assert [a["category_id"] for a in record["annotations"]] == [0, 0, 1, 1]
    report = check_dataset(name)
    assert report.ok and report.classes == {"x": 4, "y": 4}


def test_class_images_do_not_make_a_binary_mask_ids(register, tmp_path):
    for number in range(2):
        write(tmp_path / f"classes/{number}.png", binary(FIRST, 1))
    name = register([binary(FIRST), binary(FIRST)], class_dir=tmp_path / "classes")
    with pytest.raises(UserError, match="binary mask"):
        DatasetCatalog.get(name)


def test_corners_connect(register):
    diagonal = np.zeros((40, 60), np.uint8)
    diagonal[2:12, 2:12] = diagonal[12:22, 12:22] = 1
    (record,) = DatasetCatalog.get(register([diagonal], instances="components"))
    assert len(record["annotations"]) == 1


def encoded(*label_maps):
    return [encode_label_map(labels) for labels in label_maps]


def test_ids_are_not_suspected():
    one_each = [binary([square(2, 2)]), binary([square(20, 9)]), binary([square(7, 7)])]
    occluded = label_map(FOUR)
    occluded[5, :20] = 0  # cuts the first of four objects
    specks = binary(FIRST[:1])
    specks[30, ::7] = 255  # far from the object, one pixel each
    for labels in (
        encoded(label_map(FIRST), label_map(SECOND)),
        encoded(*one_each),
        encoded(*one_each, one_each[0], binary(SECOND)),  # one of five has two objects
        encoded(occluded),
        encoded(specks),
        encoded(binary([])),
        [],
    ):
        assert suspicion("set", labels) is None


def test_few_ids_that_are_the_same_in_all_images_need_less_evidence():
    """Two of six values in several parts: of two classes in each image, or of two of many ids."""
    pairs = [classes(FIRST), label_map(SECOND), classes(FIRST)]
    assert "class map: it has the values 1, 2" in suspicion("set", encoded(*pairs))
    many = [labels + 20 * n * (labels > 0) for n, labels in enumerate(pairs)]
    assert suspicion("set", encoded(*many)) is None


def test_what_is_evidence():
    sentence = suspicion("set", encoded(binary(FIRST), binary(SECOND), binary(SECOND[:1])))
    assert sentence is not None
    assert "in 2 of 3 cases" in sentence and "(up to 3)" in sentence


def test_sets_that_say_what_their_ids_are_are_not_suspected(register):
    name = register([binary(FIRST), binary(SECOND)], instances="ids")
    assert len(DatasetCatalog.get(name)) == 2


@pytest.mark.parametrize("name", ["dsb2018_train", "dsb2018_val", "cvppp_A1"])
def test_real_ids_are_not_suspected(name, shared_data, monkeypatch):
    from instance_seg_common.data import register_builtin_datasets

    monkeypatch.setenv("DETECTRON2_DATASETS", str(shared_data))
    register_builtin_datasets()
    try:
        assert DatasetCatalog.get(name)
    except UserError as error:
        assert "does not exist" in str(error)
