"""How far a run over files is, for who waits at a terminal."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from ..data.reading import Reading
from ..errors import UserError
from ..tiling.tiles import Tile
from .inputs import InputImage


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
            self.add(height * width)

    def add(self, pixels: int) -> None:
        """So many more are done."""
        self._bar.update(pixels / 1e6)

    def next_image(self) -> None:
        """One more image is over."""
        self._done += 1
        self._describe()

    def say(self, sentence: str) -> None:
        """A line on stderr, above the bar."""
        tqdm.write(sentence, file=sys.stderr)


def _pixels_of(image: InputImage, reading: Reading) -> int:
    try:
        height, width = image.size(reading)
    except UserError:
        return 0
    return height * width
