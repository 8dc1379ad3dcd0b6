"""How the image files of a data set are read, where there is more than one way to read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypedDict

from ..errors import UserError

READING = "reading"  # key of a record (dict) of a data set; absent where the defaults hold
CHOICES = {"planes": ("error", "first", "each"), "exif": ("apply", "ignore")}


class ReadingOptions(TypedDict, total=False):
    """The fields of a :class:`Reading` that a data set may give, described there."""

    planes: str
    channels: Sequence[int]
    exif: str


@dataclass(frozen=True)
class Reading:
    """How the image files of a data set are read.

    Args:
        planes: what to do with a file of several planes (pages, frames, slices, time points):
            "error", "first", or "each" (every plane an image of its own).
        channels: which of a file's channels are read, in this order, from 0; (): all.
        exif: "apply" the EXIF orientation, as Detectron2 does, or "ignore" it, for annotations that
            were made on the pixels as they are stored.
        plane: of a record of ``planes: each``: which one it is, from 0.

    Raises:
        UserError: a value that is none of these.
    """

    planes: str = "error"
    channels: tuple[int, ...] = ()
    exif: str = "apply"
    plane: Optional[int] = None

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            value = getattr(self, key)
            if value not in choices:
                raise UserError(f"{key} is {value!r}; give one of: {', '.join(choices)}.")
        if not isinstance(self.channels, (list, tuple)) or not all(map(_counts, self.channels)):
            raise UserError(
                f"channels is {self.channels!r}; give a list of channel numbers that count from "
                "0, such as [0, 1, 2]."
            )
        # A list from YAML would make the dataclass unhashable.
        object.__setattr__(self, "channels", tuple(self.channels))

    @property
    def plane_index(self) -> Optional[int]:
        """The plane that is read, from 0; None where a file must have exactly one."""
        return 0 if self.planes == "first" else self.plane


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def taken_reading(options: "dict[str, Any]") -> Reading:
    """The reading that the options of a data set ask for, whose keys are taken out.

    Args:
        options (dict): changed in place.

    Raises:
        UserError: a value that a :class:`Reading` cannot have.
    """
    keys = [key for key in ("planes", "channels", "exif") if key in options]
    return Reading(**{key: options.pop(key) for key in keys})


PLAIN = Reading()  # as Detectron2 reads


def reading_of(record: Mapping[str, Any]) -> Reading:
    """How the image of a record is read.

    Args:
        record (dict): of a data set, of this project or of other code.
    """
    return record.get(READING, PLAIN)
