"""Pictures of one image after the other, written into a folder; what fails does not stop the rest.

Shape shorthand in this module:
    H, W: an image
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from detectron2.config import CfgNode
from PIL import Image
from torch import nn
from tqdm import tqdm

from ..data.mapper import build_train_mapper
from ..data.reading import reading_of
from ..errors import UserError
from ..evaluation.contingency import relabel
from ..evaluation.image_report import prediction_of, truth_of
from ..evaluation.label_map import predicted_label_map, score_label_maps
from ..evaluation.restriction import restrict_to_config
from ..visualization import panels, saving
from ..visualization.false_colors import load_image
from .chosen_images import ChosenImages, Record, progress
from .limits import LimitCounter
from .predictor import build_predictor, predict

# From an image (H, W, 3) uint8 RGB and its record to a picture of what happens in the model.
DrawInternals = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]


class PictureWriter:
    """Names and writes the pictures and files of one run.

    Args:
        folder (Path): created when the first picture is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self.pictures = 0
        self.failures = 0
        self.limits: list[str] = []  # sentences on limits of the models that were reached

    def name(self, record: Record, prefix: str = "") -> str:
        """A name for this image; images of one stem from several folders get numbers."""
        plane = reading_of(record).plane
        stem = prefix + Path(record["file_name"]).stem
        stem += "" if plane is None else f"_plane{plane}"
        name, number = stem, 2
        while name in self.names:
            name, number = f"{stem}_{number}", number + 1
        self.names.add(name)
        return name

    def picture(self, array: np.ndarray, name: str) -> None:
        """Write (H, W, 3) uint8 RGB as ``name``.png."""
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(self.folder / f"{name}.png")
        self.pictures += 1

    def label_map(self, labels: np.ndarray, name: str) -> None:
        """Write (H, W) ids below ``label_maps``."""
        saving.save_label_map(labels, self.folder / "label_maps" / name)

    def attempt(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call it; a UserError is printed and counted, and the other images are still done."""
        try:
            function(*args, **kwargs)
        except UserError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)  # above the progress bar
            self.failures += 1


class PredictionPictures:
    """Predicts and draws one image after the other.

    Args:
        cfg (CfgNode): of the model.
        model (nn.Module): of ``build_predictor``.
        images (ChosenImages): what to draw.
        writer (PictureWriter)
        draw_internals (callable or None): draws a second picture.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        images: ChosenImages,
        *,
        writer: PictureWriter,
        draw_internals: Optional[DrawInternals] = None,
    ) -> None:
        self.cfg, self.model, self.images = cfg, model, images
        self.writer, self.draw_internals = writer, draw_internals
        self.counter = LimitCounter(cfg, model)
        self.label_map_options = {
            "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
            "min_area": cfg.TEST.LABEL_MAP_MIN_AREA,
        }

    def draw(self, record: Record, *, prefix: str = "", note: str = "") -> None:
        """Predict and draw one image; without annotations it is drawn without errors.

        Args:
            record (dict): of a data set, or ``file_name`` and ``image_id`` alone.
            prefix (str): of the file's name.
            note (str): for the header.
        """
        with self.counter as counter, counter.image():
            instances = predict(self.cfg, self.model, record)
        name = self.writer.name(record, prefix)
        options = {"class_names": self.images.class_names, **self.label_map_options}
        if "annotations" in record:
            evaluated = restrict_to_config(self.cfg, record, instances)
            picture = panels.prediction_panel(record, evaluated, note=note, **options)
        else:
            picture = panels.plain_prediction_panel(record, instances, **options)
        self.writer.picture(picture, name)
        if self.draw_internals:
            named = {**record, "thing_classes": self.images.class_names}
            self.writer.picture(self.draw_internals(load_image(record), named), f"{name}_internals")

    def score(self, record: Record) -> tuple[float, float]:
        """(accuracy at IoU 0.5, SBD) of one annotated image, as the evaluators have them."""
        instances = predict(self.cfg, self.model, record)
        truth = truth_of(record)
        labels = predicted_label_map(
            restrict_to_config(self.cfg, record, instances), truth.labels, truth.ignore,
            **self.label_map_options,
        )  # fmt: skip
        scores = score_label_maps(relabel(truth.labels), labels, iou_thresholds=(0.5,))
        return scores.matchings[0].accuracy, scores.sbd

    def draw_all(self) -> None:
        """Draw the images in their order."""
        for record in progress(self.images.records):
            self.writer.attempt(self.draw, record)
        self._tell_limits()

    def _tell_limits(self) -> None:
        self.writer.limits += [limit.sentence for limit in self.counter.reached()]

    def draw_worst(self, limit: int) -> None:
        """Score all images, which need annotations, then draw the worst, numbered.

        Args:
            limit (int): how many; the lowest accuracy comes first, then the lowest SBD.
        """
        records, scored = self.images.records, []

        def score(index: int) -> None:
            scored.append((*self.score(records[index]), index))

        for index in progress(range(len(records)), "scores"):
            self.writer.attempt(score, index)
        worst = sorted(scored)[:limit]
        for rank, (accuracy, sbd, index) in enumerate(progress(worst), start=1):
            note = f"number {rank} from the worst: accuracy {accuracy:.2f}, SBD {sbd:.2f}"
            self.writer.attempt(self.draw, records[index], prefix=f"{rank:03d}_", note=note)
        self._tell_limits()


class TitledModel(NamedTuple):
    """cfg: with MODEL.WEIGHTS; title: over the model's predictions."""

    cfg: CfgNode
    title: str


def draw_side_by_side(
    models: Sequence[TitledModel], images: ChosenImages, writer: PictureWriter
) -> None:
    """The predictions of several models in one picture an image, with or without annotations.

    Args:
        models (list[TitledModel]), images (ChosenImages), writer (PictureWriter)
    """
    built = [(one.title, one.cfg, build_predictor(one.cfg)) for one in models]
    counters = {title: LimitCounter(cfg, model) for title, cfg, model in built}

    def draw(record: Record) -> None:
        predictions = []
        for title, cfg, model in built:
            with counters[title] as counter, counter.image():
                instances = predict(cfg, model, record)
            limits = cfg.TEST.LABEL_MAP_SCORE_THRESHOLD, cfg.TEST.LABEL_MAP_MIN_AREA
            predictions.append((title, prediction_of(instances, *limits)))
        picture = panels.comparison_panel(record, predictions, images.class_names)
        writer.picture(picture, writer.name(record))

    for record in progress(images.records):
        writer.attempt(draw, record)
    for title, counter in counters.items():
        writer.limits += [f"{title}: {limit.sentence}" for limit in counter.reached()]


def draw_annotations(
    images: ChosenImages, writer: PictureWriter, *, save_label_maps: bool = False
) -> None:
    """The annotations of each image, and their label map as a file.

    Args:
        images (ChosenImages): of a data set.
        writer (PictureWriter)
        save_label_maps (bool)
    """

    def draw(record: Record) -> None:
        picture = panels.annotation_panel(record, images.class_names)
        name = writer.name(record)
        writer.picture(picture, name)
        if save_label_maps:
            writer.label_map(truth_of(record).labels, name)

    for record in progress(images.records):
        writer.attempt(draw, record)


def draw_training_images(cfg: CfgNode, images: ChosenImages, writer: PictureWriter) -> None:
    """What the training mapper makes of each image and its objects.

    Args:
        cfg (CfgNode): ``INPUT``.
        images (ChosenImages): of a data set.
        writer (PictureWriter)
    """
    mapper = build_train_mapper(cfg)

    def draw(record: Record) -> None:
        picture = panels.dataloader_panel(mapper(record), cfg.INPUT.FORMAT, images.class_names)
        writer.picture(picture, writer.name(record))

    for record in progress(images.records):
        writer.attempt(draw, record)
