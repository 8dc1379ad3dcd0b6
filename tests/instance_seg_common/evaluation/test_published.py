"""The table of published figures, and an own result among them."""

import math
from collections import Counter

import pytest

from instance_seg_common.data.builtin import register_builtin_datasets
from instance_seg_common.evaluation.published import (
    BENCHMARKS,
    OWN,
    Row,
    benchmark_of,
    comparison,
    comparisons,
    published_rows,
)

CITYSCAPES = {
    "R-CNN + MCG": (4.6, 12.9, 7.7, 10.3),
    "FCN + Depth": (8.9, 21.1, 15.3, 16.7),
    "JGD": (9.8, 23.2, 16.8, 20.3),
    "InstanceCut": (13.0, 27.9, 22.1, 26.1),
    "Boundary-aware": (17.4, 36.7, 29.3, 34.0),
    "DWT": (19.4, 35.3, 31.4, 36.8),
    "Pixelwise DIN": (20.0, 38.8, 32.6, 37.6),
    "Mask R-CNN": (26.2, 49.9, 37.6, 40.1),
    "Discriminative loss (De Brabandere et al.)": (17.5, 35.9, 27.8, 31.0),
    "RSIS v1": (5.8, 13.8, 10.2, 11.7),
}


def values(data_set, paper):
    return {
        r.metric: r.value for r in published_rows() if (r.data_set, r.paper) == (data_set, paper)
    }


@pytest.mark.parametrize("paper", CITYSCAPES)
def test_the_figures_of_the_cityscapes_test_set(paper):
    found = values("Cityscapes", paper)
    assert tuple(found[m] for m in ("AP", "AP50", "AP100m", "AP50m")) == CITYSCAPES[paper]


def test_some_figures_of_voc_and_leaves():
    rsis = values("Pascal VOC 2012", "RSIS v1")
    assert rsis == {"AP50": 57.6, "AP60": 52.5, "AP70": 43.3, "AP80": 38.1, "AP50-person": 60.9}
    expected = {"SBD": 70.6, "SBD_std": 11.2, "DiC": 1.2, "DiC_std": 1.1}
    assert values("CVPPP A1", "RSIS v1") == expected
    assert values("Pascal VOC 2012", "RIS + CRF") == {"AP50-person": 50.1}


def test_every_row_is_whole_and_no_figure_stands_twice():
    rows = published_rows()
    assert {row.data_set for row in rows} == {b.data_set for b in BENCHMARKS.values()}
    for row in rows:
        assert row.paper and row.source and row.split in ("val", "test")
        assert math.isfinite(row.value) and 0 <= row.value <= 100
    twice = Counter((r.paper, r.data_set, r.split, r.metric) for r in rows)
    assert max(twice.values()) == 1


def test_which_data_sets_have_a_benchmark():
    register_builtin_datasets()
    assert benchmark_of("cvppp_A1_fold3_val").data_set == "CVPPP A1"
    assert benchmark_of("cvppp_A1").data_set == "CVPPP A1"
    assert benchmark_of("voc_sbd_val").data_set == "Pascal VOC 2012"
    assert benchmark_of("voc_2012_instance_val") is benchmark_of("voc_sbd_val")
    assert benchmark_of("cityscapes_instance_val").data_set == "Cityscapes"
    for name in ("cvppp_A2", "cvppp_A10", "voc_sbdx", "dsb2018_val"):
        assert benchmark_of(name) is None


ROWS = [
    Row("first", "CVPPP A1", "test", "SBD", 90.0, "a"),
    Row("second", "CVPPP A1", "test", "SBD", 70.0, "b"),
    Row("second", "CVPPP A1", "test", "DiC", 1.5, "c"),
    Row("third", "CVPPP A1", "test", "DiC", 0.5, "c"),
    Row("elsewhere", "Cityscapes", "test", "AP", 1.0, "d"),
    Row("first", "CVPPP A1", "test", "BestDice", 99.0, "a"),
]


def lines_of(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[3:]]


def test_an_own_result_stands_in_its_place():
    results = {"sbd": {"SBD": 0.801, "SBD_std": 0.1}, "dic": {"DiC": 2.0}}
    lines = lines_of(comparison("cvppp_A1_fold0_val", results, ROWS))
    assert [line[0] for line in lines] == ["first", OWN, "second", "third"]
    assert lines[1] == [OWN, "cvppp_A1_fold0_val", "80.1", "10.0", "2.0", "", ""]
    assert lines[2] == ["second", "test", "70.0", "", "1.5", "", "b; c"]


@pytest.mark.parametrize(("own", "place"), [(0.95, 0), (0.1, 2), (math.nan, 2)])
def test_best_first_and_nan_last(own, place):
    lines = lines_of(comparison("cvppp_A1", {"sbd": {"SBD": own}}, ROWS))
    assert [line[0] for line in lines].index(OWN) == place


def test_results_without_the_benchmarks_metrics_print_nothing():
    assert comparison("cvppp_A1", {"segm": {"AP": 1.0}}, ROWS) == ""
    assert comparison("cvppp_A1", {}, ROWS) == ""
    assert comparison("dsb2018_val", {"sbd": {"SBD": 1.0}}, ROWS) == ""


def test_one_data_set_and_several():
    one = {"voc": {"AP_r50": 10.0, "AP_r50-person": 20.0, "AP_vol": 5.0}}
    (text,) = comparisons(("voc_sbd_val",), one)
    assert "Pascal VOC 2012" in text and "10.0" in text and "20.0" in text
    both = {"voc_sbd_val": one, "dsb2018_val": {"sbd": {"SBD": 1.0}}}
    assert comparisons(("voc_sbd_val", "dsb2018_val"), both) == [text]
    assert comparisons(("dsb2018_val",), {"sbd": {"SBD": 1.0}}) == []
    assert comparisons((), {}) == []
