"""Folders as other programs write them: each entry of datasets/README.md reads its tree."""

import re

import numpy as np
import pycocotools.mask as mask_util
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.transforms import NoOpTransform
from label_trees import TREES, hide_files
from square_sets import make_instances

from instance_seg_common.config import get_cfg_with_plugins
from instance_seg_common.data import register_from_config
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.mapper import InstanceMapper
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator

ENTRY = re.compile(r"^\|.*\| `(\{name: .*format: label_map.*\})` \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def entries(repository_root):
    """The entries of the table in datasets/README.md by their names."""
    page = (repository_root / "datasets" / "README.md").read_text()
    return {entry["name"]: entry for entry in map(yaml.safe_load, ENTRY.findall(page))}


@pytest.fixture
def registered(entries, tmp_path, monkeypatch):
    """Function of the name of a tree: writes and registers it; returns the tree."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    names = []

    def register(name):
        tree = TREES[name](tmp_path)
        hide_files(tmp_path)
        cfg = get_cfg_with_plugins()
        cfg.DATASETS.REGISTER = [entries[name]]
        register_from_config(cfg)
        names.append(name)
        return tree

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_every_entry_has_a_tree(entries):
    assert set(entries) == set(TREES)


@pytest.mark.parametrize("name", TREES)
def test_the_entry_of_the_page_reads_the_tree(registered, name):
    tree = registered(name)
    records = {record["image_id"]: record for record in DatasetCatalog.get(name)}
    assert set(records) == set(tree.objects)
    for image_id, record in records.items():
        found = {
            mask_util.decode(a["segmentation"]).tobytes(): a["category_id"]
            for a in record["annotations"]
        }
        expected = [mask.astype(np.uint8, order="F") for mask in tree.objects[image_id]]
        assert found == {
            np.asarray(mask).tobytes(): index
            for mask, index in zip(expected, tree.classes[image_id])
        }


@pytest.mark.parametrize("name", TREES)
def test_nothing_is_wrong_with_the_tree(registered, name):
    tree = registered(name)
    report = check_dataset(name)
    assert report.ok, report.text()
    counts = [len(masks) for masks in tree.objects.values()]
    assert sorted(report.instances_per_image) == sorted(counts)
    passed_over = {"cellpose": 3, "cellpose_saved": 3}.get(name, 0)
    notices = [f.sentence for f in report.notices if f.kind == "passed over"]
    assert bool(notices) == bool(passed_over)
    assert not notices or notices[0].startswith(f"{passed_over} files")


def test_the_order_of_objects_is_that_of_their_numbers(registered):
    registered("numbered")
    record = next(r for r in DatasetCatalog.get("numbered") if r["image_id"] == "cell_1")
    assert [a["bbox"] for a in record["annotations"]] == [
        [2, 2, 12, 12],
        [8, 8, 12, 12],
        [30, 25, 8, 8],
    ]


def test_overlapping_objects_are_learned_and_scored_whole(registered):
    tree = registered("bowl")
    records = DatasetCatalog.get("bowl")
    cfg = get_cfg_with_plugins()
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, "bitmask"
    mapper = InstanceMapper(cfg, is_train=True, augmentations=[NoOpTransform()])
    evaluator = InstanceCOCOEvaluator("bowl")
    evaluator.reset()
    for record in records:
        masks = np.stack(tree.objects[record["image_id"]])
        learned = mapper(record)["instances"].gt_masks.tensor.numpy()
        assert sorted(map(np.ndarray.tobytes, learned)) == sorted(map(np.ndarray.tobytes, masks))
        evaluator.process([record], [{"instances": make_instances(masks)}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
