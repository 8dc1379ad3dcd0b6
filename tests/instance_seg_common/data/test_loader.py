"""The loaders: a resumed stream is the uninterrupted one, and bad files are sentences."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from instance_seg_common.data.loader import build_test_loader, build_train_loader
from instance_seg_common.data.mapper import build_augmentations, build_train_mapper
from instance_seg_common.errors import UserError


def batches(cfg, start, count):
    return list(itertools.islice(build_train_loader(cfg, start), count))


def test_resumed_stream_has_the_same_images_and_augmentations(tiny_cfg):
    tiny_cfg.SOLVER.IMS_PER_BATCH = 2
    tiny_cfg.INPUT.AUGMENTATIONS = [["RandomBrightness", [0.5, 2.0]]]
    whole = batches(tiny_cfg, 0, 12)
    tail = batches(tiny_cfg, 7, 5)
    for one, other in zip(whole[7:], tail):
        assert [d["image_id"] for d in one] == [d["image_id"] for d in other]
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(one, other))


def test_stream_does_not_depend_on_the_number_of_workers(tiny_cfg):
    alone = batches(tiny_cfg, 0, 4)
    tiny_cfg.DATALOADER.NUM_WORKERS = 2
    helped = batches(tiny_cfg, 0, 4)
    assert all(torch.equal(a[0]["image"], b[0]["image"]) for a, b in zip(alone, helped))


def test_stream_is_shuffled_anew_in_each_epoch(tiny_cfg):
    ids = [batch[0]["image_id"] for batch in batches(tiny_cfg, 0, 24)]
    epochs = [ids[0:8], ids[8:16], ids[16:24]]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_augmentations_come_from_the_config_and_only_the_squash_at_test_time(tiny_cfg):
    tiny_cfg.INPUT.AUGMENTATIONS = [["RandomRotation", {"angle": [0, 90]}], ["Resize", [[32, 48]]]]
    assert [type(a).__name__ for a in build_augmentations(tiny_cfg, True)][:2] == [
        "RandomRotation",
        "Resize",
    ]
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0
    assert [type(a).__name__ for a in build_augmentations(tiny_cfg, False)][0] == "Resize"
    image = next(iter(build_test_loader(tiny_cfg, tiny_cfg.DATASETS.TEST[0])))[0]["image"]
    assert image.shape == (3, 32, 48)


def test_crop_leaves_tight_boxes(tiny_cfg):
    tiny_cfg.INPUT.CROP.ENABLED = True
    tiny_cfg.INPUT.CROP.TYPE = "absolute"
    tiny_cfg.INPUT.CROP.SIZE = [40, 40]
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    mapper = build_train_mapper(tiny_cfg)
    for item in DatasetCatalog.get(tiny_cfg.DATASETS.TRAIN[0]):
        instances = mapper(item)["instances"]
        assert instances.image_size == (40, 40)
        tight = instances.gt_masks.get_bounding_boxes().tensor
        assert torch.equal(instances.gt_boxes.tensor, tight)


@pytest.mark.parametrize(
    ("entry", "word"),
    [(["RandomRotatoin", []], "RandomRotatoin"), (["RandomFlip", {"chance": 1}], "chance")],
)
def test_unknown_augmentations_are_named(tiny_cfg, entry, word):
    tiny_cfg.INPUT.AUGMENTATIONS = [entry]
    with pytest.raises(UserError, match=word):
        build_augmentations(tiny_cfg, True)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", None])
def test_unreadable_images_are_named(tiny_cfg, tmp_path, content):
    item = dict(DatasetCatalog.get(tiny_cfg.DATASETS.TRAIN[0])[0])
    item["file_name"] = str(tmp_path / "broken.png")
    if content is not None:
        (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png"):
        build_train_mapper(tiny_cfg)(item)


@pytest.mark.parametrize("crop", [False, True])
def test_percentiles_are_those_of_the_whole_image(tiny_cfg, tmp_path, crop):
    """A crop of a 16-bit image has the values that the whole image has there."""
    tiny_cfg.INPUT.NORMALIZATION = "percentile"
    tiny_cfg.INPUT.RANDOM_FLIP = "none"
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    tiny_cfg.INPUT.CROP.ENABLED = crop
    tiny_cfg.INPUT.CROP.TYPE, tiny_cfg.INPUT.CROP.SIZE = "absolute", [24, 24]
    item = dict(DatasetCatalog.get(tiny_cfg.DATASETS.TRAIN[0])[0])
    item["file_name"] = str(tmp_path / "deep.png")
    pixels = np.random.default_rng(0).permutation(64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(pixels).save(item["file_name"])
    image = build_train_mapper(tiny_cfg)(item)["image"]
    low, high = np.percentile(pixels, [1.0, 99.8])
    whole = (pixels - low) * 255 / (high - low)
    assert image.shape == (3, 24, 24) if crop else (3, 64, 64)
    rows, columns = np.unravel_index(
        [int(np.abs(whole - float(value)).argmin()) for value in image[0].flatten()], whole.shape
    )
    assert np.allclose(image[0].flatten(), whole[rows, columns], atol=1e-3)
    assert (rows.max() - rows.min(), columns.max() - columns.min()) == (
        (23, 23) if crop else (63, 63)
    )


def test_unknown_samplers_are_named(tiny_cfg):
    tiny_cfg.DATALOADER.SAMPLER_TRAIN = "EpochSampler"
    with pytest.raises(UserError, match="EpochSampler"):
        build_train_loader(tiny_cfg)
