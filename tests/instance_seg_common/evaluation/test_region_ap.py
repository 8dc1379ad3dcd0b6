"""AP_r and AP_vol against the definition written out, against pycocotools, and in closed form."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.evaluation import print_csv_format
from forked import run_script
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from square_sets import annotation, grid_masks, make_instances, make_record, run

from instance_seg_common.config import add_common_config
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation import build_evaluator
from instance_seg_common.evaluation.region_ap import (
    IOU_THRESHOLDS,
    RegionAPEvaluator,
    average_precision,
)

NONE = np.zeros((0, 120, 120), dtype=bool)


def evaluate(register, records, predictions, classes=("object",)):
    name = register(records, thing_classes=list(classes))
    return run(RegionAPEvaluator(name), records, predictions)["voc"]


def as_numbers(figures):
    return [figures[f"AP_r{t}"] for t in (50, 60, 70, 80, 90)] + [figures["AP_vol"]]


def slow_ap(records, predictions, category, threshold):
    """AP_r of one class, word by word from its definition, without any array of IoUs."""
    detections = []
    for record, prediction in zip(records, predictions):
        for mask, score, label in zip(
            prediction.pred_masks.numpy(), prediction.scores.tolist(), prediction.pred_classes
        ):
            if label == category:
                detections.append((score, record, mask))
    detections.sort(key=lambda d: -d[0])
    objects = {
        record["image_id"]: [
            [a["mask"], False] for a in record["truth"] if a["category_id"] == category
        ]
        for record in records
    }
    total = sum(len(found) for found in objects.values())
    if total == 0:
        return math.nan
    points, right, wrong = [], 0, 0
    for _, record, mask in detections:
        best, best_iou = None, -1
        for candidate in objects[record["image_id"]]:
            if candidate[1]:
                continue
            union = np.logical_or(candidate[0], mask).sum()
            iou = np.logical_and(candidate[0], mask).sum() / union if union else 0
            if iou > best_iou:
                best, best_iou = candidate, iou
        if best is not None and best_iou >= threshold:
            best[1] = True
            right += 1
        else:
            wrong += 1
        points.append((right / total, right / (right + wrong)))
    area, reached = 0.0, 0.0
    for recall, _ in points:
        if recall > reached:
            area += (recall - reached) * max(p for r, p in points if r >= recall)
            reached = recall
    return 100 * area


def blobs(generator, count):
    """(count, 120, 120) bool: rectangles of any size and place, which overlap."""
    masks = np.zeros((count, 120, 120), dtype=bool)
    for mask in masks:
        y, x = generator.integers(0, 90, 2)
        height, width = generator.integers(8, 30, 2)
        mask[y : y + height, x : x + width] = True
    return masks


def random_set(seed, images=5, classes=3):
    """Records with their masks under "truth", and noisy predictions with distinct scores."""
    generator = np.random.default_rng(seed)
    records, predictions = [], []
    scores = generator.permutation(200) / 200
    for image_id in range(images):
        truth = blobs(generator, generator.integers(0, 5))
        labels = generator.integers(0, classes, len(truth))
        record = make_record(image_id, truth, labels.tolist())
        record["truth"] = [
            {"mask": m, "category_id": c} for m, c in zip(truth, labels)
        ]  # fmt: skip
        moved = np.roll(np.repeat(truth, 2, axis=0), generator.integers(-4, 5, 2), axis=(1, 2))
        masks = np.concatenate([moved, blobs(generator, 3)])
        guesses = np.concatenate([np.repeat(labels, 2), generator.integers(0, classes, 3)])
        flipped = generator.random(len(guesses)) < 0.2
        guesses = np.where(flipped, (guesses + 1) % classes, guesses)
        own, scores = scores[: len(masks)], scores[len(masks) :]
        records.append(record)
        predictions.append(make_instances(masks, own, guesses))
    return records, predictions


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_the_definition_written_out(register, seed):
    records, predictions = random_set(seed)
    figures = evaluate(register, records, predictions, ("x", "y", "z"))
    per_class = {
        (c, t): slow_ap(records, predictions, c, t) for c in range(3) for t in IOU_THRESHOLDS
    }
    for c, name in enumerate(("x", "y", "z")):
        for t in (0.5, 0.6, 0.7, 0.8, 0.9):
            expected = pytest.approx(per_class[c, t], nan_ok=True)
            assert figures[f"AP_r{100 * t:.0f}-{name}"] == expected
        volume = np.mean([per_class[c, t] for t in IOU_THRESHOLDS])
        assert figures[f"AP_vol-{name}"] == pytest.approx(volume, nan_ok=True)
    for t in (0.5, 0.7, 0.9):
        mean = np.nanmean([per_class[c, t] for c in range(3)])
        assert figures[f"AP_r{100 * t:.0f}"] == pytest.approx(mean)


def official_ap_r(records, predictions):
    """AP_r at IOU_THRESHOLDS of a set of one class, (T,) percent, by pycocotools.

    COCO's AP is the mean of the interpolated precision at 101 recalls; at 1/n .. n/n it is AP_r.
    """
    objects = [(r["image_id"], a) for r in records for a in r["annotations"]]
    common = {"category_id": 1, "iscrowd": 0, "area": 1}
    annotations = [
        {**common, "id": k, "image_id": i, "bbox": a["bbox"], "segmentation": a["segmentation"]}
        for k, (i, a) in enumerate(objects, start=1)
    ]
    found = [
        {"image_id": record["image_id"], "category_id": 1, "score": score,
         "segmentation": annotation(mask)["segmentation"]}
        for record, prediction in zip(records, predictions)
        for mask, score in zip(prediction.pred_masks.numpy(), prediction.scores.tolist())
    ]  # fmt: skip
    images = [{"id": r["image_id"], "height": r["height"], "width": r["width"]} for r in records]
    truth = COCO()
    truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    truth.createIndex()
    coco = COCOeval(truth, truth.loadRes(found), "segm")
    coco.params.recThrs = np.arange(1, len(objects) + 1) / len(objects)
    coco.params.iouThrs = np.array(IOU_THRESHOLDS)
    coco.params.areaRng, coco.params.areaRngLbl = [[0, 1e10]], ["all"]
    coco.params.maxDets = [1000]
    coco.evaluate()
    coco.accumulate()
    return 100 * coco.eval["precision"][:, :, 0, 0, 0].mean(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_pycocotools_at_the_recalls_that_occur(register, seed):
    records, predictions = random_set(seed, images=8, classes=1)
    official = official_ap_r(records, predictions)
    assert 0 < official[4] < 100
    figures = evaluate(register, records, predictions)
    assert as_numbers(figures) == pytest.approx([*official[4:], official.mean()])


@pytest.mark.parametrize("shift", range(6))
def test_perfect_and_shifted_predictions_equal_those_of_pycocotools(register, shift):
    records = [make_record(k, grid_masks(k + 3, pitch=12)) for k in range(3)]
    predictions = [
        make_instances(m, 0.9 - 0.1 * k - np.arange(len(m)) / 100)
        for k, m in enumerate(grid_masks(k + 3, pitch=12, shift=shift) for k in range(3))
    ]
    official = official_ap_r(records, predictions)
    figures = evaluate(register, records, predictions)
    assert as_numbers(figures) == pytest.approx([*official[4:], official.mean()])


def test_perfect_and_empty(register):
    records = [make_record(k, grid_masks(k + 1)) for k in range(3)]
    perfect = [make_instances(grid_masks(k + 1)) for k in range(3)]
    assert as_numbers(evaluate(register, records, perfect)) == [100] * 6
    empty = [make_instances(NONE)] * 3
    assert as_numbers(evaluate(register, records, empty)) == [0] * 6


@pytest.mark.parametrize(("shift", "steps"), [(0, 9), (1, 7), (2, 5), (3, 3), (4, 2), (5, 0)])
def test_shifted_squares(register, shift, steps):
    """Squares of 6 pixels moved by k: IoU (6 - k) / (6 + k), right at the thresholds up to it."""
    records = [make_record(1, grid_masks(9, pitch=12))]
    figures = evaluate(register, records, [make_instances(grid_masks(9, pitch=12, shift=shift))])
    assert figures["AP_vol"] == pytest.approx(100 * steps / 9)
    iou = (6 - shift) / (6 + shift)
    assert figures["AP_r50"] == (100 if iou >= 0.5 else 0)
    assert figures["AP_r70"] == (100 if iou >= 0.7 else 0)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("ABab", 100),  # second detections after all objects are found cost nothing
        ("AaB", 100 * (1 / 2 + 1 / 2 * 2 / 3)),
        ("AaaaB", 100 * (1 / 2 + 1 / 2 * 2 / 5)),
        ("Aa", 50),
        ("xA", 100 * 1 / 2 * 1 / 2),  # a wrong one first
        ("xxAB", 100 * 1 / 2),  # precision 1/3 rises to 2/4: the envelope takes the larger
    ],
)
def test_duplicates_and_inventions_in_the_order_of_their_scores(register, order, expected):
    masks = {k: grid_masks(5)[i] for k, i in (("A", 0), ("B", 1), ("x", 4))}
    predicted = [masks[letter if letter == "x" else letter.upper()] for letter in order]
    scores = np.linspace(0.9, 0.1, len(order))
    records = [make_record(1, grid_masks(2))]
    mixed = np.random.default_rng(0).permutation(len(order))
    instances = make_instances(np.stack(predicted)[mixed], scores[mixed])
    assert as_numbers(evaluate(register, records, [instances])) == pytest.approx([expected] * 6)


def test_the_order_goes_through_all_images(register):
    # Image 2 has the better score and is wrong: at recall 1/2 precision is 1/2.
    records = [make_record(1, grid_masks(1)), make_record(2, grid_masks(1))]
    predictions = [make_instances(grid_masks(1), [0.6]), make_instances(grid_masks(9)[8:], [0.7])]
    assert as_numbers(evaluate(register, records, predictions)) == [25] * 6


def test_a_detection_whose_best_object_is_taken_claims_the_next(register):
    left, right = np.zeros((2, 1, 120, 120), dtype=bool)
    left[0, :10, :10], right[0, :10, 10:20] = True, True
    records = [make_record(1, np.concatenate([left, right]))]
    wide = np.zeros((1, 120, 120), dtype=bool)
    wide[0, :10, 1:15] = True  # IoU 9 / 15 = 0.6 with the left, 5 / 19 with the right one
    predictions = [make_instances(np.concatenate([left, wide]), [0.9, 0.8])]
    figures = evaluate(register, records, predictions)
    assert figures["AP_r50"] == 50
    # At 0.1 and 0.2 both are found, at 0.3 to 0.9 one.
    assert figures["AP_vol"] == pytest.approx((2 * 100 + 7 * 50) / 9)


def test_an_iou_equal_to_the_threshold_counts(register):
    half = grid_masks(1, side=10)
    part = half.copy()
    part[0, :, 6:] = False  # 60 of 100 pixels
    figures = evaluate(register, [make_record(1, half)], [make_instances(part)])
    assert (figures["AP_r60"], figures["AP_r70"]) == (100, 0)


def test_classes_are_apart_and_those_without_objects_do_not_count(register):
    masks = grid_masks(3)
    records = [make_record(1, masks, [0, 0, 1])]
    predictions = [make_instances(masks, [0.9, 0.8, 0.7], [0, 1, 1])]
    figures = evaluate(register, records, predictions, ("x", "y", "z"))
    assert figures["AP_r50-x"] == 50
    assert figures["AP_r50-y"] == 50  # the object of x, first, is wrong here
    assert math.isnan(figures["AP_r50-z"])
    assert figures["AP_r50"] == figures["AP_vol"] == 50


def test_nothing_to_find_is_nan_and_crowds_are_no_objects(register):
    figures = evaluate(register, [make_record(1, NONE)], [make_instances(grid_masks(2))])
    assert all(math.isnan(value) for value in figures.values())
    crowd = make_record(1, grid_masks(2), crowd=(1,))
    figures = evaluate(register, [crowd], [make_instances(grid_masks(1))])
    assert figures["AP_r50"] == 100
    assert math.isnan(average_precision([], [], 0))


def test_errors_are_sentences(register):
    masks = grid_masks(2)
    records = [make_record(1, masks)]
    evaluator = RegionAPEvaluator(register(records))
    with pytest.raises(UserError, match="float32"):
        run(evaluator, records, [make_instances(masks.astype(np.float32))])
    with pytest.raises(UserError, match="class 4"):
        run(evaluator, records, [make_instances(masks, classes=[0, 4])])
    with pytest.raises(UserError, match="'other'.*not in data set"):
        run(evaluator, [{**records[0], "image_id": "other"}], [make_instances(masks)])


@pytest.fixture
def cfg():
    config = get_cfg()
    add_common_config(config)
    return config


def void_record(tmp_path, masks, void):
    record = make_record(1, masks)
    record["sem_seg_file_name"] = str(tmp_path / "void.png")
    Image.fromarray(np.where(void, 255, 0).astype(np.uint8)).save(record["sem_seg_file_name"])
    return record


def test_void_pixels_do_not_count_in_any_score(register, cfg, tmp_path):
    """The object has a border of void, the prediction covers both and is perfect without it."""
    truth = np.zeros((1, 120, 120), dtype=bool)
    truth[0, 20:30, 20:30] = True
    covered = np.zeros_like(truth)
    covered[0, 15:35, 15:35] = True  # IoU 100 / 400 with the void
    void = covered[0] & ~truth[0]
    void[80:90, 80:90] = True
    inside_void = np.zeros_like(truth)
    inside_void[0, 82:88, 82:88] = True
    record = void_record(tmp_path, truth, void)
    name = register([record], evaluator_type="voc")
    predictions = make_instances(np.concatenate([inside_void, covered]), [0.9, 0.5])
    results = run(build_evaluator(cfg, name), [record], [predictions])
    assert as_numbers(results["voc"]) == [100] * 6
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["sbd"]["SBD"] == 1
    assert results["matching"]["fp50"] == 0
    without = run(RegionAPEvaluator(name), [record], [predictions])["voc"]
    assert as_numbers(without) == pytest.approx([0] * 5 + [100 / 2 * 2 / 9])
    # A pixel outside of void is evaluated: the invention now comes first and is wrong.
    inside_void[0, 95, 95] = True
    predictions = make_instances(np.concatenate([inside_void, covered]), [0.9, 0.5])
    results = run(build_evaluator(cfg, name), [record], [predictions])
    assert as_numbers(results["voc"]) == [50] * 6


def test_the_type_of_the_set_chooses_and_the_results_print(register, cfg):
    records = [make_record(1, grid_masks(3))]
    name = register(records, evaluator_type="voc")
    results = run(build_evaluator(cfg, name), records, [make_instances(grid_masks(3))])
    assert set(results) == {"bbox", "segm", "matching", "sbd", "dic", "voc"}
    assert all(isinstance(v, float) for v in results["voc"].values())
    print_csv_format(results)


def test_two_processes_agree_with_one(tmp_path):
    script = Path(__file__).with_name("evaluate_in_processes.py")
    done = run_script(script, tmp_path, "voc")
    assert done.returncode == 0, done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert results["rank1"] == {}
    assert 0 < results["alone"]["voc"]["AP_vol"] < 100
    assert results["rank0"]["voc"] == pytest.approx(results["alone"]["voc"])


def test_named_sets_are_scored_by_it(cfg, tmp_path, monkeypatch):
    import voc_cvppp_trees as trees

    from instance_seg_common.data import register_builtin_datasets

    trees.write_voc(tmp_path / "sets")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    register_builtin_datasets()
    records = DatasetCatalog.get("voc_sbd_val")
    predictions = []
    for number in (2, 3):
        objects, _ = trees.voc_scene(number)
        masks = np.stack([(objects == k) | (objects == 255) for k in (1, 2, 3)])
        labels = [trees.PERSON - 1, trees.CAR - 1, trees.PERSON - 1]
        predictions.append(make_instances(masks, classes=labels))
    results = run(build_evaluator(cfg, "voc_sbd_val"), records, predictions)
    assert as_numbers(results["voc"]) == [100] * 6
    assert results["voc"]["AP_r50-person"] == results["voc"]["AP_r50-car"] == 100
    assert math.isnan(results["voc"]["AP_r50-cat"])
    assert results["segm"]["AP"] == pytest.approx(100)
