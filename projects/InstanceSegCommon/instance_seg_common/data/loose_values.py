"""Numbers and ids as exporters write them: 5, 5.0 and "5" are one number, and one id."""

import math
import re
from collections.abc import Iterable
from typing import Any, Optional, Union

Id = Union[int, str]
LARGEST_ID = 2**53  # beyond it numpy may turn whole numbers into floats that are not exact
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*", re.ASCII)
_LONGEST = 40  # characters of a number that is written as a text


def finite_number(value: Any) -> Union[int, float, None]:
    """A finite number, also one written as a text; None for anything else, true and false too."""
    if isinstance(value, str):
        plain = len(value) <= _LONGEST and _NUMBER.fullmatch(value)
        return finite_number(float(value)) if plain else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float can hold
        return None


def whole_number(value: Any) -> Optional[int]:
    """A whole number, also one written as 5.0 or as a text; None for anything else."""
    number = finite_number(value)
    return None if number is None or number != int(number) else int(number)


def id_key(value: Any) -> Optional[str]:
    """What equal ids have in common, however they are written; None if it can be no id."""
    if type(value) is int:  # most are
        return str(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(value).strip() or None


def clean_ids(keys: "Iterable[str]") -> "dict[str, Id]":
    """The ids that keys of :func:`id_key` stand for: all whole numbers, or else all texts."""
    keys = list(keys)
    numbers = {key: int(key) for key in keys if _is_decimal(key)}
    return dict(numbers) if len(numbers) == len(set(keys)) else {key: key for key in keys}


def _is_decimal(key: str) -> bool:
    plain = len(key) <= _LONGEST and re.fullmatch(r"-?\d+", key, re.ASCII)
    return bool(plain) and str(int(key)) == key and abs(int(key)) <= LARGEST_ID
