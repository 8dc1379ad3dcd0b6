"""Registration again and again, and from a YAML file."""

import json

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from instance_seg_common.config import add_common_config
from instance_seg_common.data import (
    register_coco_dataset,
    register_from_config,
    register_label_map_dataset,
)
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.errors import UserError


def config(*entries):
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.DATASETS.REGISTER = list(entries)
    return cfg


def test_the_same_parameters_again_change_nothing(fresh_name, tmp_path):
    for _ in range(2):
        register_label_map_dataset(
            fresh_name,
            tmp_path,
            str(tmp_path),
            thing_classes=["x", "y"],
            class_of_id={"divisor": 7, "classes": {1: "x", 2: 1}},
        )
    assert fresh_name in DatasetCatalog.list()


def test_other_parameters_name_both_and_the_fix(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path / "one", tmp_path)
    with pytest.raises(UserError) as caught:
        register_label_map_dataset(fresh_name, tmp_path / "two", tmp_path)
    for words in (fresh_name, "image_dir was", "/one", "is now", "/two", "another name"):
        assert words in str(caught.value)


def test_another_rule_is_another_parameter(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path, tmp_path, class_of_id={"classes": {1: 0}})
    with pytest.raises(UserError, match="class_of_id"):
        register_label_map_dataset(fresh_name, tmp_path, tmp_path, class_of_id={"classes": {2: 0}})


def test_a_name_of_another_kind_is_taken(fresh_name, tmp_path):
    register_label_map_dataset(fresh_name, tmp_path, tmp_path)
    with pytest.raises(UserError, match="taken by LabelMapSource"):
        register_coco_dataset(fresh_name, tmp_path / "a.json", tmp_path)


def test_a_name_of_other_code_is_taken(fresh_name, tmp_path):
    DatasetCatalog.register(fresh_name, list)
    with pytest.raises(UserError, match="taken by other code"):
        register_label_map_dataset(fresh_name, tmp_path, tmp_path)


def test_yaml_dump_and_reload(fresh_name, folders, two_squares, tmp_path):
    folders.add("a", two_squares)
    path = tmp_path / "config.yaml"
    path.write_text(
        f"""
VERSION: 2
DATASETS:
  TRAIN: [{fresh_name}]
  REGISTER:
    - name: {fresh_name}
      format: label_map
      image_dir: {folders.root}/images
      label_dir: {folders.root}/labels
      classes: [small, large]
      class_of_id: {{divisor: 1000, classes: {{0: small, 1: 1}}}}
"""
    )
    cfg = config()
    cfg.merge_from_file(str(path), allow_unsafe=False)
    register_from_config(cfg)
    path.write_text(cfg.dump())
    again = config()
    again.merge_from_file(str(path), allow_unsafe=False)
    assert again.DATASETS.REGISTER == cfg.DATASETS.REGISTER
    register_from_config(again)
    (record,) = DatasetCatalog.get(fresh_name)
    assert [a["category_id"] for a in record["annotations"]] == [0, 1]
    assert MetadataCatalog.get(fresh_name).thing_classes == ["small", "large"]


def test_relative_paths_are_looked_up_in_both_places(
    fresh_name, folders, two_squares, monkeypatch, tmp_path
):
    folders.add("a", two_squares)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (folders.root / "labels").rename(tmp_path / "work" / "labels")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folders.root))
    entry = {"format": "label_map", "image_dir": "images", "label_dir": "labels"}
    register_from_config(config({"name": fresh_name, **entry}))
    assert len(DatasetCatalog.get(fresh_name)) == 1


def test_a_missing_folder_names_both_places(fresh_name, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    entry = {"format": "label_map", "image_dir": "images", "label_dir": "labels"}
    register_from_config(config({"name": fresh_name, **entry}))
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(fresh_name)
    for words in ("image_dir", "REGISTER[0]", str(tmp_path / "root"), "DETECTRON2_DATASETS"):
        assert words in str(caught.value)


def test_coco_entry(fresh_name, folders):
    folders.write("images", np.zeros((4, 4, 3), np.uint8))
    image = {"id": 1, "file_name": "a.png", "height": 4, "width": 4}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (folders.root / "a.json").write_text(json.dumps(content))
    entry = {"json_file": f"{folders.root}/a.json", "image_dir": f"{folders.root}/images"}
    for _ in range(2):
        register_from_config(config({"name": fresh_name, "format": "coco", **entry}))
    assert DatasetCatalog.get(fresh_name)[0]["image_id"] == 1


def test_synthetic_entry_twice(fresh_name):
    entry = {"name": fresh_name, "format": "synthetic", "kind": "sticks", "num_images": 2}
    for _ in range(2):
        register_from_config(config(entry))
    assert len(DatasetCatalog.get(fresh_name)) == 2


GOOD = {"name": "n", "format": "label_map", "image_dir": "i", "label_dir": "l"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("text", "must be a mapping"),
        ({"format": "coco"}, "needs a name"),
        ({"name": "n", "format": "voc"}, "'voc'.*label_map, coco, synthetic"),
        ({"name": "n", "format": ["coco"]}, "format.*'coco'.*give one of"),
        ({**GOOD, "labels": "l"}, "name 'n'.*unknown key 'labels'.*label_dir"),
        ({"name": "n", "format": "label_map", "image_dir": "i"}, "lacks the key 'label_dir'"),
        ({"name": "n", "format": "coco", "image_dir": "i"}, "lacks the key 'json_file'"),
        ({**GOOD, "image_dir": 3}, "image_dir must be a path, not 3"),
        ({**GOOD, "classes": ["a", "b"]}, "2 classes"),
        ({**GOOD, "max_instances": "many"}, "max_instances"),
        ({"name": "n", "format": "synthetic", "kind": "x"}, "REGISTER.*'x'"),
        ({"name": "n", "format": "synthetic", "colour": 1}, "REGISTER.*colour"),
    ],
)
def test_a_wrong_entry_is_a_sentence(entry, words):
    with pytest.raises(UserError, match=words):
        register_from_config(config(entry))
    assert "n" not in DatasetCatalog.list()


def test_dicts_of_a_registered_set(fresh_name):
    DatasetCatalog.register(fresh_name, lambda: [{"image_id": 3}])
    assert get_dataset_dicts(fresh_name) == [{"image_id": 3}]


def test_dicts_of_an_unknown_name_name_those_like_it():
    with pytest.raises(UserError, match="no data set 'coco_2017_vall'.*coco_2017_val"):
        get_dataset_dicts("coco_2017_vall")


def test_dicts_of_a_stock_set_without_files_name_the_file_and_the_variable(fresh_name, tmp_path):
    lost = tmp_path / "lost.json"
    register_coco_instances(fresh_name, {}, str(lost), str(tmp_path))
    with pytest.raises(UserError) as caught:
        get_dataset_dicts(fresh_name)
    for words in (fresh_name, str(lost), "DETECTRON2_DATASETS"):
        assert words in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"images": [{}], "annotations": []}'])
def test_dicts_of_a_stock_set_with_a_broken_file_name_it(fresh_name, tmp_path, content):
    broken = tmp_path / "broken.json"
    broken.write_text(content)
    register_coco_instances(fresh_name, {}, str(broken), str(tmp_path))
    with pytest.raises(UserError, match="broken.json is not as its loader expects it"):
        get_dataset_dicts(fresh_name)


def test_dicts_of_a_set_that_needs_a_package_name_it(fresh_name):
    def load():
        raise ModuleNotFoundError("No module named 'lvis'")

    DatasetCatalog.register(fresh_name, load)
    with pytest.raises(UserError, match="without another package.*lvis"):
        get_dataset_dicts(fresh_name)


def test_a_sentence_of_a_loader_is_passed_on_as_it_is(fresh_name):
    def load():
        raise UserError("The folder images is empty.")

    DatasetCatalog.register(fresh_name, load)
    with pytest.raises(UserError) as caught:
        get_dataset_dicts(fresh_name)
    assert str(caught.value) == "The folder images is empty."
