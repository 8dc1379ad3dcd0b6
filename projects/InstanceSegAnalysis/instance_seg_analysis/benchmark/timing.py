"""Timing against a reference in the same run, so that the ratio holds on any machine."""

import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from tabulate import tabulate

from instance_seg_common.errors import UserError

_RESET_PEAK = "5"  # sets VmHWM, the peak, back to what is resident now
Function = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name (str): short, for the command line.
        what (str): what is computed, on what size of input.
        reference (str): what it is compared with.
        required (float): the reference's time over ours must be at least this.
        build (callable): () -> (ours, reference), two functions without arguments.
        tolerance (float or None): their results (numbers or arrays) differ by no more than this;
            None: they are not compared.
        required_memory (float or None): the reference's peak memory over ours must be at least
            this, where memory is measured; None: any.
        max_repeats (int or None): run no more often than this, for a reference that takes long.
    """

    name: str
    what: str
    reference: str
    required: float
    build: Callable[[], tuple[Function, Function]]
    tolerance: Optional[float] = 1e-9
    required_memory: Optional[float] = None
    max_repeats: Optional[int] = None


@dataclass(frozen=True)
class Timing:
    """Result of a row: milliseconds, minimum over the repeats; bytes added at peak, or None.

    ``met``: the time's ratio is the required one or better, and so is the memory's if measured.
    """

    name: str
    what: str
    reference: str
    ours_ms: float
    reference_ms: float
    ratio: float
    required: float
    met: bool
    ours_bytes: Optional[int] = None
    reference_bytes: Optional[int] = None
    memory_ratio: Optional[float] = None
    required_memory: Optional[float] = None


def run_row(row: Row, *, repeats: int = 10, memory: bool = False) -> Timing:
    """Check that both functions agree, then time them in turn, on one thread.

    Args:
        row (Row)
        repeats (int): the minimum over this many runs of each, or the row's ``max_repeats`` if
            that is less, is taken.
        memory (bool): measure the peak memory as well (Linux).

    Returns:
        Timing

    Raises:
        ValueError: the results differ by more than the row's tolerance.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    repeats = min(repeats, row.max_repeats or repeats)
    try:
        ours, reference = row.build()
        _compare(row, ours(), reference())
        ours_s, reference_s = _interleaved_minimum((ours, reference), repeats)
        peaks = (peak_memory(ours), peak_memory(reference)) if memory else (None, None)
    finally:
        torch.set_num_threads(threads)
    ratio = reference_s / ours_s
    memory_ratio = peaks[1] / max(peaks[0], 1) if memory else None
    return Timing(
        name=row.name,
        what=row.what,
        reference=row.reference,
        ours_ms=1e3 * ours_s,
        reference_ms=1e3 * reference_s,
        ratio=ratio,
        required=row.required,
        met=ratio >= row.required and _memory_met(memory_ratio, row.required_memory),
        ours_bytes=peaks[0],
        reference_bytes=peaks[1],
        memory_ratio=memory_ratio,
        required_memory=row.required_memory,
    )


def run_rows(
    rows: Iterable[Row], *, repeats: int = 10, memory: bool = False
) -> "tuple[list[Timing], list[str]]":
    """Time the rows; what keeps one from being measured does not keep the others.

    Args:
        rows (iterable[Row])
        repeats, memory: of :func:`run_row`.

    Returns:
        tuple[list[Timing], list[str]]: and a sentence for each row without a timing.
    """
    timings, problems = [], []
    for row in rows:
        try:
            timings.append(run_row(row, repeats=repeats, memory=memory))
        except ValueError as error:  # UserError is one, too
            problems.append(f"row '{row.name}': {error}")
    return timings, problems


def _memory_met(ratio: Optional[float], required: Optional[float]) -> bool:
    return ratio is None or required is None or ratio >= required


def _interleaved_minimum(functions: Sequence[Function], repeats: int) -> list[float]:
    """Seconds of each; taking turns, so that a busy moment of the machine hits all of them."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            gc.collect()
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def _compare(row: Row, ours: Any, reference: Any) -> None:
    if row.tolerance is None:
        return
    difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(reference, dtype=float))
    if difference.size and not difference.max() <= row.tolerance:
        raise ValueError(
            f"Ours and the reference differ by {difference.max():.3g}, "
            f"allowed is {row.tolerance:.3g}; a time means nothing."
        )


def peak_memory(function: Function) -> int:
    """Resident memory that a call adds at its peak, measured in a forked process.

    Args:
        function (callable): without arguments.

    Returns:
        int: bytes; memory that the process already holds free can be reused and is not counted.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_peak, args=(function, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measure_peak(function: Function, sender: Connection) -> None:
    # A forked process has none of the parent's worker threads and would wait for them for ever.
    torch.set_num_threads(1)
    # The first call maps the code that it runs, which is not the memory of the computation.
    function()
    # What was freed but is still held would be used again, unseen: give it back first.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = _resident("VmRSS")
    function()
    sender.send(_resident("VmHWM") - before)


def _resident(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if key in x)
    return int(line.split()[1]) * 1024


def select_rows(rows: Sequence[Row], names: Optional[Sequence[str]]) -> list[Row]:
    """The rows of the given names, in their own order; all rows for no names.

    Raises:
        UserError: a name that no row has.
    """
    known = [row.name for row in rows]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise UserError(f"No benchmark row named {', '.join(unknown)}; rows: {', '.join(known)}.")
    return [row for row in rows if not names or row.name in names]


def timings_table(timings: Sequence[Timing]) -> str:
    """The timings as a text table.

    Args:
        timings (list[Timing])

    Returns:
        str
    """
    headers = ["what", "reference", "ours ms", "reference ms", "ratio", "required", "met"]
    rows = [
        [
            t.what,
            t.reference,
            f"{t.ours_ms:.3f}",
            f"{t.reference_ms:.3f}",
            f"{t.ratio:.2f}",
            f"{t.required:.3g}",
            "yes" if t.met else "NO",
        ]
        for t in timings
    ]
    if any(t.ours_bytes is not None for t in timings):
        headers += ["ours MiB", "reference MiB", "memory ratio", "required"]
        for row, t in zip(rows, timings):
            row += [f"{t.ours_bytes / 2**20:.1f}", f"{t.reference_bytes / 2**20:.1f}"]
            required = "-" if t.required_memory is None else f"{t.required_memory:.3g}"
            row += [f"{t.memory_ratio:.2f}", required]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def timings_json(timings: Sequence[Timing]) -> "list[dict[str, Any]]":
    """The timings as plain dicts, for ``json.dump``."""
    return [asdict(timing) for timing in timings]
