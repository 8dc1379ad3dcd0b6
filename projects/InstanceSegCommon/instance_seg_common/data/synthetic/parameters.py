"""The parameters of synthetic sets: what there is, what the named sets have, what may be given.

Pairs are (lowest, highest) of a uniform draw. Intensities are fractions of the full range
(1.0 = 255 grey levels).
"""

from dataclasses import Field, dataclass, fields
from numbers import Integral, Real
from typing import Any, NamedTuple, Union

import numpy as np

from ...errors import UserError

Pair = tuple[float, float]
WholePair = tuple[int, int]


@dataclass(frozen=True)
class CommonParameters:
    """What both kinds share."""

    kind: str = ""
    num_images: int = 100
    image_size: int = 128  # pixels; images are square
    seed: int = 0
    objects: WholePair = (4, 12)  # objects per image
    size: Pair = (0.1, 0.34)  # diameter or length, as a fraction of image_size
    min_visible: float = 0.4  # least fraction of an object that others may leave visible
    min_area: int = 40  # least visible pixels of an object
    contrast: Pair = (0.11, 0.32)  # brighter or darker than the background below, intensity
    tint: float = 0.1  # how far the colour channels of an object differ, intensity
    texture: float = 0.1  # amplitude of stripes, blotches and gradients on objects, intensity
    outline: float = 0.12  # how far the 1.2 pixel rim differs from its object, intensity
    background: float = 0.12  # amplitude of gradient and blotches of the background, intensity
    noise: float = 0.05  # standard deviation of the noise of each pixel and channel, intensity


@dataclass(frozen=True)
class ShapesParameters(CommonParameters):
    """Parameters of the kind ``shapes``."""

    kind: str = "shapes"
    aspect: Pair = (0.45, 1.0)  # short side over long side of a box


@dataclass(frozen=True)
class SticksParameters(CommonParameters):
    """Parameters of the kind ``sticks``."""

    kind: str = "sticks"
    size: Pair = (0.3, 0.6)
    min_visible: float = 0.6
    contrast: Pair = (0.16, 0.36)
    texture: float = 0.04
    outline: float = 0.15
    width: Pair = (0.032, 0.046)  # of a stick, as a fraction of image_size
    paired: float = 0.8  # chance that a stick comes with a partner crossing it in mirror image
    jitter: float = 0.02  # partner against exact mirror image, as a fraction of the length
    tilt: Pair = (25.0, 65.0)  # degrees from the horizontal of a pair; single sticks: any angle


Parameters = Union[ShapesParameters, SticksParameters]


class Kind(NamedTuple):
    """A kind of synthetic images: the class of its parameters, the names of its classes."""

    parameters: Union[type[ShapesParameters], type[SticksParameters]]
    thing_classes: tuple[str, ...]


KINDS = {
    "shapes": Kind(ShapesParameters, ("disc", "box", "triangle", "star")),
    "sticks": Kind(SticksParameters, ("stick",)),
}

_SHAPES_256 = {"kind": "shapes", "image_size": 256, "objects": (6, 20), "size": (0.06, 0.24)}
_STICKS_256 = {
    "kind": "sticks",
    "image_size": 256,
    "objects": (6, 14),
    "size": (0.2, 0.45),
    "width": (0.018, 0.028),
}

NAMED_SETS: "dict[str, dict[str, Any]]" = {
    "synthetic_shapes_train": {"kind": "shapes", "num_images": 600, "seed": 1001},
    "synthetic_shapes_val": {"kind": "shapes", "num_images": 100, "seed": 1002},
    "synthetic_sticks_train": {"kind": "sticks", "num_images": 600, "seed": 2001},
    "synthetic_sticks_val": {"kind": "sticks", "num_images": 100, "seed": 2002},
    "synthetic_shapes_256_train": {**_SHAPES_256, "num_images": 300, "seed": 3001},
    "synthetic_shapes_256_val": {**_SHAPES_256, "num_images": 100, "seed": 3002},
    "synthetic_sticks_256_train": {**_STICKS_256, "num_images": 300, "seed": 4001},
    "synthetic_sticks_256_val": {**_STICKS_256, "num_images": 100, "seed": 4002},
}

# Least and greatest value of what is not a fraction of something (those go from 0 to 1).
_LIMITS = {
    "num_images": (1, 99999),
    "image_size": (32, 4096),
    "seed": (0, 2**32 - 1),
    "objects": (1, 1000),
    "min_area": (1, np.inf),
    "tilt": (0, 90),
}


def resolve_parameters(kind: str = "shapes", **parameters: Any) -> Parameters:
    """All parameters of a set, defaults filled in and checked.

    Args:
        kind: "shapes" or "sticks".
        **parameters: fields of `ShapesParameters` or `SticksParameters`.

    Returns:
        Of the class that belongs to ``kind``.

    Raises:
        UserError: unknown kind or parameter, or a value out of range.
    """
    if kind not in KINDS:
        raise UserError(f"Unknown kind of synthetic images: {kind!r}. Use one of {list(KINDS)}.")
    kind_class = KINDS[kind].parameters
    known = [field.name for field in fields(kind_class)]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise UserError(f"Synthetic {kind} have no parameter {unknown}. They have: {known}.")
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()
    }
    resolved = kind_class(kind=kind, **values)
    for field in fields(resolved):
        if field.name != "kind":
            _check(field, getattr(resolved, field.name))
    return resolved


def _check(field: "Field[Any]", value: Any) -> None:
    """Raise unless a value is what the default of its field is: a number or a pair, in range."""
    limits = _LIMITS.get(field.name, (0, 1))
    default: Any = field.default
    is_pair = isinstance(default, tuple)
    example = np.ravel(default)[0]
    whole = isinstance(example, np.integer)
    number, wanted = (Integral, "whole number") if whole else (Real, "number")
    numbers = value if is_pair else (value,)
    if not _is_valid(numbers, 2 if is_pair else 1, number=number, limits=limits):
        wanted = f"pair (lowest, highest) of {wanted}s" if is_pair else wanted
        raise UserError(
            f"Synthetic parameter {field.name!r} is {value!r}: give a {wanted} from "
            f"{limits[0]} to {limits[1]}."
        )


def _is_valid(numbers: Any, length: int, *, number: type, limits: "tuple[float, float]") -> bool:
    """Whether it is a tuple of so many numbers, ascending, from limits[0] to limits[1]."""
    if not isinstance(numbers, tuple) or len(numbers) != length:
        return False
    if any(isinstance(value, bool) or not isinstance(value, number) for value in numbers):
        return False
    return limits[0] <= numbers[0] <= numbers[-1] <= limits[1]
