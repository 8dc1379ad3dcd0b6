"""What the page says and shows of each image.

Shape shorthand in this module:
    H, W: picture
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instance_seg_analysis.comparison.layers import (
    Layer,
    error_layer,
    instance_layer,
    stored_scale,
    webp,
)
from instance_seg_analysis.comparison.models import TRAINED, ComparedModel
from instance_seg_analysis.comparison.scores import ImageResult, ModelResult
from instance_seg_analysis.methods import analysis_of
from instance_seg_common.evaluation.error_kinds import InstanceErrors
from instance_seg_common.visualization import drawing
from instance_seg_common.visualization.colors import color_tables, instance_colors
from instance_seg_common.visualization.false_colors import display_note, load_image

# The most that a picture of the insides takes, height and width in pixels; wide ones scroll.
INTERNALS_SIZE = (520, 2600)
GALLERY_BYTES = 22_000_000  # that the pictures of the images may fill


@dataclass(frozen=True)
class ModelCard:
    """One model on one image. accuracy, sbd: fractions; found, predicted: objects."""

    name: str
    accuracy: float
    sbd: float
    found: int
    predicted: int
    mask: Layer
    errors: Layer


@dataclass
class ImageCard:
    """What the page says and shows of one image.

    Attributes:
        name: of the file.
        image_id: of the data set.
        objects: how many; count: the same in words.
        width, height: of the stored picture in pixels.
        alt: what the input shows, in words; input: it, as a data URI.
        truth: the objects.
        spread, sbd_spread: how much the trained models differ in accuracy and in SBD.
        models: one card for each.
        internals: pictures of the insides.
    """

    name: str
    image_id: Any
    objects: int
    count: str
    width: int
    height: int
    alt: str
    input: str
    truth: Layer
    spread: float
    sbd_spread: float
    models: list[ModelCard]
    internals: list[Layer] = field(default_factory=list)


def image_card(image: ImageResult, models: Sequence[ComparedModel]) -> ImageCard:
    """The card of an image.

    Args:
        image (ImageResult): with its maps.
        models (list[ComparedModel]): that ran on it.
    """
    labels, name = image.truth.labels, Path(image.record["file_name"]).name
    scale = stored_scale(*labels.shape)
    bright, changed = drawing.brighten(load_image(image.record))
    small = drawing.resize_image(bright, scale)
    count = _count(len(image.objects.area))
    colors = instance_colors(int(labels.max(initial=0)))
    trained = [m.name for m in models if m.kind == TRAINED] or [m.name for m in models]
    spread, sbd_spread = image.spread(trained)
    said = display_note(image.record)
    note = (f", {said}" if said else "") + (", shown brighter than it is" if changed else "")
    return ImageCard(
        name=name,
        image_id=image.record["image_id"],
        objects=len(image.objects.area),
        count=count,
        width=small.shape[1],
        height=small.shape[0],
        alt=f"Input image {name}, annotated: {count}{note}",
        input=webp(small, quality=80),
        truth=Layer(
            webp(instance_layer(labels, colors, scale), lossless=True),
            f"Ground truth of {name}: {count}",
        ),
        spread=spread,
        sbd_spread=sbd_spread,
        models=_model_cards(image, models, name=name, scale=scale),
    )


def _model_cards(
    image: ImageResult, models: Sequence[ComparedModel], *, name: str, scale: float
) -> "list[ModelCard]":
    results = [image.models[model.name] for model in models]
    maps = [result.report.prediction.labels for result in results]
    tables = color_tables(image.truth.labels, maps)
    cards = []
    for model, result, labels, colors in zip(models, results, maps, tables):
        mask = webp(instance_layer(labels, colors, scale), lossless=True)
        errors = webp(error_layer(result.report, scale), lossless=True)
        pictures = {"mask": mask, "errors": errors}
        cards.append(_model_card(model.name, name, result, pictures=pictures))
    return cards


def _model_card(
    model_name: str, image_name: str, result: ModelResult, *, pictures: "dict[str, str]"
) -> ModelCard:
    """The card of a model from the data URIs of its pictures."""
    matching, predicted = result.scores.matchings[0], result.scores.n_pred
    found = f"{matching.tp} of {matching.tp + matching.fn} found"
    where = f"{model_name} on {image_name}"
    return ModelCard(
        name=model_name,
        accuracy=matching.accuracy,
        sbd=result.scores.sbd,
        found=matching.tp,
        predicted=predicted,
        mask=Layer(pictures["mask"], f"{where}: {_count(predicted)} predicted, {found}"),
        errors=Layer(pictures["errors"], f"Errors of {where}: {error_words(result.errors)}"),
    )


def _count(objects: int) -> str:
    return "1 object" if objects == 1 else f"{objects} objects"


def error_counts(errors: InstanceErrors) -> "dict[str, int]":
    """The number of errors of each kind that occurs."""
    counts = {
        "missed": len(errors.missed),
        "invented": len(errors.invented),
        "merged": len(errors.merged),
        "split": len(errors.split),
        "poor": len(errors.poor) + len(errors.poor_predictions),
    }
    return {kind: number for kind, number in counts.items() if number}


def error_words(errors: InstanceErrors) -> str:
    """The errors of an image as text."""
    parts = [f"{number} {kind}" for kind, number in error_counts(errors).items()]
    return ", ".join(parts) or "none"


def card_bytes(card: ImageCard) -> int:
    """Bytes that a card takes on the page, without pictures of the insides."""
    layers = [card.truth, *(layer for m in card.models for layer in (m.mask, m.errors))]
    return len(card.input) + sum(len(x.uri) + len(x.alt) for x in layers) + 2000


def internals_layer(picture: np.ndarray, model: ComparedModel, name: str) -> Layer:
    """The picture of a model's insides, small enough for the page.

    Args:
        picture (ndarray): (H, W, 3) uint8.
        model (ComparedModel): of which it is.
        name (str): of the image.
    """
    scale = min(1.0, *(most / side for most, side in zip(INTERNALS_SIZE, picture.shape)))
    small = drawing.resize_image(picture, scale) if scale < 1 else picture
    shown = analysis_of(model.cfg.MODEL.META_ARCHITECTURE).shows
    return Layer(webp(small, quality=75), f"Inside {model.name} on {name}: {shown}")


def choose_cards(cards: Sequence[ImageCard], *, limit: int = GALLERY_BYTES) -> "list[ImageCard]":
    """The cards that fit on the page, those on which results differ most first.

    Args:
        cards (list[ImageCard])
        limit (int): bytes.

    Returns:
        list[ImageCard]: in the order of ``cards``.
    """
    chosen, used = set(), 0
    for card in sorted(cards, key=lambda card: -card.spread):
        used += card_bytes(card)
        if used > limit:
            break
        chosen.add(id(card))
    return [card for card in cards if id(card) in chosen]
