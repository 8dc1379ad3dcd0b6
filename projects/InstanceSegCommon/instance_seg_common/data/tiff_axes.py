"""Which axes of a TIFF are height, width, channels and planes: by its metadata, else by a rule.

Axes are tifffile's letters: Y height, X width, S samples of a pixel, C channels, Z slices, T time,
I pages, Q an axis without a name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHANNEL_AXES = "SC"
IMAGE_AXES = "YX"
UNNAMED = "QI"
SHORT = 4  # the last axis is channels if both axes before it are this many times as long
NAMES = {"I": "pages", "Q": "layers of an axis without a name"}


@dataclass(frozen=True)
class Layout:
    """The axes of one series of a TIFF.

    Args:
        axes: one letter an axis: Y, X, any of S and C for channels, others for planes.
        shape: of the whole series.
        rule: why some axes are channels or planes, a part of a sentence; "" where it is plain.
    """

    axes: str
    shape: tuple[int, ...]
    rule: str = ""

    def size_of(self, letters: str) -> int:
        """How many elements the axes of these letters have together."""
        return math.prod(n for axis, n in zip(self.axes, self.shape) if axis in letters)

    @property
    def size(self) -> "tuple[int, int]":
        """Height and width."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    @property
    def channels(self) -> int:
        """Of a plane."""
        return self.size_of(CHANNEL_AXES)

    @property
    def plane_axes(self) -> "list[tuple[str, int]]":
        """Letter and length of each axis of planes, those of length 1 left out."""
        return [
            (axis, n)
            for axis, n in zip(self.axes, self.shape)
            if n > 1 and axis not in CHANNEL_AXES + IMAGE_AXES
        ]

    @property
    def planes(self) -> int:
        """How many images the series holds."""
        return math.prod(n for _, n in self.plane_axes)


def layout_of(
    axes: str, shape: "Sequence[int]", *, source: str, channels_given: bool = False
) -> Layout:
    """The roles of the axes of a series.

    Args:
        axes, shape: as tifffile has them.
        source: tifffile's kind of series: "ome", "imagej", "shaped" (an array that tifffile wrote),
            "generic" and others.
        channels_given: the data set says which channels are read.
    """
    layout = Layout(axes, tuple(shape))
    kept = [i for i, (axis, n) in enumerate(zip(axes, shape)) if n > 1 or axis in IMAGE_AXES]
    if source == "shaped" and _last_is_channels(layout, kept):
        rule = f"the last axis of {shape[kept[-1]]} is by far the shortest, so it is the channels"
        return _with_planes(_renamed(layout, dict(zip(kept[-3:], "YXC")), rule))
    unnamed = [(axis, n) for axis, n in layout.plane_axes if axis in UNNAMED]
    if channels_given and layout.channels == 1 and len(layout.plane_axes) == len(unnamed) == 1:
        axis, number = unnamed[0]
        position = next(i for i in kept if axes[i] == axis)
        rule = f"channels are given, so the {number} {NAMES[axis]} are the channels"
        return _renamed(layout, {position: "C"}, rule)
    return _with_planes(Layout(axes, layout.shape, _channel_rule(layout, source)))


def _renamed(layout: Layout, roles: "dict[int, str]", rule: str) -> Layout:
    axes = "".join(roles.get(i, axis) for i, axis in enumerate(layout.axes))
    return Layout(axes, layout.shape, rule)


def _last_is_channels(layout: Layout, kept: "Sequence[int]") -> bool:
    """Whether the axes that are longer than 1 end with two long ones and a short one."""
    sizes = [layout.shape[i] for i in kept]
    letters = "".join(layout.axes[i] for i in kept)
    return letters.endswith("QYX") and sizes[-1] * SHORT <= min(sizes[-3:-1])


def _channel_rule(layout: Layout, source: str) -> str:
    """The rule for channels that are not the samples of a pixel."""
    number = layout.size_of("C")
    return f"C={number} by its {source} metadata is the channels" if number > 1 else ""


def _with_planes(layout: Layout) -> Layout:
    if layout.planes == 1:
        return layout
    words = " and ".join(f"{axis}={n}" for axis, n in layout.plane_axes)
    plane_rule = f"{words} {'is' if len(layout.plane_axes) == 1 else 'are'} planes"
    rule = "; ".join(filter(None, (layout.rule, plane_rule)))
    return Layout(layout.axes, layout.shape, rule)
