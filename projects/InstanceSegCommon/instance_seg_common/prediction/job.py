"""Prediction of many files: each costs one line if it fails, and none is done twice."""

import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from tqdm import tqdm

from ..data.cache import atomic_path
from ..data.images import image_header
from ..data.reading import PLAIN, Reading
from ..engine.limits import ReachedLimit
from ..engine.versions import versions_of
from ..errors import UserError
from ..tiling.tiles import Tile
from .forms import write_forms, written_files
from .inputs import InputImage
from .joined import JOINED
from .journal import Entry, Journal, settings_of
from .predictor import Predictor

SUMMARY, ERRORS = "summary.json", "errors.log"
PACKAGES = ("instance-seg-three-ways", "torch", "torchvision", "detectron2", "numpy")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is done with each image.

    Attributes:
        folder: gets a folder for each form, the journal and the summary.
        forms: of ``forms.FORMS``.
        reading: how files are read.
        pixel_size: side of a pixel in micrometres; None: as each file says.
    """

    folder: Path
    forms: tuple[str, ...]
    reading: Reading = PLAIN
    pixel_size: Optional[float] = None


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        entries: of the images that are done, by this run or those that it continued.
        failures: sentences by the title of the image.
        skipped: how many of the entries were done before.
        seconds: of this run.
        pixels: of the images that this run has done.
    """

    entries: "list[Entry]" = field(default_factory=list)
    failures: "dict[str, str]" = field(default_factory=dict)
    skipped: int = 0
    seconds: float = 0.0
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


def predict_file(
    predictor: Predictor,
    image: InputImage,
    job: Job,
    progress: "Callable[[Sequence[Tile]], Iterator[Tile]]" = iter,
) -> Entry:
    """Predict one image and write its files.

    Args:
        predictor: of the run.
        image: to predict.
        job: what is written.
        progress: wraps the tiles.

    Raises:
        UserError: the image cannot be used, or does not fit in memory.
        OSError: the files cannot be written.
    """
    begin = time.perf_counter()
    try:
        result = predictor.predict(
            image.record(job.reading), pixel_size=job.pixel_size, progress=progress
        )
        predicted = time.perf_counter()
        write_forms(result, job.folder, job.forms, name=image.name, file_name=str(image.path))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        raise UserError(
            f"{image.title} needs more memory than there is: predict it in smaller tiles, as "
            "--tile 512."
        ) from error
    return Entry(
        file=str(image.path), plane=image.plane, name=image.name,
        height=result.size[0], width=result.size[1], objects=len(result), tiles=result.tiles,
        seconds=round(predicted - begin, 3),
        writing_seconds=round(time.perf_counter() - predicted, 3),
        limits=[list(pair) for pair in result.limits],
    )  # fmt: skip


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in text


def run_job(
    predictor: Predictor,
    images: "Sequence[InputImage]",
    job: Job,
    *,
    resume: bool = False,
    failures: "Optional[Mapping[str, str]]" = None,
    model: str = "",
) -> Outcome:
    """Predict images and write their files, one image after the other.

    Whatever stops it, the images done until then stay done: run it again with ``resume``.

    Args:
        predictor: of the run.
        images: with distinct names.
        job: what is written.
        resume: leave out what an earlier run in the same folder has done.
        failures: of files that cannot be images, for the summary.
        model: what the user calls it.

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
            for image in todo:
                _attempt(predictor, image, job, journal=journal, outcome=outcome, meter=meter)
    except OSError as error:
        raise UserError(
            f"The results cannot be written to {job.folder}: {error}. What was done until now is "
            "complete; mend this and go on with --resume."
        ) from error
    finally:
        outcome.seconds = time.perf_counter() - begin
        outcome.entries = journal.of(images)
        complete = len(outcome.entries) + len(outcome.failures) >= len(images) + len(failures)
        write_summary(predictor, job, outcome, model=model, complete=complete)
    for form in job.forms:
        if form in JOINED:
            JOINED[form](job.folder, outcome.entries)
    return outcome


def _is_done(image: InputImage, job: Job, journal: Journal) -> bool:
    entries = journal.of([image])
    same_name = bool(entries) and entries[0].name == image.name
    return same_name and len(written_files(job.folder, job.forms, image.name)) == len(job.forms)


def _attempt(
    predictor: Predictor,
    image: InputImage,
    job: Job,
    *,
    journal: Journal,
    outcome: Outcome,
    meter: "Meter",
) -> None:
    """Predict one image; what fails is said and counted."""
    try:
        entry = predict_file(predictor, image, job, meter.tiles)
    except OSError:
        raise
    except Exception as error:
        meter.say(f"error: {note_failure(image, job, error, outcome)}")
    else:
        journal.add(entry)
        outcome.pixels += entry.height * entry.width
    meter.next_image()


def note_failure(image: InputImage, job: Job, error: Exception, outcome: Outcome) -> str:
    """Keep why an image failed; a fault that is none of the user's is written with its traceback.

    Args:
        image, job: of the run.
        error: raised for the image.
        outcome: gets the sentence.

    Returns:
        The sentence.
    """
    sentence = str(error)
    if not isinstance(error, UserError):
        with (job.folder / ERRORS).open("a") as file:
            file.write(f"{image.title}\n{''.join(traceback.format_exception(error))}\n")
        sentence = (
            f"{image.title} failed by a fault of this program ({type(error).__name__}: {error}); "
            f"its traceback is in {job.folder / ERRORS}."
        )
    outcome.failures[image.title] = sentence
    return sentence


def write_summary(
    predictor: Predictor, job: Job, outcome: Outcome, *, model: str, complete: bool
) -> Path:
    """Write ``summary.json``: model, settings, versions, time, counts and failures of a run."""
    cfg, path = predictor.cfg, job.folder / SUMMARY
    content = {
        "complete": complete,
        "model": model,
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        "weights": cfg.MODEL.WEIGHTS,
        "settings": {
            **settings_of(cfg, reading=repr(job.reading), pixel_size=job.pixel_size),
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
        "limits": [limit._asdict() for limit in outcome.limits()],
        "failures": outcome.failures,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path


class Meter:
    """A bar of megapixels on stderr, if that is a terminal.

    Args:
        images: to be done.
        reading: of their files.
    """

    def __init__(self, images: "Sequence[InputImage]", reading: Reading) -> None:
        self._images, self._reading, self._done = images, reading, 0

    def __enter__(self) -> "Meter":
        # Saying disable=False would overrule TQDM_DISABLE.
        off: dict[str, Any] = {} if sys.stderr.isatty() else {"disable": True}
        total = 0.0 if off else sum(_pixels_of(one, self._reading) for one in self._images) / 1e6
        self._bar = tqdm(total=round(total, 3), unit="MP", unit_scale=False, **off)
        self._describe()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()

    def _describe(self) -> None:
        self._bar.set_description(f"image {self._done} of {len(self._images)}")

    def tiles(self, tiles: "Sequence[Tile]") -> "Iterator[Tile]":
        """The tiles of an image, each of which moves the bar."""
        for tile in tiles:
            yield tile
            height, width = tile.core.shape
            self._bar.update(height * width / 1e6)

    def next_image(self) -> None:
        """One more image is over."""
        self._done += 1
        self._describe()

    def say(self, sentence: str) -> None:
        """A line on stderr, above the bar."""
        tqdm.write(sentence, file=sys.stderr)


def _pixels_of(image: InputImage, reading: Reading) -> int:
    try:
        height, width = image_header(image.path, reading).size
    except UserError:
        return 0
    return height * width
