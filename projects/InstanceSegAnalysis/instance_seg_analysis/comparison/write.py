"""The three files of a comparison: index.html, comparison.png and comparison.json."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from detectron2.data import MetadataCatalog

from instance_seg_analysis.comparison import page
from instance_seg_analysis.comparison.cards import (
    ImageCard,
    card_bytes,
    choose_cards,
    error_counts,
    internals_layer,
)
from instance_seg_analysis.comparison.layers import Layer
from instance_seg_analysis.comparison.models import TRAINED, ComparedModel
from instance_seg_analysis.comparison.run import Comparison, ComparisonResult, Failures, Record
from instance_seg_analysis.comparison.scores import IOU, ImageResult, ModelResult
from instance_seg_analysis.comparison.static import static_comparison
from instance_seg_analysis.comparison.table import figures_of
from instance_seg_analysis.methods import analysis_of, compute_internals, internals_panel
from instance_seg_common.engine.chosen_images import progress
from instance_seg_common.visualization.false_colors import load_image, record_title

# The page as a whole, and what of it is neither pictures of the images nor of the insides, which
# come last and get what is left.
MAX_BYTES = 29_000_000
REST_BYTES = 600_000


def write(
    result: ComparisonResult, folder: Path, *, internals: Optional[int] = None
) -> "list[str]":
    """Write the three files.

    Args:
        result (ComparisonResult)
        folder (Path): is made.
        internals (int or None): look into the models on so many images, where results differ most;
            None: on as many as fit on the page.

    Returns:
        list[str]: sentences on insides that could not be drawn; the page goes on without them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(to_json(result), indent=1))
    static_comparison(
        result.cards, result.summaries, folder / "comparison.png", title=result.dataset
    )
    shown = choose_cards(result.cards)
    failures = add_internals(result, shown, most=internals)
    models = result.comparison.models
    trained = len([model for model in models if model.kind == TRAINED])
    html = page.render(
        f"{result.dataset}: {trained} model{'s' if trained != 1 else ''} side by side",
        shown,
        summaries=result.summaries,
        bins=result.bins,
        failures=result.failures,
        machine=machine(),
        hidden_images=len(result.cards) - len(shown),
    )
    (folder / "index.html").write_text(html)
    return failures


def add_internals(
    result: ComparisonResult, cards: Sequence[ImageCard], *, most: Optional[int]
) -> "list[str]":
    """Add pictures of the insides, where results differ most first, as long as they fit.

    Args:
        result (ComparisonResult)
        cards (list[ImageCard]): those that are shown; changed in place.
        most (int or None): of how many images.

    Returns:
        list[str]: sentences on those that could not be drawn.
    """
    models = [
        model
        for model in result.comparison.models
        if model.kind == TRAINED and analysis_of(model.cfg.MODEL.META_ARCHITECTURE).draw_internals
    ]
    if not models:
        return []
    failures = Failures()
    left = MAX_BYTES - sum(card_bytes(card) for card in cards) - REST_BYTES
    class_names = MetadataCatalog.get(result.dataset).get("thing_classes", ())
    records = {image.record["image_id"]: image.record for image in result.images}
    ranked = sorted(cards, key=lambda card: -card.spread)[:most]
    for card in progress(ranked, "insides"):
        record = {**records[card.image_id], "thing_classes": class_names}
        drawn = [failures.attempt(_inside, result.comparison, model, record) for model in models]
        layers = [layer for layer in drawn if layer is not None]
        left -= sum(len(layer.uri) for layer in layers)
        if left < 0:
            break
        card.internals = layers
    return sorted(set(failures.sentences))


@torch.no_grad()
def _inside(comparison: Comparison, model: ComparedModel, record: Record) -> Layer:
    """What happens in one model on one image."""
    architecture, item = model.cfg.MODEL.META_ARCHITECTURE, comparison.item(model, record)
    internals = compute_internals(architecture, model.model, [item])[0]
    name = Path(record["file_name"]).name
    picture = internals_panel(
        architecture, load_image(record), internals,
        dataset_dict=record, name=f"{model.name}   {record_title(record)}",
    )  # fmt: skip
    return internals_layer(picture, model, name)


def machine() -> str:
    """The machine in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return (
        f"{platform.machine()}, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def to_json(result: ComparisonResult) -> "dict[str, Any]":
    """The results as plain dicts, for ``json.dump``."""
    models = [
        {"model": s.name, "kind": s.kind, "architecture": s.architecture, "weights": s.weights}
        | figures_of(s)
        | {"limits": [limit._asdict() for limit in s.limits]}
        for s in result.summaries
    ]
    return {
        "dataset": result.dataset,
        "machine": machine(),
        "mask_iou": IOU,
        "models": models,
        "bins": {key: [b._asdict() for b in bins] for key, bins in result.bins.items()},
        "images": [_image_json(image) for image in result.images],
        "failures": result.failures,
    }


def _image_json(image: ImageResult) -> "dict[str, Any]":
    models = {name: _model_json(result) for name, result in image.models.items()}
    objects = len(image.objects.area)
    return {"file_name": image.record["file_name"], "objects": objects, "models": models}


def _model_json(result: ModelResult) -> "dict[str, Any]":
    matching = result.scores.matchings[0]
    return {
        "tp": matching.tp, "fp": matching.fp, "fn": matching.fn,
        "accuracy": matching.accuracy, "SBD": result.scores.sbd, "DiC": result.scores.dic,
        "errors": error_counts(result.errors), "seconds": result.seconds,
        "network_seconds": result.network_seconds,
    }  # fmt: skip
