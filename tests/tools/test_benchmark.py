"""The benchmark's machinery, and that its rows compute what they claim; no time is judged here."""

import json
import time

import benchmark
import benchmark_embedding
import benchmark_evaluation
import numpy as np
import pytest
import torch

from embedding_instance_seg.losses import discriminative_loss
from instance_seg_common.analysis.benchmark import (
    Row,
    peak_memory,
    run_row,
    select_rows,
    timings_table,
)
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.matching import symmetric_best_dice


def sleeping_row(required, result=1.0):
    """Ours takes 1 ms, the reference 5 ms."""

    def build():
        return lambda: time.sleep(0.001) or 1.0, lambda: time.sleep(0.005) or result

    return Row("sleep", "sleeping", "sleeping longer", required, build)


def test_ratio_of_known_times():
    timing = run_row(sleeping_row(required=2), repeats=3)
    assert timing.met and 2 < timing.ratio <= 5.5
    assert timing.ours_ms >= 1 and timing.reference_ms >= 5
    assert not run_row(sleeping_row(required=50), repeats=1).met


def test_rows_whose_results_differ_are_not_timed():
    with pytest.raises(ValueError, match="'sleep'.*differ by 0.1"):
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
def test_required_memory_is_judged_where_memory_is_measured(required, met):
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


def test_sbd_row_is_the_size_it_says_and_agrees():
    gt, pred = benchmark_evaluation.leaf_like_maps()
    for labels in (gt, pred):
        assert labels.shape == (530, 500)
        np.testing.assert_array_equal(np.unique(labels), np.arange(21))
    small = benchmark_evaluation.leaf_like_maps(height=90, width=100, count=6)
    assert 0 < symmetric_best_dice(*small) < 1
    assert symmetric_best_dice(*small) == pytest.approx(
        benchmark_evaluation.sbd_over_pairs(*small), abs=1e-12
    )


def test_loss_rows_are_the_size_they_say_and_agree():
    embeddings, ids = benchmark_embedding.loss_scene()
    assert embeddings.shape == (1, 16, 512, 512) and ids.shape == (1, 512, 512)
    assert torch.equal(ids.unique(), torch.arange(19))
    assert 0.4 < (ids > 0).float().mean() < 0.6
    small, ids = benchmark_embedding.loss_scene(height=60, width=70, count=4, channels=3)
    ours = torch.stack(list(discriminative_loss(small, ids).values()))
    dense = benchmark_embedding.dense_discriminative_loss(small, ids)
    torch.testing.assert_close(ours, dense)
    for index in range(3):
        (ours_grad,) = torch.autograd.grad(ours[index], small, retain_graph=True)
        (dense_grad,) = torch.autograd.grad(dense[index], small, retain_graph=True)
        torch.testing.assert_close(ours_grad, dense_grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("required", "status"), [(2, 0), (50, 1)])
def test_strict_and_json(monkeypatch, capsys, tmp_path, required, status):
    monkeypatch.setattr(benchmark, "ROW_SOURCES", [lambda: [sleeping_row(required)]])
    path = tmp_path / "new" / "figures.json"
    arguments = ["--repeats", "2", "--json", str(path)]
    assert benchmark.main(arguments) == 0
    assert benchmark.main([*arguments, "--strict"]) == status
    assert "sleeping longer" in capsys.readouterr().out
    (figures,) = json.loads(path.read_text())
    assert figures["name"] == "sleep" and figures["met"] == (status == 0)
