"""The sweep of the score threshold has the optimum that the predictions were made for."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from PIL import Image
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.config import add_common_config
from instance_seg_common.evaluation.label_map import LabelMapEvaluator
from instance_seg_common.evaluation.matching import Matching
from instance_seg_common.evaluation.threshold import (
    ScoreThresholdSweep,
    best_threshold,
    sweep_score_threshold,
    sweep_table,
)


def predictions():
    """4 right ones with scores of 0.62 and more, 4 invented ones below 0.42."""
    scores = [0.9, 0.8, 0.7, 0.62, 0.41, 0.3, 0.2, 0.1]
    return make_instances(grid_masks(8), scores)


class Oracle(torch.nn.Module):
    """A model that predicts the same for all images."""

    def forward(self, inputs):
        return [{"instances": predictions()} for _ in inputs]


def test_sweep_agrees_with_the_evaluator_at_each_threshold(register):
    records = [make_record(number, grid_masks(4)) for number in range(3)]
    name = register(records)
    thresholds = (0.05, 0.25, 0.5, 0.75)
    pooled = run(ScoreThresholdSweep(name, thresholds), records, [predictions()] * 3)
    for score in thresholds:
        evaluator = LabelMapEvaluator(name, score_threshold=score)
        expected = run(evaluator, records, [predictions()] * 3)["matching"]
        m = pooled[score]
        assert (m.tp, m.fp, m.fn) == (expected["tp50"], expected["fp50"], expected["fn50"])
        assert m.accuracy == expected["accuracy50"]


@pytest.fixture
def cfg():
    config = get_cfg()
    add_common_config(config)
    config.DATALOADER.NUM_WORKERS = 0
    return config


def write_images(records, folder):
    for record in records:
        record["file_name"] = str(folder / record["file_name"])
        Image.new("RGB", (120, 120)).save(record["file_name"])
    return records


def test_the_model_runs_over_some_images(register, cfg, tmp_path):
    records = write_images([make_record(n, grid_masks(4)) for n in range(6)], tmp_path)
    pooled = sweep_score_threshold(cfg, Oracle(), register(records), max_images=4)
    assert all(m.tp + m.fn == 16 for m in pooled.values())
    # 0.45 .. 0.6 are all perfect: the middle of them.
    assert best_threshold(pooled) == 0.5
    assert pooled[0.5].accuracy == 1
    table = sweep_table(pooled).splitlines()
    assert [line.split("|")[1].strip() for line in table if "best" in line] == ["0.50"]


@pytest.mark.parametrize(
    ("shift", "thresholds", "warning"),
    [(60, None, "No prediction matched"), (0, (0.5, 0.75), "0.5 is an end"), (0, None, None)],
)
def test_a_doubtful_best_is_warned_of(register, cfg, tmp_path, caplog, shift, thresholds, warning):
    masks = np.roll(grid_masks(4), shift, axis=1)
    records = write_images([make_record(1, masks)], tmp_path)
    arguments = {"thresholds": thresholds} if thresholds else {}
    with caplog.at_level("WARNING", logger="instance_seg_common.evaluation.threshold"):
        sweep_score_threshold(cfg, Oracle(), register(records), **arguments)
    messages = [record.getMessage() for record in caplog.records if "threshold" in record.name]
    assert len(messages) == (warning is not None)
    assert all(warning in message for message in messages)


@pytest.mark.parametrize(
    ("hits", "expected"), [([1, 3, 2], 0.2), ([3, 2, 3], 0.1), ([3, 1, 3, 3, 3], 0.4)]
)
def test_best_is_the_middle_of_the_longest_run(hits, expected):
    scores = [round(0.1 * n, 1) for n in range(1, len(hits) + 1)]
    pooled = {s: Matching(0.5, tp, 0, 3 - tp, float(tp)) for s, tp in zip(scores, hits)}
    assert best_threshold(pooled) == expected
