"""Prediction of many files on a Ray cluster: the job of :func:`job.run_job`, done by its workers.

The images are a data set of Ray Data, the model is in its actors; results are written by them, and
what they say of each image comes back one by one. Ray begins anew what a worker has not brought
back when it dies; files are replaced as a whole, so that nothing is lost, and nothing doubled.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Optional

from detectron2.config import CfgNode

from ..data.reading import Reading
from ..engine.chosen_images import Classes, classes_of
from ..engine.machine import fit_to_machine
from ..engine.setup import load_model_cfg
from ..errors import UserError
from ..tiling.tiled_model import tiles_of
from .inputs import InputImage
from .job import Attempts
from .journal import Entry
from .meter import Meter
from .one_file import Failure, Job
from .ray_cluster import Pool, pool_for, require_ray
from .ray_workers import Coordinator, Row, SeenRange, Setup, Worker, finish_large, row_of

# An image of more tiles goes to several workers, so many tiles at a time: at 1,024 pixels they take
# seconds, of which what goes to and fro is a small share.
TILES_A_ROW = 16
MOST_BLOCKS = 10_000  # each costs Ray a millisecond or two before the first image is begun


@dataclass(frozen=True)
class ModelOnRay:
    """A model for :func:`attempt_on_ray`.

    Attributes:
        model, opts: of :func:`predictor.load_predictor`, which every worker calls.
        cfg: as it is on the workers.
        pool: of the workers.
        classes: of the model.
    """

    model: str
    opts: tuple[str, ...]
    cfg: CfgNode
    pool: Pool
    classes: Classes


def load_model_on_ray(
    model: str, opts: "Sequence[str]" = (), *, workers: Optional[int] = None
) -> ModelOnRay:
    """A model for the cluster that this process is connected to; the weights stay unread here.

    Args:
        model, opts: of :func:`predictor.load_predictor`.
        workers: see :func:`ray_cluster.pool_for`.

    Raises:
        UserError: no such model, or more workers than the cluster has CPUs.
    """
    # This machine may have no GPU where the workers have some.
    cfg = load_model_cfg(model, opts, fit=False)
    resources = require_ray().cluster_resources()
    pool = pool_for(resources, workers, wants_gpu=cfg.MODEL.DEVICE.startswith("cuda"))
    cfg = cfg if pool.gpus else fit_to_machine(cfg)
    return ModelOnRay(model, tuple(opts), cfg, pool, classes_of(cfg))


def attempt_on_ray(
    model: ModelOnRay, images: "Sequence[InputImage]", job: Job, *, meter: Meter
) -> Attempts:
    """Predict images on the workers of a cluster, for :func:`job.run_job`.

    Args:
        model: of :func:`load_model_on_ray`.
        images, job: of the run.
        meter: told of every image and range of tiles.

    Raises:
        UserError: the cluster fails as a whole.
    """
    if not images:
        return
    ray = require_ray()
    setup = Setup(model.model, model.opts, job, os.getcwd(), model.pool.threads)
    kind = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Coordinator)
    coordinator = kind.remote(setup, model.cfg)
    rows = [row for image in images for row in rows_of(model.cfg, image, job.reading)]
    large = _LargeImages(ray, coordinator, model, setup=setup, rows=rows)
    try:
        for row, done in _done(ray, rows, model.pool, arguments=(setup, coordinator)):
            meter.add(_pixels_of(done))
            if row.last:
                yield from large.take(row, done)
            else:
                yield row.image, done
            yield from large.finished(most=model.pool.workers)
        yield from large.finished(most=0)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"The Ray cluster failed: {error}. What was done until now is complete; go on with "
            "--resume."
        ) from error


def _pixels_of(done: Any) -> int:
    if isinstance(done, Entry):
        return done.height * done.width
    return done.pixels if isinstance(done, SeenRange) else 0


def rows_of(cfg: CfgNode, image: InputImage, reading: Reading) -> "list[Row]":
    """An image as a row, or as one for each range of its tiles if they are many.

    Args:
        cfg: of the model.
        image: whose header is read.
        reading: of the run.
    """
    plane = -1 if image.plane is None else image.plane
    try:
        count = len(tiles_of(cfg, image.size(reading)))
    except UserError:
        count = 1  # the worker that tries it says why it cannot be
    if count <= TILES_A_ROW:
        return [Row(str(image.path), plane, image.name, 0, 0)]
    return [
        Row(str(image.path), plane, image.name, first, min(first + TILES_A_ROW, count))
        for first in range(0, count, TILES_A_ROW)
    ]


def _done(
    ray: ModuleType, rows: "Sequence[Row]", pool: Pool, *, arguments: "tuple[Any, ...]"
) -> "Iterator[tuple[Row, Any]]":
    """The rows in the order in which workers bring them back, each with what was done."""
    items = [row._asdict() for row in rows]
    images = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
    done = images.map(
        Worker,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=pool.workers),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )
    # iter_rows holds each row back until the next one comes.
    for table in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for values in table.to_pylist():
            yield row_of(values), pickle.loads(values["done"])


@dataclass
class _Ranges:
    """of: how many there are of an image; seen, failures: those that are back, by first tile."""

    of: int
    seen: "dict[int, SeenRange]" = field(default_factory=dict)
    failures: "dict[int, Failure]" = field(default_factory=dict)


class _LargeImages:
    """Gathers what ranges of tiles bring back, and has each image finished by a worker."""

    def __init__(
        self,
        ray: ModuleType,
        coordinator: Any,
        model: ModelOnRay,
        *,
        setup: Setup,
        rows: "Sequence[Row]",
    ) -> None:
        self._ray, self._coordinator = ray, coordinator
        # Workers have reserved all CPUs.
        self._task = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(finish_large)
        self._facts = {"setup": setup, "cfg": model.cfg, "classes": model.classes}
        self._ranges: dict[str, _Ranges] = {}
        for row in rows:
            self._ranges.setdefault(row.name, _Ranges(0)).of += 1
        self._finishing: dict[Any, InputImage] = {}

    def take(self, row: Row, done: Any) -> Attempts:
        """A range is back, a SeenRange or a Failure; with the last one the image is finished."""
        ranges = self._ranges[row.name]
        if isinstance(done, Failure):
            ranges.failures[row.first] = done
        else:
            ranges.seen[row.first] = done
        if len(ranges.seen) + len(ranges.failures) == ranges.of:
            del self._ranges[row.name]
            if ranges.failures:
                yield row.image, ranges.failures[min(ranges.failures)]
            else:
                self._finish(row.image, [ranges.seen[key] for key in sorted(ranges.seen)])
            self._coordinator.forget.remote(row.image)

    def _finish(self, image: InputImage, seen: "list[SeenRange]") -> None:
        opened = self._ray.get(self._coordinator.opened.remote(image))[0]
        self._finishing[self._task.remote(opened, seen, image, **self._facts)] = image

    def finished(self, *, most: int) -> Attempts:
        """The images whose files are written; waits until no more than ``most`` are under way."""
        while self._finishing:
            tasks = list(self._finishing)
            ready, _ = self._ray.wait(tasks, timeout=None if len(tasks) > most else 0)
            if not ready:
                return
            image = self._finishing.pop(ready[0])
            yield image, self._result(ready[0], image)

    def _result(self, task: Any, image: InputImage) -> "Entry | Failure":
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Failure(
                f"{image.title} could not be put together from its tiles, for the process that did "
                f"so died several times, mostly for want of memory ({type(error).__name__})."
            )
