"""One file of a run: its image predicted, and the files of the result written, or why not."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, TypeVar, Union

import torch

from ..data.reading import PLAIN, Reading
from ..errors import UserError
from ..tiling.tiles import Tile
from .forms import write_forms
from .inputs import InputImage
from .journal import Entry
from .predictor import Predictor
from .result import Result

ERRORS = "errors.log"
Done = TypeVar("Done")


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


class Failure(NamedTuple):
    """Why an image is not done.

    Args:
        sentence: for the user.
        traceback: of a fault of this program.
        stops: no other image needs to be tried.
    """

    sentence: str
    traceback: str = ""
    stops: bool = False


class StopRun(UserError):
    """What keeps an image from being done would keep every other one, too."""


def attempt(work: "Callable[[], Done]", image: InputImage, job: Job) -> "Union[Done, Failure]":
    """Do something with an image; what it raises becomes the reason why it is not done.

    Args:
        work: gives what is done.
        image, job: of the run.
    """
    try:
        with _memory_in_sentence(image):
            return work()
    except UserError as error:
        return Failure(str(error), stops=isinstance(error, StopRun))
    except OSError as error:
        return Failure(not_written(job, error), stops=True)
    except Exception as error:
        sentence = (
            f"{image.title} failed by a fault of this program ({type(error).__name__}: {error}); "
            f"its traceback is in {job.folder / ERRORS}."
        )
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return Failure(sentence, "".join(lines))


def not_written(job: Job, error: OSError) -> str:
    """The sentence on a disk that is full, or a folder that must not be written."""
    return (
        f"The results cannot be written to {job.folder}: {error}. What was done until now is "
        "complete; mend this and go on with --resume."
    )


@contextmanager
def _memory_in_sentence(image: InputImage) -> "Iterator[None]":
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        raise UserError(
            f"{image.title} needs more memory than there is: predict it in smaller tiles, as "
            "--tile 512."
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in text


def predict_file(
    predictor: Predictor,
    image: InputImage,
    job: Job,
    *,
    progress: "Callable[[Sequence[Tile]], Iterator[Tile]]" = iter,
) -> Entry:
    """Predict one image and write its files.

    Args:
        predictor: of the run.
        image: to predict.
        job: what is written.
        progress: wraps the tiles.

    Raises:
        UserError: the image cannot be used.
        OSError: the files cannot be written.
    """
    begin = time.perf_counter()
    record = image.record(job.reading)
    result = predictor.predict(record, pixel_size=job.pixel_size, progress=progress)
    return write_result(result, image, job, seconds=time.perf_counter() - begin)


def write_result(result: Result, image: InputImage, job: Job, *, seconds: float) -> Entry:
    """Write the files of an image.

    Args:
        result: of the image.
        image: it.
        job: what is written.
        seconds: of its prediction.

    Raises:
        UserError: a form needs a package that is not installed.
        OSError: the files cannot be written.
    """
    begin = time.perf_counter()
    write_forms(result, job.folder, job.forms, name=image.name, file_name=str(image.path))
    return Entry(
        file=str(image.path), plane=image.plane, name=image.name,
        height=result.size[0], width=result.size[1], objects=len(result), tiles=result.tiles,
        seconds=round(seconds, 3),
        writing_seconds=round(time.perf_counter() - begin, 3),
        limits=[list(pair) for pair in result.limits],
    )  # fmt: skip
