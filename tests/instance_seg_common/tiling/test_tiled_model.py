"""Any model on images larger than its tiles, with an oracle in place of a network."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.mapper import build_test_mapper
from instance_seg_common.engine.limits import evaluate_and_count
from instance_seg_common.engine.predictor import predict
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.engine.trainer import InstanceSegTrainer
from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_to_label_map
from instance_seg_common.meta_arch import note_limit
from instance_seg_common.tiling.tiled_model import TiledModel, with_tiles


class Oracle(nn.Module):
    """Predicts what the image says: its value is the id of an object; notes what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batched_inputs):
        (item,) = batched_inputs
        ids = item["image"][0]
        self.seen.append(tuple(ids.shape))
        note_limit("AN.ORACLES_LIMIT", 3)
        if tuple(ids.shape) != (item["height"], item["width"]):
            size = (item["height"], item["width"])
            ids = nn.functional.interpolate(ids[None, None].float(), size=size)[0, 0]
        values = torch.unique(ids[ids > 0])
        result = Instances(tuple(ids.shape))
        result.pred_masks = ids == values[:, None, None]
        result.pred_boxes = Boxes(torch.zeros(len(values), 4))
        result.scores = torch.full((len(values),), 0.9)
        result.pred_classes = torch.zeros(len(values), dtype=torch.int64)
        return [{"instances": result}]


@pytest.fixture
def cfg():
    cfg = load_cfg("")
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0], [1.0]
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST = "L", 0
    cfg.TEST.TILE_SIZE, cfg.TEST.TILE_OVERLAP = 48, 8
    return cfg


@pytest.fixture(scope="module")
def labels():
    """Discs on 150 x 110 pixels, each with a value of its own."""
    yy, xx = np.indices((150, 110))
    result = np.zeros((150, 110), np.uint8)
    for value, (y, x, r) in enumerate(
        [(48, 40, 9), (20, 80, 15), (90, 60, 25), (135, 100, 14), (120, 10, 6)], start=1
    ):
        result[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = value
    return result


def same_partition(one, other):
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist()))
    return len(pairs) == len(np.unique(one)) == len(np.unique(other)) and (0, 0) in pairs


def test_tiles_give_what_the_whole_image_gives(cfg, labels):
    oracle = Oracle()
    found = predict(cfg, oracle, labels)
    assert same_partition(instances_to_label_map(found), labels.astype(int))
    assert len(oracle.seen) > 4 and max(max(size) for size in oracle.seen) <= 48
    cfg.TEST.TILE_SIZE = 0
    assert len(predict(cfg, oracle, labels)) == len(found) == 5
    assert oracle.seen[-1] == labels.shape


def test_a_tile_is_resized_as_an_image_is(cfg, labels):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 400
    oracle = Oracle()
    found = predict(cfg, oracle, labels)
    assert {min(size) for size in oracle.seen} == {96}
    assert len(oracle.seen) > 4 and max(max(size) for size in oracle.seen) < 120
    assert found.image_size == labels.shape
    predict(cfg, oracle, labels[:48, :40])  # no larger than a tile: an image as before
    assert oracle.seen[-1] == (115, 96)


def test_small_images_and_models_without_tiles_pass_through(cfg):
    model = Oracle()
    assert isinstance(with_tiles(cfg, model), TiledModel)
    assert with_tiles(cfg, with_tiles(cfg, model)).model is model
    cfg.TEST.TILE_SIZE = 0
    assert with_tiles(cfg, model) is model


def test_images_of_up_to_one_and_a_half_tiles_stay_whole(cfg):
    """Tiles of little more than half the size would show less around each object."""
    for side, whole in ((49, True), (72, True), (73, False)):
        oracle = Oracle()
        predict(cfg, oracle, np.zeros((30, side), np.uint8))
        assert (oracle.seen == [(30, side)]) == whole


def test_a_tile_smaller_than_two_overlaps_is_a_sentence(cfg, labels):
    cfg.TEST.TILE_OVERLAP = 30
    with pytest.raises(UserError, match="two overlaps"):
        predict(cfg, Oracle(), labels)


def test_evaluation_predicts_in_tiles_and_counts_images(cfg, labels, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(labels).save(tmp_path / folder / f"{name}.png")
    name = f"tiled_{tmp_path.name}"
    register_label_map_dataset(name, str(tmp_path / "images"), str(tmp_path / "labels"))
    cfg.DATASETS.TEST, cfg.OUTPUT_DIR = (name,), str(tmp_path / "out")
    cfg.DATALOADER.NUM_WORKERS = 0
    oracle = Oracle()
    results, limits = evaluate_and_count(InstanceSegTrainer.test, cfg, oracle)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["matching"]["accuracy90"] == 1
    assert len(oracle.seen) > 8 and max(max(size) for size in oracle.seen) <= 48
    (limit,) = limits
    assert (limit.key, limit.images, limit.of) == ("AN.ORACLES_LIMIT", 2, 2)


def test_the_whole_image_sets_the_range_of_values(cfg, labels):
    """Each tile alone would have percentiles of its own."""
    cfg.INPUT.NORMALIZATION, cfg.INPUT.PERCENTILES = "percentile", [0.0, 100.0]

    class Highest(Oracle):
        def forward(self, batched_inputs):
            self.highest = [*getattr(self, "highest", []), float(batched_inputs[0]["image"].max())]
            return super().forward(batched_inputs)

    model = Highest()
    predict(cfg, model, labels.astype(np.uint16) * 100)
    assert {round(value, 3) for value in model.highest} <= {0, 51, 102, 153, 204, 255}
    assert max(model.highest) == 255 and min(model.highest) < 255


def test_the_tiled_mapper_leaves_large_images_alone(cfg, labels, tmp_path):
    cfg.INPUT.MIN_SIZE_TEST = 96
    for size, expected in [((150, 110), (150, 110)), ((48, 40), (115, 96))]:
        Image.fromarray(labels[: size[0], : size[1]]).save(tmp_path / "a.png")
        item = build_test_mapper(cfg, tiled=True)({"file_name": str(tmp_path / "a.png")})
        assert tuple(item["image"].shape[1:]) == expected
        assert (item["height"], item["width"]) == size
