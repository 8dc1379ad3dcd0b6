"""What does not fit together is said before iteration 0."""

import logging

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNNWithTTA, build_model

from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.checks import check_config, class_count_key
from instance_seg_common.errors import UserError


def test_a_sound_config_passes(tiny_cfg):
    check_config(tiny_cfg)


def test_unknown_data_set_gets_the_similar_names(tiny_cfg):
    tiny_cfg.DATASETS.TRAIN = ("dsb2018_trian",)
    with pytest.raises(UserError, match="dsb2018_train"):
        check_config(tiny_cfg)


def test_empty_training_list(tiny_cfg):
    tiny_cfg.DATASETS.TRAIN = ()
    with pytest.raises(UserError, match=r"DATASETS\.TRAIN is empty"):
        check_config(tiny_cfg)


def test_wrong_class_count_names_key_and_number(tiny_cfg):
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(UserError, match=r"MODEL\.ROI_HEADS\.NUM_CLASSES to 4"):
        check_config(tiny_cfg)


def test_class_lists_that_differ(tiny_cfg, register_variant):
    name = register_variant("four_others", thing_classes=["a", "b", "c", "d"])
    tiny_cfg.DATASETS.TRAIN = (name,)
    with pytest.raises(UserError, match="different classes"):
        check_config(tiny_cfg)


def test_unknown_best_metric(tiny_cfg):
    tiny_cfg.TEST.BEST_METRIC = "AP"
    with pytest.raises(UserError, match="BEST_METRIC 'AP'"):
        check_config(tiny_cfg)


def test_unknown_architecture_lists_the_registered(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "MaskRCNN"
    with pytest.raises(UserError, match="MaskRCNN.*GeneralizedRCNN"):
        check_config(tiny_cfg)


def test_unknown_evaluator_type(tiny_cfg, register_variant):
    tiny_cfg.DATASETS.TEST = (register_variant("scored_oddly", evaluator_type="lvis"),)
    with pytest.raises(UserError, match="lvis"):
        check_config(tiny_cfg)


def test_boxes_without_masks_name_the_image(tiny_cfg, register_variant):
    def bare(dicts):
        annotations = [dict(a) for a in dicts[0]["annotations"]]
        annotations[-1].pop("segmentation")
        return [{**dicts[0], "annotations": annotations}, *dicts[1:]]

    tiny_cfg.DATASETS.TRAIN = (register_variant("bare_boxes", bare),)
    with pytest.raises(UserError, match=r"without segmentation, first in .*\.png"):
        check_config(tiny_cfg)


def test_evaluation_needs_a_test_set(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ()
    with pytest.raises(UserError, match=r"DATASETS\.TEST is empty"):
        check_config(tiny_cfg, training=False)


def test_stock_data_set_whose_files_are_absent(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ("coco_2014_minival",)
    with pytest.raises(UserError, match="coco_2014_minival"):
        check_config(tiny_cfg, training=False)


def test_masks_off(tiny_cfg):
    tiny_cfg.MODEL.MASK_ON = False
    with pytest.raises(UserError, match="MASK_ON"):
        check_config(tiny_cfg)


def test_rle_masks_need_the_bitmask_format(tiny_cfg):
    tiny_cfg.INPUT.MASK_FORMAT = "polygon"
    with pytest.raises(UserError, match="bitmask"):
        check_config(tiny_cfg)


def test_batch_that_processes_cannot_share(tiny_cfg, monkeypatch):
    monkeypatch.setattr("instance_seg_common.engine.checks.comm.get_world_size", lambda: 2)
    with pytest.raises(UserError, match=r"IMS_PER_BATCH is 1"):
        check_config(tiny_cfg)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("MODEL.BACKBONE.FREEZE_AT", 2, "frozen random layers"),
        ("MODEL.RESNETS.NORM", "FrozenBN", "cannot learn"),
        ("TEST.DETECTIONS_PER_IMAGE", 1, "DETECTIONS_PER_IMAGE is 1"),
    ],
)
def test_doubtful_settings_are_warned_of(tiny_cfg, caplog, key, value, word):
    tiny_cfg.merge_from_list([key, value])
    with caplog.at_level(logging.WARNING):
        check_config(tiny_cfg)
    assert word in caplog.text


def test_frozen_layers_are_no_surprise_where_a_backbone_brings_weights(tiny_cfg, caplog):
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 2
    tiny_cfg.MODEL.SOME_BACKBONE = CfgNode({"PRETRAINED": "somewhere"})
    check_config(tiny_cfg)
    assert "frozen" not in caplog.text
    tiny_cfg.MODEL.SOME_BACKBONE.PRETRAINED = ""
    check_config(tiny_cfg)
    assert "frozen random layers" in caplog.text


def test_the_norm_of_resnets_is_no_matter_of_another_backbone(tiny_cfg, caplog):
    tiny_cfg.MODEL.RESNETS.NORM = "FrozenBN"
    tiny_cfg.MODEL.BACKBONE.NAME = "build_some_backbone"
    check_config(tiny_cfg)
    assert "cannot learn" not in caplog.text


def test_class_count_key_of_other_methods(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "RecurrentInstanceSeg"
    assert class_count_key(tiny_cfg) == "MODEL.RECURRENT_INSTANCE_SEG.NUM_CLASSES"


def test_a_node_of_another_name_is_a_sentence(tiny_cfg):
    @META_ARCH_REGISTRY.register()
    class YOLACT2D(torch.nn.Module):
        """Its node should be called MODEL.YOLACT2_D."""

    tiny_cfg.MODEL.META_ARCHITECTURE = "YOLACT2D"
    with pytest.raises(UserError, match=r"no MODEL\.YOLACT2_D\.NUM_CLASSES, where the number"):
        check_config(tiny_cfg)


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("crowds", [True, False])
def test_a_training_on_nothing(tiny_cfg, register_variant, filtered, crowds):
    def change(dicts):
        for record in dicts:
            kept = [{**a, "iscrowd": 1} for a in record["annotations"]] if crowds else []
            record["annotations"] = kept
        return dicts

    name = register_variant(f"nothing_{filtered}_{crowds}", change)
    tiny_cfg.DATASETS.TRAIN = (name,)
    tiny_cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filtered
    with pytest.raises(UserError, match="has an instance to learn from") as caught:
        check_config(tiny_cfg)
    assert ("crowds: objects" in str(caught.value)) == crowds
    check_config(tiny_cfg, training=False)


def test_a_set_of_background_beside_another_is_warned_of(tiny_cfg, register_variant, caplog):
    def empty(dicts):
        return [{**record, "annotations": []} for record in dicts]

    name = register_variant("background", empty)
    tiny_cfg.DATASETS.TRAIN = (*tiny_cfg.DATASETS.TRAIN, name)
    check_config(tiny_cfg)
    assert "'background'] has an instance" in caplog.text


@pytest.mark.parametrize(
    "keys", [["INPUT.CROP.ENABLED", True], ["INPUT.AUGMENTATIONS", [["RandomCrop", []]]]]
)
def test_only_crops_of_polygons_with_keypoints_need_a_package(
    tiny_cfg, register_variant, monkeypatch, keys
):
    def polygons(dicts):
        square = [[1, 1, 9, 1, 9, 9, 1, 9]]
        return [
            {**r, "annotations": [{**a, "segmentation": square} for a in r["annotations"]]}
            for r in dicts
        ]

    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = (register_variant("polygons", polygons),)
    tiny_cfg.INPUT.MASK_FORMAT = "polygon"
    check_config(tiny_cfg)
    tiny_cfg.merge_from_list(keys)
    monkeypatch.setattr("instance_seg_common.engine.checks.find_spec", lambda name: None)
    check_config(tiny_cfg)  # the masks are drawn before the crop
    tiny_cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(UserError, match="shapely.*Set INPUT.MASK_FORMAT to bitmask"):
        check_config(tiny_cfg)
    monkeypatch.setattr("instance_seg_common.engine.checks.find_spec", lambda name: name)
    check_config(tiny_cfg)


@pytest.mark.parametrize("name", ["GeneralizedRCNN", "RecurrentInstanceSeg", "OtsuWatershed"])
def test_augmentation_that_would_change_nothing_is_refused(tiny_cfg, name):
    tiny_cfg.MODEL.META_ARCHITECTURE = name
    tiny_cfg.TEST.AUG.ENABLED = True
    with pytest.raises(UserError, match=rf"TEST\.AUG\.ENABLED is True, but {name}"):
        build_model_quietly(tiny_cfg)


def test_the_augmentation_of_mask_rcnn_that_the_sentence_names_works_in_python(tiny_cfg):
    tiny_cfg.TEST.AUG.MIN_SIZES = (64, 80)
    model = GeneralizedRCNNWithTTA(tiny_cfg, build_model(tiny_cfg).eval())
    results = InstanceSegTrainer.test(tiny_cfg, model)
    assert results["segm"]["AP"] >= 0
