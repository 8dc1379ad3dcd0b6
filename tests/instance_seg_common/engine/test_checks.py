"""What does not fit together is said before iteration 0."""

import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

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


def test_class_lists_that_differ(tiny_cfg):
    name = register("four_others", tiny_cfg, thing_classes=["a", "b", "c", "d"])
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


def register(name, tiny_cfg, change=lambda item: item, **metadata):
    """A variant of the tiny set."""
    if name not in DatasetCatalog.list():
        source = DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])
        DatasetCatalog.register(name, lambda: [change(item) for item in source])
        classes = MetadataCatalog.get(tiny_cfg.DATASETS.TEST[0]).thing_classes
        MetadataCatalog.get(name).set(**{"thing_classes": list(classes), **metadata})
    return name


def test_unknown_evaluator_type(tiny_cfg):
    tiny_cfg.DATASETS.TEST = (register("scored_oddly", tiny_cfg, evaluator_type="lvis"),)
    with pytest.raises(UserError, match="lvis"):
        check_config(tiny_cfg)


def test_boxes_without_masks_name_the_image(tiny_cfg):
    def bare(item):
        annotations = [dict(a) for a in item["annotations"]]
        annotations[-1].pop("segmentation")
        return {**item, "annotations": annotations}

    tiny_cfg.DATASETS.TRAIN = (register("bare_boxes", tiny_cfg, bare),)
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


def test_class_count_key_of_other_ways(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "RecurrentInstanceSeg"
    assert class_count_key(tiny_cfg) == "MODEL.RECURRENT_INSTANCE_SEG.NUM_CLASSES"
