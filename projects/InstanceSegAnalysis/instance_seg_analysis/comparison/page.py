"""The page that shows several models side by side: one file that opens from disk without network.

The input of an image is stored once; masks and errors are transparent pictures that the browser
lays over it.
"""

from collections.abc import Sequence
from pathlib import Path

from instance_seg_analysis.comparison.cards import ImageCard
from instance_seg_analysis.comparison.plots import plots_of
from instance_seg_analysis.comparison.run import Bins, Summary
from instance_seg_analysis.comparison.table import COLUMNS, table_rows
from instance_seg_common.errors import UserError
from instance_seg_common.visualization.errors_overlay import ERROR_COLORS

TEMPLATES = Path(__file__).parent / "templates"


def render(
    title: str,
    cards: Sequence[ImageCard],
    *,
    summaries: Sequence[Summary],
    bins: Bins,
    failures: Sequence[str],
    machine: str,
    hidden_images: int = 0,
) -> str:
    """The page.

    Args:
        title (str): the heading.
        cards (list[ImageCard]): of the images that are shown.
        summaries (list[Summary]), bins (dict[str, list[Bin]]): of the models.
        failures (list[str]): sentences on images that could not be done.
        machine (str): in words.
        hidden_images (int): how many are measured and not shown.

    Returns:
        str: HTML.

    Raises:
        UserError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise UserError(f"The page needs jinja2 ({error}): pip install jinja2.") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("comparison.html.j2").render(
        title=title,
        images=cards,
        hidden_images=hidden_images,
        num_objects=sum(entry.objects for entry in bins["size"]),
        most_objects=max((card.objects for card in cards), default=0),
        columns=[column.heading for column in COLUMNS],
        rows=table_rows(summaries),
        plots=plots_of(summaries, bins),
        failures=failures,
        machine=machine,
        configs=[f"{s.name}: {s.architecture}, {s.weights or 'no weights'}" for s in summaries],
        limits=[f"{s.name}: {limit.sentence}" for s in summaries for limit in s.limits],
        error_colors={kind: "#" + bytes(color).hex() for kind, color in ERROR_COLORS.items()},
    )
