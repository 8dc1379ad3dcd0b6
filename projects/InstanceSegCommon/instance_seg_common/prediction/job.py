"""Prediction of many files: each costs one line if it fails, and none is done twice."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import torch

from ..data.cache import atomic_path
from ..engine.limits import ReachedLimit
from ..engine.versions import versions_of
from ..errors import UserError
from .forms import written_files
from .inputs import InputImage
from .joined import JOINED
from .journal import Entry, Journal, settings_of
from .meter import Meter
from .one_file import ERRORS, Failure, Job, attempt, not_written, predict_file
from .predictor import Predictor

if TYPE_CHECKING:
    from .on_ray import ModelOnRay

SUMMARY = "summary.json"
PACKAGES = ("instance-seg-three-ways", "torch", "torchvision", "detectron2", "numpy")


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        entries: of the images that are done, by this run or those that it continued.
        failures: sentences by the title of the image.
        skipped: how many of the entries were done before.
        seconds: of this run.
        first_after: of these, until the first image was over; on a cluster the workers have to
            start before it.
        pixels: of the images that this run has done.
    """

    entries: "list[Entry]" = field(default_factory=list)
    failures: "dict[str, str]" = field(default_factory=dict)
    skipped: int = 0
    seconds: float = 0.0
    first_after: Optional[float] = None
    pixels: int = 0

    def limits(self) -> "list[ReachedLimit]":
        """The limits that cut something off, and in how many images."""
        count = Counter((str(key), int(value)) for e in self.entries for key, value in e.limits)
        total = len(self.entries)
        return [ReachedLimit(key, value, n, total) for (key, value), n in count.most_common()]

    @property
    def sentence(self) -> str:
        """How many images, objects and megapixels, and how fast."""
        fresh, megapixels = len(self.entries) - self.skipped, self.pixels / 1e6
        speed = megapixels / self.seconds if self.seconds else 0.0
        done = f"{fresh} images" + (f" ({self.skipped} were done before)" if self.skipped else "")
        objects = sum(entry.objects for entry in self.entries)
        return (
            f"{done}, {objects} objects in all, {megapixels:.1f} megapixels in "
            f"{self.seconds:.0f} s: {speed:.2f} megapixels a second."
        )


Attempts = Iterator[tuple[InputImage, Union[Entry, Failure]]]


def attempt_each(
    predictor: Predictor, images: "Sequence[InputImage]", job: Job, *, meter: Meter
) -> Attempts:
    """Predict images in this process, one after the other.

    Args:
        predictor, images, job: of the run.
        meter: told of every tile.
    """
    for image in images:
        work = partial(predict_file, predictor, image, job, progress=meter.tiles)
        yield image, attempt(work, image, job)


def run_job(
    predictor: "Union[Predictor, ModelOnRay]",
    images: "Sequence[InputImage]",
    job: Job,
    *,
    resume: bool = False,
    failures: "Optional[Mapping[str, str]]" = None,
    model: str = "",
    attempts: "Callable[..., Attempts]" = attempt_each,
) -> Outcome:
    """Predict images and write their files.

    Whatever stops it, the images done until then stay done: run it again with ``resume``.

    Args:
        predictor: of the run.
        images: with distinct names.
        job: what is written.
        resume: leave out what an earlier run in the same folder has done.
        failures: of files that cannot be images, for the summary.
        model: what the user calls it.
        attempts: does the work, see :func:`attempt_each`.

    Returns:
        Also on disk, as ``summary.json``.

    Raises:
        UserError: the folder cannot be used, or the files cannot be written.
    """
    settings = settings_of(predictor.cfg, reading=repr(job.reading), pixel_size=job.pixel_size)
    journal = Journal.begin(job.folder, settings, resume=resume)
    todo = [image for image in images if not _is_done(image, job, journal)]
    failures = dict(failures or {})
    outcome = Outcome(failures=dict(failures), skipped=len(images) - len(todo))
    begin = time.perf_counter()
    try:
        with Meter(todo, job.reading) as meter:
            for image, done in attempts(predictor, todo, job, meter=meter):
                if outcome.first_after is None:
                    outcome.first_after = round(time.perf_counter() - begin, 3)
                _note(image, done, job, journal=journal, outcome=outcome)
                if isinstance(done, Failure):
                    meter.say(f"error: {done.sentence}")
                meter.next_image()
    except OSError as error:
        raise UserError(not_written(job, error)) from error
    finally:
        outcome.seconds = time.perf_counter() - begin
        outcome.entries = journal.of(images)
        complete = len(outcome.entries) + len(outcome.failures) >= len(images) + len(failures)
        facts = {"complete": complete, "model": model}
        write_summary(predictor, job, outcome, settings=journal.settings, facts=facts)
    for form in job.forms:
        if form in JOINED:
            JOINED[form](job.folder, outcome.entries)
    return outcome


def _is_done(image: InputImage, job: Job, journal: Journal) -> bool:
    entries = journal.of([image])
    same_name = bool(entries) and entries[0].name == image.name
    return same_name and len(written_files(job.folder, job.forms, image.name)) == len(job.forms)


def _note(
    image: InputImage,
    done: "Union[Entry, Failure]",
    job: Job,
    *,
    journal: Journal,
    outcome: Outcome,
) -> None:
    """Write down what became of an image."""
    if isinstance(done, Entry):
        journal.add(done)
        outcome.pixels += done.height * done.width
        return
    if done.traceback:
        with (job.folder / ERRORS).open("a") as file:
            file.write(f"{image.title}\n{done.traceback}\n")
    if done.stops:
        raise UserError(done.sentence)
    outcome.failures[image.title] = done.sentence


def write_summary(
    predictor: "Union[Predictor, ModelOnRay]",
    job: Job,
    outcome: Outcome,
    *,
    settings: "Mapping[str, Any]",
    facts: "Mapping[str, Any]",
) -> Path:
    """Write ``summary.json``: model, settings, versions, time, counts and failures of a run.

    Args:
        predictor, job, outcome: of the run.
        settings: of its journal.
        facts: further ones, which come first.
    """
    cfg, path = predictor.cfg, job.folder / SUMMARY
    content = {
        **facts,
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        "weights": cfg.MODEL.WEIGHTS,
        "settings": {
            **settings,
            "forms": list(job.forms),
            "tile": cfg.TEST.TILE_SIZE,
            "overlap": cfg.TEST.TILE_OVERLAP,
            "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            "min_area": cfg.TEST.LABEL_MAP_MIN_AREA,
            "device": cfg.MODEL.DEVICE,
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": sys.version.split()[0], **versions_of(PACKAGES)},
        "images": len(outcome.entries),
        "images_done_before": outcome.skipped,
        "objects": sum(entry.objects for entry in outcome.entries),
        "megapixels_of_this_run": outcome.pixels / 1e6,
        "seconds_of_this_run": round(outcome.seconds, 3),
        "seconds_to_first_image": outcome.first_after,
        "limits": [limit._asdict() for limit in outcome.limits()],
        "failures": outcome.failures,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path
