"""Label map scores of a data set: pooled and mean, ignored regions, files, several processes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.evaluation import DatasetEvaluators
from forked import run_script
from PIL import Image
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.label_map import LabelMapEvaluator, score_label_maps

NONE = np.zeros((0, 120, 120), dtype=bool)


def evaluate(register, records, predictions, **arguments):
    return run(LabelMapEvaluator(register(records), **arguments), records, predictions)


def test_perfect_prediction(register):
    masks = grid_masks(20)
    results = evaluate(register, [make_record("a", masks)], [make_instances(masks)])
    assert set(results) == {"matching", "sbd", "dic"}
    for key, value in results["matching"].items():
        assert isinstance(value, float)
        assert value == (20 if key.startswith("tp") else key[:2] not in ("fp", "fn")), key
    assert results["sbd"] == {"SBD": 1, "SBD_std": 0}
    assert results["dic"] == {"DiC": 0, "DiC_std": 0, "DiC_signed": 0}


def test_pooled_and_mean_differ_as_they_should(register):
    # Image 1: 9 of 9 found. Image 2: 0 of 1 found and 2 invented far away.
    records = [make_record(1, grid_masks(9)), make_record(2, grid_masks(1))]
    predictions = [make_instances(grid_masks(9)), make_instances(grid_masks(12)[10:])]
    results = evaluate(register, records, predictions)
    m = results["matching"]
    assert (m["tp50"], m["fp50"], m["fn50"]) == (9, 2, 1)
    assert m["accuracy50"] == 9 / 12 and m["accuracy50_mean"] == 1 / 2
    assert m["precision50"] == 9 / 11 and m["recall50"] == 9 / 10
    assert m["f1_50"] == pytest.approx(18 / 21) and m["pq50"] == pytest.approx(9 / 10.5)
    assert m["f1_50_mean"] == m["pq50_mean"] == 1 / 2
    assert results["sbd"] == {"SBD": 0.5, "SBD_std": 0.5}
    assert results["dic"] == {"DiC": 0.5, "DiC_std": 0.5, "DiC_signed": 0.5}


def test_shift_by_one_pixel_passes_some_thresholds(register):
    # Squares of 6 pixels moved by 1: IoU 5/7 = 0.714, Dice 5/6.
    records = [make_record(1, grid_masks(9))]
    results = evaluate(register, records, [make_instances(grid_masks(9, shift=1))])
    accuracies = [results["matching"][f"accuracy{t}"] for t in (50, 60, 70, 80, 90)]
    assert accuracies == [1, 1, 1, 0, 0]
    assert results["matching"]["matched_iou50"] == pytest.approx(5 / 7)
    assert results["sbd"]["SBD"] == pytest.approx(5 / 6)


def test_empty_images_and_empty_predictions(register):
    records = [make_record(1, NONE), make_record(2, grid_masks(4)), make_record(3, NONE)]
    predictions = [make_instances(NONE), make_instances(NONE), make_instances(grid_masks(2))]
    results = evaluate(register, records, predictions)
    m = results["matching"]
    assert (m["tp50"], m["fp50"], m["fn50"]) == (0, 2, 4)
    assert m["accuracy50"] == 0 and m["accuracy50_mean"] == pytest.approx(1 / 3)
    assert results["sbd"]["SBD"] == 0  # as in the challenge, also for the image without objects
    assert results["dic"]["DiC"] == 2 and results["dic"]["DiC_signed"] == pytest.approx(-2 / 3)


def test_score_threshold_and_area_and_full_image(register):
    masks = grid_masks(3)
    records = [make_record(1, masks)]
    predictions = [make_instances(masks, [0.9, 0.6, 0.3])]
    kept = evaluate(register, records, predictions, score_threshold=0.5)
    assert kept["matching"]["tp50"] == 2
    small = evaluate(register, records, predictions, score_threshold=0, min_area=37)
    assert small["matching"]["tp50"] == 0 and small["matching"]["fp50"] == 0
    # Without a background pixel the matching keeps the first object, and SBD its second.
    full = np.zeros((2, 120, 120), dtype=bool)
    full[0, :, :60] = full[1, :, 60:] = True
    covered = evaluate(register, [make_record(1, full)], [make_instances(full)])
    assert covered["sbd"]["SBD"] == 1 and covered["matching"]["tp50"] == 2


def test_a_hidden_annotation_leaves_no_gap_in_sbd(register):
    masks = grid_masks(3)
    doubled = np.concatenate([masks[:1], masks])
    results = evaluate(register, [make_record(1, doubled)], [make_instances(masks)])
    assert results["sbd"]["SBD"] == 1 and results["dic"]["DiC"] == 0


@pytest.mark.parametrize("how", ["crowd", "file"])
def test_ignored_regions_do_not_count(register, tmp_path, how):
    masks = grid_masks(6)
    region = np.zeros((120, 120), dtype=bool)
    region[:, 25:] = True
    if how == "crowd":
        record = make_record(1, np.concatenate([region[None], masks[:2]]), crowd=(0,))
    else:
        record = make_record(1, masks[:2])
        record["sem_seg_file_name"] = str(tmp_path / "ignore.png")
        Image.fromarray(np.where(region, 255, 0).astype(np.uint8)).save(tmp_path / "ignore.png")
    predictions = [make_instances(masks, [0.5, 0.6, 0.9, 0.9, 0.9, 0.9])]
    results = evaluate(register, [record], predictions)
    m = results["matching"]
    # Square 3 keeps columns 18..23 and stays an invented object; 4 to 6 lie in the region.
    assert (m["tp50"], m["fp50"], m["fn50"]) == (2, 1, 0)
    assert results["sbd"]["SBD"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("first_column", "min_area", "invented"),
    [
        (21, 0, 0),  # half of square 3, columns 18 to 23, is ignored: so is all of it
        (22, 0, 1),  # a third is ignored, the rest is evaluated
        (22, 24, 1),
        (22, 25, 0),  # what is left of it is too small
    ],
)
def test_a_prediction_on_the_edge_of_an_ignored_region(register, first_column, min_area, invented):
    region = np.zeros((1, 120, 120), dtype=bool)
    region[:, :, first_column:] = True
    masks = grid_masks(3)
    record = make_record(1, np.concatenate([region, masks[:2]]), crowd=(0,))
    results = evaluate(register, [record], [make_instances(masks)], min_area=min_area)
    assert (results["matching"]["tp50"], results["matching"]["fp50"]) == (2, invented)


def test_a_prediction_that_is_ignored_hides_no_other(register):
    # A large one, mostly in the region, covers square 1 with a higher score.
    region = np.zeros((120, 120), dtype=bool)
    region[8:] = True
    masks = grid_masks(1)
    record = make_record(1, np.stack([region, masks[0]]), crowd=(0,))
    large = np.ones((1, 120, 120), dtype=bool)
    predictions = [make_instances(np.concatenate([large, masks]), [0.9, 0.8])]
    assert evaluate(register, [record], predictions)["matching"]["tp50"] == 1


def test_ignored_pixels_do_not_hide_true_objects(register):
    masks = grid_masks(2)
    region = np.ones((1, 120, 120), dtype=bool)
    record = make_record(1, np.concatenate([region, masks]), crowd=(0,))
    results = evaluate(register, [record], [make_instances(masks)])
    assert results["matching"]["tp50"] == 2


def test_errors_are_sentences(register, tmp_path):
    masks = grid_masks(2)
    record = make_record(1, masks)
    evaluator = LabelMapEvaluator(register([record]))
    with pytest.raises(UserError, match="float32"):
        run(evaluator, [record], [make_instances(masks.astype(np.float32))])
    with pytest.raises(UserError, match="'other'.*not in data set"):
        run(evaluator, [{**record, "image_id": "other"}], [make_instances(masks)])
    Image.new("L", (5, 4)).save(tmp_path / "small.png")
    wrong = {**record, "sem_seg_file_name": str(tmp_path / "small.png")}
    with pytest.raises(UserError, match="small.png is 5x4 pixels.*120x120"):
        run(LabelMapEvaluator(register([wrong])), [wrong], [make_instances(masks)])


def test_a_row_for_each_image(register, tmp_path):
    records = [make_record(1, grid_masks(4)), make_record(2, grid_masks(2))]
    predictions = [make_instances(grid_masks(3)), make_instances(NONE)]
    evaluate(register, records, predictions, output_dir=tmp_path / "new")
    with (tmp_path / "new" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == ["image_1.png", "image_2.png"]
    keys = ("n_gt", "n_pred", "tp50", "fn50", "accuracy50", "sbd", "dic")
    assert [float(rows[0][key]) for key in keys] == [4, 3, 3, 1, 0.75, 0.75, -1]
    assert [float(rows[1][key]) for key in keys] == [2, 0, 0, 2, 0, 0, -2]


def test_other_thresholds_and_names_do_not_collide(register):
    records = [make_record(1, grid_masks(4))]
    evaluator = LabelMapEvaluator(register(records), iou_thresholds=(0.25, 0.95))
    results = run(DatasetEvaluators([evaluator]), records, [make_instances(grid_masks(4, shift=1))])
    assert results["matching"]["accuracy25"] == 1 and results["matching"]["accuracy95"] == 0


def test_sbd_and_dic_of_a_full_map_take_its_first_object_for_background():
    gt = np.array([[1, 1, 2, 2]])
    scores = score_label_maps(gt, np.array([[1, 1, 0, 2]]))
    # True object 2 is the only one left: Dice 2/3; predicted object 1 finds nothing.
    assert (scores.n_gt, scores.n_pred, scores.dic) == (2, 2, 1)
    assert scores.sbd == pytest.approx((0 + 2 / 3) / 2)


def test_two_processes_agree_with_one(tmp_path):
    script = Path(__file__).with_name("evaluate_in_processes.py")
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert results["rank1"] == {}
    assert set(results["alone"]) == {"bbox", "segm", "matching", "sbd", "dic"}
    assert results["alone"]["matching"]["tp50"] == 1 + 2 + 3 + 4 + 5
    for task, figures in results["alone"].items():
        assert results["rank0"][task] == pytest.approx(figures, nan_ok=True)
