"""Which evaluators a data set gets, and what they leave on disk."""

import tempfile

import numpy as np
import pytest
from detectron2.evaluation import print_csv_format
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.build import EVALUATORS


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, which is also where temporary files go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("metadata", [{}, {"evaluator_type": "coco"}])
@pytest.mark.parametrize("predicted", [0, 130])
def test_all_scores_and_nothing_on_disk(register, cfg, elsewhere, metadata, predicted):
    masks = grid_masks(130)
    records = [make_record(1, masks)]
    cfg.TEST.DETECTIONS_PER_IMAGE = 400
    evaluator = build_evaluator(cfg, register(records, **metadata))
    results = run(evaluator, records, [make_instances(masks[:predicted])])
    share = float(predicted > 0)
    assert set(results) == {"bbox", "segm", "matching", "sbd", "dic"}
    assert results["segm"]["AP"] == pytest.approx(100 * share)
    assert results["matching"]["accuracy50"] == results["sbd"]["SBD"] == share
    assert results["dic"]["DiC"] == 130 - predicted
    assert all(isinstance(v, float) for figures in results.values() for v in figures.values())
    print_csv_format(results)
    assert list(elsewhere.iterdir()) == []


def test_config_keys_reach_the_evaluators(register, cfg, tmp_path):
    masks = np.concatenate([grid_masks(3), grid_masks(4, side=3)[3:]])
    records = [make_record(1, masks)]
    name = register(records)
    predictions = [make_instances(masks, [0.9, 0.7, 0.2, 0.9])]
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.6
    assert run(build_evaluator(cfg, name), records, predictions)["matching"]["tp50"] == 3
    cfg.TEST.LABEL_MAP_MIN_AREA = 10
    results = run(build_evaluator(cfg, name, output_dir=tmp_path), records, predictions)
    assert results["matching"]["tp50"] == 2
    assert (tmp_path / "per_image.csv").is_file()


def test_unknown_type_names_what_there_is(register, cfg, monkeypatch):
    name = register([], evaluator_type="lvis")
    with pytest.raises(UserError, match=f"{name}.*'lvis'.*coco"):
        build_evaluator(cfg, name)
    monkeypatch.setitem(EVALUATORS, "lvis", lambda cfg, name, output_dir: [])
    assert build_evaluator(cfg, name).evaluate() == {}
