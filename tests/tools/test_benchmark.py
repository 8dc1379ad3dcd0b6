"""The benchmark's machinery, and that its rows compute what they claim; no time is judged here."""

import json
from dataclasses import replace

import benchmark
import benchmark_embedding
import benchmark_evaluation
import numpy as np
import pytest
import torch
from scipy import ndimage

from embedding_instance_seg.clustering import mean_shift
from embedding_instance_seg.losses import discriminative_loss
from instance_seg_analysis.benchmark import timing as machinery
from instance_seg_analysis.benchmark.timing import (
    Row,
    peak_memory,
    run_row,
    select_rows,
    timings_table,
)
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.matching import symmetric_best_dice


class Clock:
    """Time that passes only where a row says so: that of a busy machine fails any test."""

    seconds = 0.0

    @classmethod
    def perf_counter(cls):
        return cls.seconds

    @classmethod
    def sleep(cls, seconds):
        cls.seconds += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(machinery, "time", Clock)


def sleeping_row(required, result=1.0):
    """Ours takes 1 ms, the reference 5 ms."""

    def build():
        return lambda: Clock.sleep(0.001) or 1.0, lambda: Clock.sleep(0.005) or result

    return Row("sleep", "sleeping", "sleeping longer", required, build)


def test_ratio_of_known_times(clock):
    timing = run_row(sleeping_row(required=2), repeats=3)
    assert timing.met and timing.ratio == pytest.approx(5)
    assert (timing.ours_ms, timing.reference_ms) == pytest.approx((1, 5))
    assert not run_row(sleeping_row(required=50), repeats=1).met


@pytest.mark.parametrize(("max_repeats", "calls"), [(None, 6), (2, 3), (9, 6)])
def test_repeats_of_a_slow_row_are_limited(max_repeats, calls):
    called = []
    row = replace(sleeping_row(1), build=lambda: (lambda: 1.0, lambda: called.append(0) or 1.0))
    run_row(replace(row, max_repeats=max_repeats), repeats=5)
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


def test_clustering_rows_are_the_size_they_say_and_agree():
    embeddings, _, centers = benchmark_embedding.separate_embeddings()
    assert embeddings.shape == (90_000, 16) and centers.shape == (300, 16)
    embeddings, truth, centers = benchmark_embedding.separate_embeddings(500, 6)
    assert torch.equal(benchmark_embedding.nearest_centers(embeddings, centers, 64), truth)
    found = mean_shift(embeddings, bandwidth=1.0)
    assert benchmark_embedding.quality(truth, found) == 1
    assert 0.5 < benchmark_embedding.quality(truth, found.where(found > 0, -1)) < 1


def test_embeddings_of_the_sklearn_row_are_a_trained_models():
    embeddings, truth, settings = benchmark_embedding.trained_embeddings()
    assert embeddings.shape == (len(truth), 16) and 19_000 < len(truth) < 25_000
    assert torch.equal(truth.unique(), torch.arange(18))
    assert settings == {"bandwidth": 1.5, "min_size": 20 * 16}
    assert benchmark_embedding.quality(truth, mean_shift(embeddings, **settings)) > 0.6


def test_rows_whose_outcome_is_wrong_are_not_timed(monkeypatch):
    embeddings, truth, _ = benchmark_embedding.separate_embeddings(200, 4)
    scene = embeddings, truth, {"bandwidth": 1e-3}  # ours finds nothing but single pixels
    same = torch.zeros_like(embeddings), truth, None
    monkeypatch.setattr(benchmark_embedding, "trained_embeddings", lambda: scene)
    monkeypatch.setattr(benchmark_embedding, "sklearn_mean_shift", lambda x, bandwidth: truth)
    monkeypatch.setattr(benchmark_embedding, "separate_embeddings", lambda: same)
    monkeypatch.setattr(benchmark_embedding, "published_model", lambda *_: (None, None))
    monkeypatch.setattr(benchmark_embedding, "predict", lambda *_: range(5))
    rows = [
        *benchmark_embedding.embedding_clustering_rows(),
        *benchmark_embedding.embedding_inference_rows(),
    ]
    timings, problems = benchmark.measure(rows, repeats=1, memory=False)
    assert not timings
    for problem, words in zip(problems, ("not the true ones", "is below", "finds 5"), strict=True):
        assert words in problem


def test_image_of_the_inference_row():
    picture = benchmark_embedding.nuclei_like_image()
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    assert ndimage.label(picture[..., 0] > 25)[1] == 20


def test_a_row_that_cannot_be_measured_does_not_cost_the_others(monkeypatch, capsys, tmp_path):
    def build():
        raise UserError("There is no file x.pth.")

    good = sleeping_row(2)
    rows = [replace(good, name="absent", build=build), replace(sleeping_row(2, 3.0), name="wrong")]
    monkeypatch.setattr(benchmark, "ROW_SOURCES", [lambda: [*rows, good]])
    path = tmp_path / "figures.json"
    assert benchmark.main(["--repeats", "1", "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.count("sleeping longer") == 1 and len(json.loads(path.read_text())) == 1
    absent, wrong = err.splitlines()
    assert absent == "error: row 'absent': There is no file x.pth."
    assert wrong.startswith("error: row 'wrong': Ours and the reference differ by 2,")
    assert benchmark.main(["--repeats", "1", "--rows", "absent"]) == 1


@pytest.mark.parametrize(("required", "status"), [(2, 0), (50, 1)])
def test_strict_and_json(clock, monkeypatch, capsys, tmp_path, required, status):
    monkeypatch.setattr(benchmark, "ROW_SOURCES", [lambda: [sleeping_row(required)]])
    path = tmp_path / "new" / "figures.json"
    arguments = ["--repeats", "2", "--json", str(path)]
    assert benchmark.main(arguments) == 0
    assert benchmark.main([*arguments, "--strict"]) == status
    assert "sleeping longer" in capsys.readouterr().out
    (figures,) = json.loads(path.read_text())
    assert figures["name"] == "sleep" and figures["met"] == (status == 0)
