"""Which evaluators a data set gets, and what they leave on disk."""

import tempfile

import numpy as np
import pytest
from detectron2.evaluation import print_csv_format
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.build import EVALUATORS, counted_detections


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
    cfg.TEST.DETECTIONS_PER_IMAGE = 50  # a matter of the model, not of what counts
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


def test_the_rule_of_coco_on_its_own_images_alone(register, cfg, caplog):
    masks = grid_masks(150)
    records = [make_record(1, masks)]
    perfect = [make_instances(masks, np.linspace(1, 0.5, 150))]
    assert run(build_evaluator(cfg, register(records)), records, perfect)["segm"]["AP"] > 99.9
    assert "150 predictions" not in caplog.text
    name = register(records, "coco_mini_test")
    assert counted_detections(name) == 100
    results = run(build_evaluator(cfg, name), records, perfect)
    assert results["segm"]["AP"] == pytest.approx(100 * 67 / 101)
    assert "best 100 predictions" in caplog.text
    assert "1 of 1 images have more, at most 150" in caplog.text


def test_unknown_type_names_what_there_is(register, cfg, monkeypatch):
    name = register([], evaluator_type="lvis")
    with pytest.raises(UserError, match=f"{name}.*'lvis'.*coco"):
        build_evaluator(cfg, name)
    monkeypatch.setitem(EVALUATORS, "lvis", lambda cfg, name, output_dir: [])
    assert build_evaluator(cfg, name).evaluate() == {}
