"""Figures of matplotlib that need no display, and colours and markers of their lines."""

from typing import TYPE_CHECKING

from ..errors import UserError
from .colors import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by colour-blind readers, dark enough for lines on white.
_NAMES = ("blue", "vermillion", "green", "purple", "orange", "sky")
LINE_COLORS = tuple("#" + bytes(OKABE_ITO[name]).hex() for name in _NAMES) + ("#444444",)
MARKERS = "osD^vPX"


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure.

    Args:
        width, height: inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"Plots need matplotlib ({error}): pip install matplotlib.") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
