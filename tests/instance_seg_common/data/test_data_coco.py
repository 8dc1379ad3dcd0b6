"""COCO JSON: classes before loading, and sentences for broken files."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image

from instance_seg_common.data import coco, register_coco_dataset
from instance_seg_common.errors import UserError


def content(**changes):
    return {
        "images": [{"id": 5, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 9,
                "iscrowd": 0,
                "area": 16,
                "bbox": [2, 3, 4, 4],
                "segmentation": [[2, 3, 6, 3, 6, 7, 2, 7]],
            }
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        **changes,
    }


@pytest.fixture
def registered(fresh_name, folders):
    """A registered set whose JSON can be rewritten: function of the text of the file."""
    folders.write("images", np.zeros((20, 30, 3), np.uint8))
    path = folders.root / "set.json"
    register_coco_dataset(fresh_name, path, folders.root / "images")
    return path


def test_classes_are_known_before_loading(registered, fresh_name):
    registered.write_text(json.dumps(content()))
    metadata = MetadataCatalog.get(fresh_name)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.get("nothing", "absent") == "absent"
    (record,) = DatasetCatalog.get(fresh_name)
    assert record["annotations"][0]["category_id"] == 1
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}


def test_the_json_is_read_once_when_loading_comes_first(registered, fresh_name, monkeypatch):
    registered.write_text(json.dumps(content()))
    monkeypatch.setattr(coco, "read_classes", lambda path: pytest.fail("read twice"))
    DatasetCatalog.get(fresh_name)
    assert MetadataCatalog.get(fresh_name).thing_classes == ["cat", "dog"]


def test_crowds_become_a_region_to_ignore(registered, fresh_name):
    base = content()["annotations"][0]
    runs = {"size": [20, 30], "counts": [0, 20, 580]}  # the first column
    crowds = [
        {**base, "id": 2, "iscrowd": 1, "segmentation": runs},
        {**base, "id": 3, "iscrowd": 1, "segmentation": [[10, 5, 14, 5, 14, 9, 10, 9]]},
    ]
    registered.write_text(json.dumps(content(annotations=[base, *crowds])))
    (record,) = DatasetCatalog.get(fresh_name)
    expected = np.zeros((20, 30), np.uint8)
    expected[:, 0] = 255
    expected[5:9, 10:14] = 255
    assert np.array_equal(read_image(record["sem_seg_file_name"], "L")[..., 0], expected)
    registered.write_text(json.dumps(content()))
    assert "sem_seg_file_name" not in DatasetCatalog.get(fresh_name)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(content())[:90], "not valid JSON"),
        ("[]", "holds a list"),
        (json.dumps({"shapes": []}), "under 'images'"),
        (json.dumps(content(categories=[])), "'categories'"),
        (json.dumps(content(annotations=[{"id": 1, "image_id": 5}])), "cannot be used"),
        (json.dumps(content(images=[{**content()["images"][0], "file_name": "b.png"}])), "b.png"),
    ],
)
def test_broken_json_is_a_sentence(registered, fresh_name, text, words):
    registered.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        DatasetCatalog.get(fresh_name)
    assert str(registered) in str(caught.value)


def test_missing_json(registered, fresh_name):
    for use in (DatasetCatalog.get, lambda name: MetadataCatalog.get(name).thing_classes):
        with pytest.raises(UserError, match=r"set\.json does not exist.*DETECTRON2_DATASETS"):
            use(fresh_name)


@pytest.mark.parametrize("empty", [{}, {"segmentation": []}, {"segmentation": None}])
def test_annotations_without_a_mask_are_dropped_and_counted(registered, fresh_name, empty, caplog):
    base = content()["annotations"][0]
    without = {key: value for key, value in base.items() if key != "segmentation"}
    lost = [{**without, **empty, "id": number} for number in (2, 3)]
    registered.write_text(json.dumps(content(annotations=[base, *lost])))
    (record,) = DatasetCatalog.get(fresh_name)
    assert len(record["annotations"]) == 1 and "segmentation" in record["annotations"][0]
    (warning,) = [r.getMessage() for r in caplog.records if "without a mask" in r.getMessage()]
    for words in ("2 annotations", "a.png", "check_dataset("):
        assert words in warning


def test_category_ids_of_two_kinds_are_texts(registered, fresh_name):
    categories = [{"id": 9, "name": "dog"}, {"id": "x", "name": "cat"}]
    registered.write_text(json.dumps(content(categories=categories)))
    metadata = MetadataCatalog.get(fresh_name)
    assert metadata.thing_classes == ["dog", "cat"]
    assert metadata.thing_dataset_id_to_contiguous_id == {"9": 0, "x": 1}
