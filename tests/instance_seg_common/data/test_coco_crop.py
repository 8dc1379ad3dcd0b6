"""COCO's polygons with the crop of configs/Nuclei: what a model learns is what lies in the crop."""

import numpy as np
import pytest
import torch
from coco_sets import SIZE, SQUARES, good_content, square_mask, write_images, write_json
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T

from instance_seg_common.data import register_coco_dataset
from instance_seg_common.data.cut_annotations import transformed_instances
from instance_seg_common.data.mapper import build_train_mapper
from instance_seg_common.engine.checks import check_config
from instance_seg_common.engine.setup import load_cfg


@pytest.fixture
def polygons(fresh_name, tmp_path):
    """The name of a data set with polygons."""
    write_images(tmp_path / "images")
    path = write_json(tmp_path / "set.json", good_content())
    register_coco_dataset(fresh_name, path, tmp_path / "images")
    return fresh_name


def test_cut_polygons_are_the_cut_masks(polygons):
    record = DatasetCatalog.get(polygons)[0]
    crop = T.CropTransform(8, 4, 20, 24)  # x, y, width, height
    instances = transformed_instances(
        record["annotations"], T.TransformList([crop]), (24, 20), mask_format="bitmask"
    )
    expected = [square_mask(square)[4:28, 8:28] for square in SQUARES["a.png"]]
    assert torch.equal(instances.gt_masks.tensor, torch.as_tensor(np.array(expected)))
    assert instances.gt_classes.tolist() == [square[4] for square in SQUARES["a.png"]]


def test_the_crop_of_the_nuclei_config(polygons, repository_root):
    cfg = load_cfg(repository_root / "configs" / "Nuclei" / "mask_rcnn_R18.yaml")
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", 2])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (polygons,)
    assert cfg.INPUT.CROP.ENABLED and cfg.INPUT.MASK_FORMAT == "bitmask"
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", [24, 30]
    check_config(cfg)
    mapper = build_train_mapper(cfg)
    for record in DatasetCatalog.get(polygons):
        item = mapper(record)
        assert item["image"].shape[1:] == item["instances"].gt_masks.tensor.shape[1:]
        assert tuple(item["image"].shape[1:]) != SIZE
