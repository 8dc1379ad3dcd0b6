"""The benchmark's machinery; no time is asserted here."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from stopped_clock import sleeping_row, stop

from instance_seg_analysis.benchmark import timing as machinery
from instance_seg_analysis.benchmark.timing import (
    Row,
    peak_memory,
    run_row,
    select_rows,
    timings_table,
)
from instance_seg_common.errors import UserError


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch):
    stop(monkeypatch, machinery)


def test_ratio_of_known_times():
    timing = run_row(sleeping_row(required=2), repeats=3)
    assert timing.met and timing.ratio == pytest.approx(5)
    assert (timing.ours_ms, timing.reference_ms) == pytest.approx((1, 5))
    assert not run_row(sleeping_row(required=50), repeats=1).met


@pytest.mark.parametrize(("max_repeats", "calls"), [(None, 6), (2, 3), (9, 6)])
def test_repeats_of_a_slow_row_are_limited(max_repeats, calls):
    called = []
    row = replace(sleeping_row(1), max_repeats=max_repeats)
    ours, reference = row.build()
    run_row(replace(row, build=lambda: (ours, lambda: called.append(0) or reference())), repeats=5)
    assert len(called) == calls  # one of them to compare


def test_rows_whose_results_differ_are_not_timed():
    with pytest.raises(ValueError, match="differ by 0.1"):
        run_row(sleeping_row(2, result=1.1))
    with pytest.raises(ValueError, match="differ by nan"):
        run_row(sleeping_row(2, result=float("nan")))


def test_unknown_rows_are_named():
    rows = [sleeping_row(2)]
    assert select_rows(rows, None) == select_rows(rows, ["sleep"]) == rows
    with pytest.raises(UserError, match="'?typo.*rows: sleep"):
        select_rows(rows, ["typo"])


def test_peak_memory_sees_an_array():
    size = 64 * 2**20
    peak = peak_memory(lambda: np.ones(size, dtype=np.uint8).sum())
    assert 0.9 * size < peak < 1.5 * size


def allocating_row(required_memory):
    """Ours adds 32 MiB at its peak, the reference 128 MiB."""

    def build():
        return lambda: float(np.ones(2**25, "uint8").max()), lambda: float(
            np.ones(2**27, "uint8").max()
        )

    return Row("memory", "ones", "more ones", 0, build, required_memory=required_memory)


@pytest.mark.parametrize(("required", "met"), [(3, True), (5, False), (None, True)])
def test_required_memory_is_judged_where_memory_is_measured(monkeypatch, required, met):
    monkeypatch.setattr(machinery, "time", time)
    timing = run_row(allocating_row(required), repeats=1, memory=True)
    assert timing.memory_ratio == pytest.approx(4, rel=0.2) and timing.met == met
    table = timings_table([timing])
    assert "memory ratio" in table and ("| - " in table) == (required is None)
    unmeasured = run_row(allocating_row(required), repeats=1)
    assert unmeasured.memory_ratio is None and unmeasured.met
    assert "memory ratio" not in timings_table([unmeasured])


def test_memory_of_what_the_first_call_keeps_is_not_counted():
    kept = []

    def function():
        if not kept:
            kept.append(np.ones(2**25, dtype=np.uint8))

    assert peak_memory(function) < 2**22


def test_peak_memory_of_what_ran_on_several_threads_before():
    x = torch.ones(2**22)
    previous = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (x * x).sum()
        assert peak_memory(lambda: (x * x).sum()) < 2 * 4 * x.numel()
    finally:
        torch.set_num_threads(previous)
