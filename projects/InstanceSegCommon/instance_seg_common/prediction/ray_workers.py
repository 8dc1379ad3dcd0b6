"""What runs on the machines of a cluster: workers that hold the model, and who shares large images.

Each worker is an actor of Ray Data. A row is an image, which is predicted and whose files are
written there, or a range of tiles of a large one, the parts of which go back.
"""

import os
import pickle
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from detectron2.config import CfgNode

from ..engine.chosen_images import Classes
from ..errors import UserError
from ..tiling.packing import PackedParts, pack_parts, unpack_parts
from ..tiling.tiled_model import tiles_of
from .inputs import InputImage
from .journal import Entry
from .one_file import Failure, Job, StopRun, attempt, predict_file, write_result
from .predictor import (
    OpenedImage,
    Predictor,
    Seen,
    load_predictor,
    open_image,
    put_together,
)
from .ray_cluster import require_ray

MOST_TRIES = 3  # of a row whose worker dies each time, before it is given up


@dataclass(frozen=True)
class Setup:
    """What every process of a run needs to know.

    Attributes:
        model, opts: of :func:`predictor.load_predictor`.
        job: of the run.
        folder: from which relative paths count, those of the images, the output and the weights.
        threads: of each worker.
    """

    model: str
    opts: tuple[str, ...]
    job: Job
    folder: str
    threads: int

    def enter(self) -> None:
        """Make relative paths mean in this process what they mean to the user."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise StopRun(
                f"The folder {self.folder} is not on node {os.uname().nodename} ({error}): all "
                "nodes of a cluster need the project, the images and the output in a file system "
                "that they share, at the same paths."
            ) from error


class Row(NamedTuple):
    """An image, or a range of its tiles.

    Args:
        file, plane, name: of the :class:`inputs.InputImage`; -1 for no plane, as columns have one
            type.
        first, last: of the tiles, the last one excluded; 0, 0 for an image as a whole.
    """

    file: str
    plane: int
    name: str
    first: int
    last: int

    @property
    def image(self) -> InputImage:
        """It, or that of which these are tiles."""
        return InputImage(Path(self.file), self.name, None if self.plane < 0 else self.plane)


class SeenRange(NamedTuple):
    """parts: of a range of tiles; limits: see :class:`predictor.Seen`; pixels: that no other tile
    decides on; seconds: it took."""

    parts: PackedParts
    pixels: int
    limits: "tuple[tuple[str, int], ...]"
    seconds: float


class Worker:
    """Holds the model, one in each process; a callable class for Ray Data."""

    def __init__(self, setup: Setup, coordinator: Any) -> None:
        """
        Args:
            setup: of the run.
            coordinator: handle of the run's :class:`Coordinator`.
        """
        self._setup, self._coordinator = setup, coordinator
        self._predictor: Optional[Predictor] = None
        self._large: Optional[tuple[str, Union[OpenedImage, Failure]]] = None

    def __call__(self, row: "dict[str, Any]") -> "dict[str, Any]":
        """The row with ``done``, pickled: an Entry, a SeenRange or a Failure."""
        one = Row(**row)
        done = attempt(partial(self._work, one), one.image, self._setup.job)
        return {**row, "done": pickle.dumps(done)}

    def _work(self, row: Row) -> "Union[Entry, SeenRange, Failure]":
        ray = require_ray()
        tries = ray.get(self._coordinator.begin.remote(row))
        if tries > MOST_TRIES:
            raise UserError(
                f"{row.image.title} was begun {MOST_TRIES} times, and each time its worker died, "
                "mostly for want of memory: predict it in smaller tiles, as --tile 512, or with "
                "fewer --workers."
            )
        predictor = self._ready_predictor()
        if not row.last:
            self._large = None
            return predict_file(predictor, row.image, self._setup.job)
        return self._look(predictor, row)

    def _ready_predictor(self) -> Predictor:
        # Not in the constructor, where an error ends the run without its sentence.
        if self._predictor is None:
            self._setup.enter()
            torch.set_num_threads(self._setup.threads)
            try:
                self._predictor = load_predictor(self._setup.model, self._setup.opts)
            except UserError as error:
                raise StopRun(str(error)) from error
        return self._predictor

    def _look(self, predictor: Predictor, row: Row) -> "Union[SeenRange, Failure]":
        begin = time.perf_counter()
        opened = self._opened(row.image)
        if isinstance(opened, Failure):
            return opened
        tiles = tiles_of(predictor.cfg, opened.image.size)[row.first : row.last]
        seen = predictor.look(opened, tiles)
        pixels = sum(height * width for height, width in (tile.core.shape for tile in tiles))
        parts = pack_parts(seen.parts)
        return SeenRange(parts, pixels, seen.limits, time.perf_counter() - begin)

    def _opened(self, image: InputImage) -> "Union[OpenedImage, Failure]":
        """A large image, its pixels shared by all processes of the node."""
        ray = require_ray()
        if self._large is not None and self._large[0] == image.name:
            return self._large[1]
        self._large = None  # before the next one is in memory
        try:
            opened = ray.get(ray.get(self._coordinator.opened.remote(image))[0])
        except ray.exceptions.ObjectLostError:  # with a node, or with the coordinator
            opened = ray.get(ray.get(self._coordinator.opened.remote(image))[0])
        self._large = image.name, opened
        return opened


class Coordinator:
    """Counts the tries of each row, and knows where the pixels of large images are; an actor.

    A large image is read once, by a task, into Ray's object store, from which all processes of a
    node read the same memory: however many workers, each node holds it once. Files need not allow
    to read a part of them, and percentiles of the whole image are taken once.
    """

    def __init__(self, setup: Setup, cfg: CfgNode) -> None:
        """
        Args:
            setup: of the run.
            cfg: of the model.
        """
        # Workers have reserved all CPUs.
        task = require_ray().remote(num_cpus=0, scheduling_strategy="SPREAD")(open_large)
        self._open = partial(task.remote, setup, cfg)
        self._opened: dict[str, Any] = {}
        self._begun: Counter[tuple[str, int]] = Counter()

    def begin(self, row: Row) -> int:
        """How many times the row has been begun, this time included."""
        self._begun[row.name, row.first] += 1
        return self._begun[row.name, row.first]

    def opened(self, image: InputImage) -> "list[Any]":
        """A reference to what :func:`open_large` gives; in a list, for Ray resolves bare ones."""
        if image.name not in self._opened:
            self._opened[image.name] = self._open(image)
        return [self._opened[image.name]]

    def forget(self, image: InputImage) -> None:
        """The image is not needed any more."""
        self._opened.pop(image.name, None)


def open_large(setup: Setup, cfg: CfgNode, image: InputImage) -> "Union[OpenedImage, Failure]":
    """Read an image for all workers.

    Args:
        setup: of the run.
        cfg: of the model.
        image: to read.
    """

    def work() -> OpenedImage:
        setup.enter()
        record = image.record(setup.job.reading)
        return open_image(cfg, record, pixel_size=setup.job.pixel_size)

    return attempt(work, image, setup.job)


def finish_large(
    opened: "Union[OpenedImage, Failure]",
    seen: "Sequence[SeenRange]",
    image: InputImage,
    *,
    setup: Setup,
    cfg: CfgNode,
    classes: Classes,
) -> "Union[Entry, Failure]":
    """Put the objects of a large image together and write its files.

    Args:
        opened: of :func:`open_large`.
        seen: of all ranges of its tiles, in their order.
        image: it.
        setup: of the run.
        cfg: of the model.
        classes: of the model.
    """
    if isinstance(opened, Failure):
        return opened

    def work() -> Entry:
        setup.enter()
        begin = time.perf_counter()
        parts = [tile for one in seen for tile in unpack_parts(one.parts)]
        limits = tuple(dict.fromkeys(limit for one in seen for limit in one.limits))
        result = put_together(cfg, opened, Seen(parts, limits), classes=classes)
        seconds = time.perf_counter() - begin + sum(one.seconds for one in seen)
        return write_result(result, image, setup.job, seconds=seconds)

    return attempt(work, image, setup.job)


def row_of(values: "Mapping[str, Any]") -> Row:
    """The row of which a worker has given a result."""
    return Row(*(values[name] for name in Row._fields))
