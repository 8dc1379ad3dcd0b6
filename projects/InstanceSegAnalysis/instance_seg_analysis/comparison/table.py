"""The figures of each model as a table."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
from tabulate import tabulate

from instance_seg_analysis.comparison.run import Summary


class Column(NamedTuple):
    """heading; key: of the figure; form: its format; more_is_better: None where it
    says nothing of quality."""

    heading: str
    key: str
    form: str
    more_is_better: Optional[bool]


COLUMNS = (
    Column("AP", "AP", "{:.1f}", True),
    Column("AP50", "AP50", "{:.1f}", True),
    Column("AP75", "AP75", "{:.1f}", True),
    Column("accuracy at IoU 0.5", "accuracy", "{:.3f}", True),
    Column("PQ", "PQ", "{:.3f}", True),
    Column("SBD", "SBD", "{:.3f}", True),
    Column("|DiC|", "DiC", "{:.2f}", False),
    Column("seconds an image", "seconds", "{:.3f}", None),
    Column("network", "network_seconds", "{:.3f}", None),
    Column("post-processing", "post_seconds", "{:.3f}", None),
    Column("peak memory, MiB", "peak_mib", "{:.0f}", None),
    Column("parameters, million", "parameters_million", "{:.2f}", None),
)


class TableRow(NamedTuple):
    """One model: its name and kind; cells: texts, and whether each is the best of its column."""

    name: str
    kind: str
    cells: list[tuple[str, bool]]


def figures_of(summary: Summary) -> "dict[str, Optional[float]]":
    """The figures of a Summary by the keys of ``COLUMNS``; None where there is none."""
    peak = summary.peak_bytes
    return {
        **{key: None if np.isnan(v) else v for key, v in summary.metrics.items()},
        "seconds": summary.seconds,
        "network_seconds": summary.network_seconds,
        "post_seconds": summary.post_seconds,
        "peak_mib": None if peak is None else peak / 2**20,
        "parameters_million": summary.parameters / 1e6,
    }


def table_rows(summaries: Sequence[Summary]) -> "list[TableRow]":
    """The table of metrics as texts, a row for each model."""
    figures = [figures_of(summary) for summary in summaries]
    columns = [_cells([f[column.key] for f in figures], column) for column in COLUMNS]
    return [TableRow(s.name, s.kind, list(cells)) for s, cells in zip(summaries, zip(*columns))]


def _cells(values: "Sequence[Optional[float]]", column: Column) -> "list[tuple[str, bool]]":
    """The texts of one column, and whether each is the best; equal texts are equally good."""
    texts = ["–" if value is None else column.form.format(value) for value in values]
    known = [value for value in values if value is not None]
    if column.more_is_better is None or not known:
        return [(text, False) for text in texts]
    best = column.form.format(max(known) if column.more_is_better else min(known))
    return [(text, text == best) for text in texts]


def text_table(summaries: Sequence[Summary]) -> str:
    """The table of metrics as text for the terminal."""
    rows = [[row.name, *(text for text, _ in row.cells)] for row in table_rows(summaries)]
    headers = ["model", *(column.heading for column in COLUMNS)]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
