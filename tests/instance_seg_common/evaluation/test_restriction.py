"""Predictions restricted to the supplied foreground, and the challenge's scores with it."""

import numpy as np
import pytest
import torch
import voc_cvppp_trees as trees
from detectron2.data import DatasetCatalog
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.data import register_builtin_datasets
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.restriction import restrict_instances


@pytest.fixture
def plants(tmp_path, monkeypatch):
    """Data set dicts of ten plants, and their labels."""
    trees.write_cvppp(tmp_path / "sets")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    register_builtin_datasets()
    records = DatasetCatalog.get("cvppp_A1")
    return records, [trees.leaves(number) for number in range(1, 11)]


def run_on_plants(cfg, records, predictions):
    """As ``square_sets.run``, with the file of the foreground in the input, as the mapper does."""
    evaluator = build_evaluator(cfg, "cvppp_A1")
    evaluator.reset()
    for record, instances in zip(records, predictions):
        inputs = {k: v for k, v in record.items() if k != "annotations"}
        evaluator.process([inputs], [{"instances": instances}])
    return evaluator.evaluate()


def grown(labels):
    """Each leaf one pixel larger to the right and downwards: (N, H, W) bool."""
    masks = np.stack([labels == k for k in range(1, labels.max() + 1)])
    larger = masks.copy()
    larger[:, 1:] |= masks[:, :-1]
    larger[:, :, 1:] |= masks[:, :, :-1]
    return larger


def test_masks_lose_what_is_outside_and_what_lies_outside_is_not_evaluated():
    masks = grid_masks(3)
    region = np.zeros((120, 120), dtype=bool)
    region[:, :12] = True  # all of the first, half of the second, nothing of the third
    empty = np.zeros((1, 120, 120), dtype=bool)
    instances = make_instances(np.concatenate([masks, empty]), [0.9, 0.8, 0.7, 0.6])
    restricted = restrict_instances(instances, region)
    assert torch.equal(restricted.scores, instances.scores[[0, 1, 3]])
    assert restricted.pred_masks.flatten(1).sum(dim=1).tolist() == [36, 18, 0]
    assert not (restricted.pred_masks.numpy() & ~region).any()
    assert torch.equal(restricted.pred_boxes.tensor, instances.pred_boxes.tensor[[0, 1, 3]])
    assert instances.pred_masks.sum() == 3 * 36  # the model's output stays as it was
    assert restrict_instances(instances, None) is instances


def test_the_challenge_supplies_the_foreground(plants, cfg):
    records, labels = plants
    predictions = [make_instances(grown(item)) for item in labels]
    without = run_on_plants(cfg, records, predictions)
    # A leaf of 14 x 16 pixels becomes 15 x 17 without a corner: Dice 2 * 224 / (224 + 254).
    assert without["sbd"]["SBD"] == pytest.approx(448 / 478)
    assert without["sbd"]["SBD_std"] == pytest.approx(0)
    cfg.TEST.FOREGROUND_GIVEN = True
    given = run_on_plants(cfg, records, predictions)
    assert given["sbd"]["SBD"] == 1
    assert given["segm"]["AP"] == pytest.approx(100)
    assert without["segm"]["AP"] < 90
    assert given["dic"] == {"DiC": 0, "DiC_std": 0, "DiC_signed": 0}


def test_an_invention_off_the_plant_does_not_count_as_a_leaf(plants, cfg):
    records, labels = plants
    predictions = []
    for item in labels:
        masks = np.stack([item == k for k in range(1, item.max() + 1)])
        outside = np.zeros((1, *item.shape), dtype=bool)
        outside[0, :3] = True
        predictions.append(make_instances(np.concatenate([masks, outside])))
    assert run_on_plants(cfg, records, predictions)["dic"]["DiC"] == 1
    cfg.TEST.FOREGROUND_GIVEN = True
    assert run_on_plants(cfg, records, predictions)["dic"]["DiC"] == 0


def test_sbd_and_dic_have_a_deviation_over_images(plants, cfg):
    records, labels = plants
    predictions = []
    for number, item in enumerate(labels):
        found = int(item.max()) - number % 2  # one leaf is missed in every second image
        predictions.append(make_instances(np.stack([item == k for k in range(1, found + 1)])))
    results = run_on_plants(cfg, records, predictions)
    per_image = [1 - (n % 2) / int(item.max()) for n, item in enumerate(labels)]
    assert results["sbd"]["SBD"] == pytest.approx(np.mean(per_image))
    assert results["sbd"]["SBD_std"] == pytest.approx(np.std(per_image))
    assert (results["dic"]["DiC"], results["dic"]["DiC_std"]) == (0.5, 0.5)


def test_errors_are_sentences(register, plants, cfg):
    cfg.TEST.FOREGROUND_GIVEN = True
    records = [make_record(1, grid_masks(2))]
    evaluator = build_evaluator(cfg, register(records))
    with pytest.raises(UserError, match=r"FOREGROUND_GIVEN is True.*image_1\.png.*cvppp_"):
        run(evaluator, records, [make_instances(grid_masks(2))])
    soft = make_instances(grown(plants[1][0]).astype(np.float32))
    with pytest.raises(UserError, match="float32"):
        run_on_plants(cfg, plants[0][:1], [soft])
