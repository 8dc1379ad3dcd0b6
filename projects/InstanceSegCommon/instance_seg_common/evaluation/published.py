"""Published figures, and an own result printed among them.

``published.csv`` has a row for each figure: paper, data_set, split, metric, value, source. APs, SBD
and Dice are in percent, DiC in objects; a "-" and a class at the end of a metric mean that class
alone. Where a figure was published with a deviation, that is a row of its own (``SBD_std``).
"""

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, Optional

from tabulate import tabulate

OWN = "this model"


class Row(NamedTuple):
    """A published figure."""

    paper: str
    data_set: str
    split: str
    metric: str
    value: float
    source: str


class OwnMetric(NamedTuple):
    """Where an own result has a metric, and the factor to the unit of the table."""

    group: str
    name: str
    factor: int


class Benchmark(NamedTuple):
    """What the figures of a registered data set may be compared with.

    data_set: as in the table.
    metrics: by the name in the table. The first one decides the order of the rows.
    """

    data_set: str
    metrics: "dict[str, OwnMetric]"


_CITYSCAPES = ("AP", "AP50", "AP100m", "AP50m")
_VOC = {f"AP{t}": OwnMetric("voc", f"AP_r{t}", 1) for t in (50, 60, 70, 80)}
_VOC_2012 = Benchmark(
    "Pascal VOC 2012", {**_VOC, "AP50-person": OwnMetric("voc", "AP_r50-person", 1)}
)
# The beginning of the names of data sets -> Benchmark.
BENCHMARKS = {
    "cityscapes_instance": Benchmark(
        "Cityscapes",
        {
            name: OwnMetric("cityscapes", name, 1)
            for name in (*_CITYSCAPES, *(f"{name}-car" for name in _CITYSCAPES))
        },
    ),
    "voc_2012_instance": _VOC_2012,
    "voc_sbd": _VOC_2012,
    "cvppp_A1": Benchmark(
        "CVPPP A1",
        {
            "SBD": OwnMetric("sbd", "SBD", 100),
            "SBD_std": OwnMetric("sbd", "SBD_std", 100),
            "DiC": OwnMetric("dic", "DiC", 1),
            "DiC_std": OwnMetric("dic", "DiC_std", 1),
        },
    ),
}


def published_rows() -> "list[Row]":
    """The whole table, in the order of the file."""
    file = resources.files("instance_seg_common.evaluation").joinpath("published.csv")
    text = file.read_text(encoding="utf-8")
    table = csv.DictReader(text.splitlines())
    return [Row(**{**row, "value": float(row["value"])}) for row in table]


def benchmark_of(dataset_name: str) -> Optional[Benchmark]:
    """The :class:`Benchmark` of a registered data set, None where nothing is published."""
    names = [n for n in BENCHMARKS if dataset_name == n or dataset_name.startswith(f"{n}_")]
    return BENCHMARKS[names[0]] if names else None


def comparison(
    dataset_name: str, results: Mapping[str, Any], rows: Optional[Sequence[Row]] = None
) -> str:
    """An own result among the published ones of the same benchmark.

    Args:
        dataset_name: what was evaluated.
        results: nested, of its evaluators.
        rows: by default those of :func:`published_rows`.

    Returns:
        A table, best first; "" where nothing is published or the result has none of its metrics.
        Published figures of another split stand there with that split.
    """
    benchmark = benchmark_of(dataset_name)
    if benchmark is None:
        return ""
    own = _own_figures(benchmark, results)
    if not own:
        return ""
    lines, sources = {(OWN, dataset_name): own}, {(OWN, dataset_name): {}}
    for row in published_rows() if rows is None else rows:
        if row.data_set == benchmark.data_set and row.metric in benchmark.metrics:
            key = row.paper, row.split
            lines.setdefault(key, {})[row.metric] = row.value
            sources.setdefault(key, {})[row.source] = None  # a set that keeps its order
    return f"{benchmark.data_set}, published figures:\n" + _table(
        lines, sources, list(benchmark.metrics)
    )


def _table(lines, sources, metrics):
    """Figures of each (name, split) as a text table, best first."""
    ordered = sorted(lines.items(), key=lambda line: _rank(line[1], metrics))
    table = [[*k, *(line.get(m) for m in metrics), "; ".join(sources[k])] for k, line in ordered]
    headers = ["", "split", *metrics, "source"]
    formats = ("", "", *(".1f" for _ in metrics), "")
    return tabulate(table, headers, tablefmt="pipe", floatfmt=formats)


def comparisons(dataset_names: Sequence[str], results: Mapping[str, Any]) -> "list[str]":
    """:func:`comparison` of every data set of an evaluation that has one.

    Args:
        dataset_names: DATASETS.TEST.
        results: of ``DefaultTrainer.test``: by data set, unless there is only one.
    """
    per_set = {dataset_names[0]: results} if len(dataset_names) == 1 else results
    texts = (comparison(name, per_set.get(name, {})) for name in dataset_names)
    return [text for text in texts if text]


def _own_figures(benchmark, results):
    """{metric: value in the table's unit} of those that a result has."""
    return {
        metric: own.factor * results[own.group][own.name]
        for metric, own in benchmark.metrics.items()
        if own.name in results.get(own.group, {})
    }


def _rank(figures, metrics):
    """Sort key: the best of the first metric first; who lacks it comes later."""
    first = next(i for i, metric in enumerate(metrics) if metric in figures)
    value = figures[metrics[first]]
    return first, (value != value), -value
