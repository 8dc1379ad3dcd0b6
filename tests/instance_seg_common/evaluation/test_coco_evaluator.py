"""COCO AP where the stock evaluator gives nan, nothing, or a capped figure."""

import json
import math

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.coco import convert_to_coco_dict
from PIL import Image
from square_sets import grid_masks, make_instances, make_record, run

from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator

NONE = np.zeros((0, 120, 120), dtype=bool)


def assert_nested_floats(results):
    assert set(results) == {"bbox", "segm"}
    for figures in results.values():
        assert all(isinstance(value, float) for value in figures.values())


def test_perfect_crowded_image_is_not_capped(register):
    masks = grid_masks(150)
    records = [make_record(1, masks)]
    name = register(records)
    perfect = [make_instances(masks, np.linspace(1, 0.5, 150))]
    results = run(InstanceCOCOEvaluator(name), records, perfect)
    assert_nested_floats(results)
    for task in ("bbox", "segm"):
        for key in ("AP", "AP50", "AP75", "APs"):
            assert results[task][key] == pytest.approx(100)
        assert math.isnan(results[task]["APl"])
    capped = run(InstanceCOCOEvaluator(name, max_dets_per_image=100), records, perfect)
    assert capped["segm"]["AP"] == pytest.approx(100 * 67 / 101)


def test_no_prediction_gives_zero_where_there_is_ground_truth(register):
    records = [make_record(1, grid_masks(4), classes=[0, 0, 1, 1])]
    name = register(records, thing_classes=["a", "b", "absent"])
    results = run(InstanceCOCOEvaluator(name), records, [make_instances(NONE)])
    assert_nested_floats(results)
    for task in ("bbox", "segm"):
        figures = results[task]
        assert [figures[k] for k in ("AP", "AP50", "AP75", "APs", "AP-a", "AP-b")] == [0] * 6
        assert all(math.isnan(figures[k]) for k in ("APm", "APl", "AP-absent"))


@pytest.mark.parametrize("predicted", [0, 3])
def test_no_ground_truth_gives_nan(register, predicted):
    records = [make_record(1, NONE), make_record(2, NONE)]
    name = register(records)
    predictions = [make_instances(NONE), make_instances(grid_masks(predicted))]
    results = run(InstanceCOCOEvaluator(name), records, predictions)
    assert_nested_floats(results)
    assert math.isnan(results["segm"]["AP"]) and math.isnan(results["bbox"]["AP"])


def test_a_changed_set_is_converted_anew_and_metadata_stays(register, tmp_path):
    records = [make_record(1, grid_masks(2))]
    name = register(records)
    perfect = [make_instances(grid_masks(2))]
    first = run(InstanceCOCOEvaluator(name, output_dir=tmp_path), records, perfect)
    assert first["segm"]["AP"] == pytest.approx(100)
    assert not hasattr(MetadataCatalog.get(name), "json_file")
    assert {p.name for p in tmp_path.iterdir()} == {
        "coco_instances_results.json",
        "instances_predictions.pth",
    }
    records[0] = make_record(1, grid_masks(4))
    second = run(InstanceCOCOEvaluator(name, output_dir=tmp_path), records, perfect)
    assert second["segm"]["AP"] == pytest.approx(100 * 51 / 101)


def test_a_coco_json_is_read_and_class_ids_are_mapped_back(register, tmp_path):
    records = [make_record(7, grid_masks(3), classes=[0, 1, 1])]
    content = convert_to_coco_dict(register(records, thing_classes=["a", "b"]))
    for item in content["categories"]:
        item["id"] = 10 * item["id"] + 5
    for item in content["annotations"]:
        item["category_id"] = 10 * item["category_id"] + 5
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    name = "evaluation_test_coco_json"
    register_coco_instances(name, {}, str(path), str(tmp_path))
    try:
        loaded = DatasetCatalog.get(name)
        perfect = [make_instances(grid_masks(3), classes=[0, 1, 1])]
        evaluator = InstanceCOCOEvaluator(name)
        results = run(evaluator, loaded, perfect)
        assert results["segm"]["AP"] == results["segm"]["AP-b"] == pytest.approx(100)
        again = evaluator.evaluate()  # the class ids are mapped back once, not twice
        assert again["segm"]["AP-b"] == pytest.approx(100)
        path.unlink()
        with pytest.raises(UserError, match="instances.json"):
            InstanceCOCOEvaluator(name)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_predictions_that_cannot_be_scored_are_named(register):
    masks = grid_masks(2)
    records = [make_record(3, masks)]
    evaluator = InstanceCOCOEvaluator(register(records))
    with pytest.raises(UserError, match="image 3 .image_3.png.*float32.*bool"):
        run(evaluator, records, [make_instances(masks.astype(np.float32))])
    with pytest.raises(UserError, match="image 3 .*120x60.*120x120"):
        run(evaluator, records, [make_instances(masks[:, :, :60])])
    with pytest.raises(UserError, match="image 3 .*class 1.*1 classes"):
        run(evaluator, records, [make_instances(masks, classes=[0, 1])])
    without = make_instances(masks)
    without.remove("pred_masks")
    with pytest.raises(UserError, match="no pred_masks.*MASK_ON"):
        run(evaluator, records, [without])


@pytest.mark.parametrize(("first_column", "expected"), [(60, 100), (102, 100), (103, 50)])
def test_detections_mostly_in_an_ignored_region_are_no_false_positives(
    register, tmp_path, first_column, expected
):
    # Square 12 has the columns 99 to 104, and no object is there.
    masks = grid_masks(12)
    region = np.zeros((120, 120), dtype=np.uint8)
    region[:, first_column:] = 255
    Image.fromarray(region).save(tmp_path / "ignore.png")
    record = {**make_record(1, masks[:1]), "sem_seg_file_name": str(tmp_path / "ignore.png")}
    predictions = [make_instances(masks[[0, 11]], [0.5, 0.9])]
    results = run(InstanceCOCOEvaluator(register([record])), [record], predictions)
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == pytest.approx(expected)


def test_annotations_without_a_mask_do_not_count(register, tmp_path):
    masks = grid_masks(4)
    content = convert_to_coco_dict(register([make_record(1, masks)]))
    content["annotations"][3]["segmentation"] = [[1, 2, 3]]
    content["annotations"][1]["segmentation"] = []
    del content["annotations"][2]["segmentation"]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    name = register([make_record(1, masks[:1])], json_file=str(path))
    records = [make_record(1, masks[:1])]
    results = run(InstanceCOCOEvaluator(name), records, [make_instances(masks[:1])])
    assert results["segm"]["AP"] == results["bbox"]["AP"] == pytest.approx(100)
