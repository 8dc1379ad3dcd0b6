"""Small worlds for the tests of the pictures."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BoxMode, Instances
from PIL import Image
from pycocotools import mask as mask_util

from instance_seg_common.config import add_common_config
from instance_seg_common.masks import instances_from_masks


@pytest.fixture(scope="session")
def tiny_cfg():
    """A Mask R-CNN of stock parts that runs in a fraction of a second."""
    cfg = get_cfg()
    add_common_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 80
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    cfg.INPUT.MIN_SIZE_TEST = 96
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    return cfg


@pytest.fixture(scope="session")
def tiny_model(tiny_cfg):
    """Untrained, but its scores differ enough for NMS to have an order."""
    torch.manual_seed(3)
    model = build_model(tiny_cfg).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=3.0)
    return model


@pytest.fixture
def squares(tmp_path):
    """A data set dict: four squares on a dark 64 x 96 image, one crowd at the right."""
    height, width = 64, 96
    labels = np.zeros((height, width), dtype=np.int64)
    for index, (y, x) in enumerate([(4, 4), (4, 36), (40, 4), (40, 36)], start=1):
        labels[y : y + 16, x : x + 16] = index
    image = np.full((height, width, 3), 10, dtype=np.uint8)
    image[labels > 0] = (40, 40, 40)
    Image.fromarray(image).save(tmp_path / "squares.png")
    crowd = np.zeros_like(labels)
    crowd[:, 70:] = 1
    annotations = [annotation(labels == i, i % 2) for i in range(1, 5)]
    annotations.append({**annotation(crowd == 1, 0), "iscrowd": 1})
    return {
        "file_name": str(tmp_path / "squares.png"),
        "image_id": 7,
        "height": height,
        "width": width,
        "annotations": annotations,
        "labels": labels,
    }


def annotation(mask, category):
    """One annotation of Detectron2's format."""
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": rle,
        "bbox": mask_util.toBbox(rle).tolist(),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": 0,
    }


@pytest.fixture
def make_instances():
    """A function: label map, classes and scores by id -> Instances in the order of the ids."""

    def make(labels, classes=None, scores=None):
        ids = [int(i) for i in np.unique(labels) if i]
        size = labels.shape
        if not ids:
            empty = Instances(size)
            empty.pred_masks = torch.zeros(0, *size, dtype=torch.bool)
            empty.scores, empty.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
            return empty
        masks = torch.as_tensor(np.stack([labels == i for i in ids])).float()
        return instances_from_masks(
            masks,
            torch.tensor([(scores or {}).get(i, 0.9) for i in ids]),
            torch.tensor([(classes or {}).get(i, 0) for i in ids]),
            size,
            size,
        )

    return make
