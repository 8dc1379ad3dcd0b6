"""What is said to a user: the one error for what a user can cause, and what became of old keys."""

from typing import Any, NamedTuple


class UserError(ValueError):
    """Says what was found, where (file, image id, config key), and what to do about it."""


class RemovedKey(NamedTuple):
    """A key that is no more: the value that changes nothing, a sentence on what became of the key.

    The first is how today's code works, which need not be the default that the key had.
    """

    without_effect: Any
    sentence: str
