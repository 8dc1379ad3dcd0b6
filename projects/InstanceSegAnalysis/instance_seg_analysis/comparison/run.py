"""Several models of instance segmentation on one data set: scores, time, memory, and what is found.

Every image goes through all models before the next one does, so that an image that one of them
cannot take is left out for all, and that a busy moment of the machine hits all.

Shape shorthand in this module:
    G: objects of an image
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, TypeVar

import numpy as np
from detectron2.data import MetadataCatalog

from instance_seg_analysis.comparison.cards import ImageCard, image_card
from instance_seg_analysis.comparison.models import ComparedModel, takes_tiles
from instance_seg_analysis.comparison.objects import (
    CROWDING,
    OCCLUSION,
    Bin,
    Edges,
    ObjectFacts,
    bins_of,
    describe_objects,
    size_bins,
)
from instance_seg_analysis.comparison.scores import (
    ImageResult,
    ModelEvaluators,
    ModelResult,
    score_image,
)
from instance_seg_analysis.comparison.timing import peak_of, timed_call
from instance_seg_common.data.mapper import build_test_mapper
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.chosen_images import progress
from instance_seg_common.engine.limits import LimitCounter, ReachedLimit
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.checks import check_prediction
from instance_seg_common.evaluation.image_report import truth_of
from instance_seg_common.meta_arch import noted_limits

Record = dict[str, Any]
Bins = dict[str, list[Bin]]
Result = TypeVar("Result")


@dataclass
class Summary:
    """What is kept of one model.

    Attributes:
        metrics: "AP", "AP50", "AP75" in percent; "accuracy", "PQ", "SBD" as fractions; "DiC", mean
            absolute difference in count.
        seconds: of the model, mean over images.
        network_seconds, post_seconds: its two parts; None where they cannot be told apart.
        peak_bytes: that a call adds to the process, on the largest image; None: not measured.
        limits: that were reached, and in how many images.
    """

    name: str
    kind: str
    architecture: str
    weights: str
    metrics: dict[str, float]
    seconds: float
    network_seconds: Optional[float]
    post_seconds: Optional[float]
    peak_bytes: Optional[int]
    parameters: int
    limits: list[ReachedLimit]


class Comparison:
    """Runs models over images and sums up.

    Args:
        models (list[ComparedModel]): not empty.
        dataset (str): registered; its metadata has ``thing_classes``.
    """

    def __init__(self, models: Sequence[ComparedModel], dataset: str):
        self.models = list(models)
        self.images: list[ImageResult] = []
        self._num_classes = len(MetadataCatalog.get(dataset).thing_classes)
        self._evaluators = {m.name: ModelEvaluators(m.cfg, dataset) for m in models}
        self._limits = {m.name: LimitCounter(m.cfg, m.model) for m in models}
        self._mappers = {m.name: build_test_mapper(m.cfg, tiled=takes_tiles(m)) for m in models}
        self._largest: Optional[Record] = None
        # Of COCO's annotations, by their ids.
        self._facts: dict[str, dict[int, float]] = {key: {} for key in ObjectFacts._fields}

    def warm_up(self, record: Record) -> None:
        """Run all models on an image that is not counted: first calls take longer."""
        for model in self.models:
            with noted_limits():
                timed_call(model, self.item(model, record))

    def add(self, record: Record) -> ImageResult:
        """Run all models on an image.

        Args:
            record (dict): of the data set, with annotations.

        Returns:
            ImageResult: with its maps, which are not kept.

        Raises:
            UserError: the image or a prediction cannot be used; nothing of it is kept.
        """
        truth = truth_of(record)
        items = {model.name: self.item(model, record) for model in self.models}
        timed = {}
        for model in self.models:
            with self._limits[model.name] as counter, counter.image():
                timed[model.name] = timed_call(model, items[model.name])
            check_prediction(items[model.name], timed[model.name].instances, self._num_classes)
        results = {
            m.name: score_image(m, record, truth=truth, timed=timed[m.name]) for m in self.models
        }
        image = ImageResult(record, truth, results, describe_objects(truth.labels))
        self._keep_facts(image)
        for name, item in items.items():
            self._evaluators[name].process(item, timed[name].instances)
        if self._largest is None or _pixels(record) > _pixels(self._largest):
            self._largest = record
        self.images.append(image.without_maps())
        return image

    def item(self, model: ComparedModel, record: Record) -> "dict[str, Any]":
        """What a model takes for an image."""
        return self._mappers[model.name](record)

    def _keep_facts(self, image: ImageResult) -> None:
        """Keep size, crowding and occlusion of COCO's annotations of an image."""
        labels = image.truth.labels
        described = dict(zip(np.unique(labels[labels > 0]).tolist(), zip(*image.objects)))
        evaluators = self._evaluators[self.models[0].name]
        # The i-th object has id i in the label map; others may hide it.
        for label, annotation in enumerate(evaluators.annotations(image.record["image_id"]), 1):
            for facts, value in zip(self._facts.values(), described.get(label, ())):
                facts[annotation["id"]] = float(value)

    def summary(self, model: ComparedModel, *, memory: bool = True) -> Summary:
        """Scores and costs of a model on the images that were added.

        Args:
            model (ComparedModel): one of them.
            memory (bool): measure the peak memory, which runs the largest image twice more.
        """
        results = [image.models[model.name] for image in self.images]
        image_ids = [image.record["image_id"] for image in self.images]
        seconds = float(np.mean([result.seconds for result in results]))
        network = _mean_network_seconds(results)
        return Summary(
            name=model.name, kind=model.kind, architecture=model.cfg.MODEL.META_ARCHITECTURE,
            weights=model.cfg.MODEL.WEIGHTS,
            metrics=self._evaluators[model.name].metrics(image_ids),
            seconds=seconds, network_seconds=network,
            post_seconds=None if network is None else seconds - network,
            peak_bytes=peak_of(model, self.item(model, self._largest)) if memory else None,
            parameters=sum(p.numel() for p in model.model.parameters()),
            limits=self._limits[model.name].reached(),
        )  # fmt: skip

    def bins(self) -> Bins:
        """What was found by what an object is like, after ``summary`` of every model.

        Returns:
            dict[str, list[Bin]]: "size", "crowding" and "occlusion".
        """
        area, crowding, occlusion = (
            np.concatenate([np.zeros(0), *columns])
            for columns in zip(*(image.objects for image in self.images))
        )
        return {
            "size": self._bins_of("area", area, size_bins(area)),
            "crowding": self._bins_of("crowding", crowding, CROWDING),
            "occlusion": self._bins_of("occlusion", occlusion, OCCLUSION),
        }

    def _bins_of(self, fact: str, values: np.ndarray, bounds: Edges) -> "list[Bin]":
        found = {
            model.name: np.concatenate([image.models[model.name].found for image in self.images])
            for model in self.models
        }
        precisions = {
            name: evaluators.precision(bounds.edges, self._facts[fact], own_area=fact == "area")
            for name, evaluators in self._evaluators.items()
        }
        return bins_of(values, bounds, found=found, precisions=precisions)


def _pixels(record: Record) -> int:
    return record["height"] * record["width"]


def _mean_network_seconds(results: Sequence[ModelResult]) -> Optional[float]:
    seconds = [result.network_seconds for result in results]
    return None if None in seconds else float(np.mean(seconds))


@dataclass
class Failures:
    """Sentences of what could not be done, such as of images, and why."""

    sentences: list[str] = field(default_factory=list)

    def attempt(self, function: Callable[..., Result], *args: Any) -> Optional[Result]:
        """The function's result, or None where it raises a UserError, which is kept."""
        try:
            return function(*args)
        except UserError as error:
            self.sentences.append(str(error))
            return None


class ComparisonResult(NamedTuple):
    """dataset: its name; comparison: with its models and images; cards: what the page shows of
    these images; summaries: of the models; bins: of the objects; failures: sentences on images that
    could not be done."""

    dataset: str
    comparison: Comparison
    cards: list[ImageCard]
    summaries: list[Summary]
    bins: Bins
    failures: list[str]

    @property
    def images(self) -> "list[ImageResult]":
        """Those that could be done."""
        return self.comparison.images


def run(
    models: Sequence[ComparedModel], dataset: str, *, max_images: Optional[int] = None
) -> ComparisonResult:
    """Compare models on a data set.

    Args:
        models (list[ComparedModel]): of ``models.build_models``.
        dataset (str): registered.
        max_images (int or None): the first so many; None: all.

    Returns:
        ComparisonResult

    Raises:
        UserError: there is no image, or none could be done.
    """
    records = get_dataset_dicts(dataset)[:max_images]
    if not records:
        raise UserError(f"Data set {dataset!r} has no image; nothing can be compared.")
    comparison = Comparison(models, dataset)
    cards, failures = _run_images(comparison, records)
    if not cards:
        reasons = " ".join(failures)
        raise UserError(f"None of the {len(records)} images could be done: {reasons}")
    summaries = [comparison.summary(m) for m in progress(models, "scores", unit="model")]
    return ComparisonResult(
        dataset, comparison, cards, summaries, bins=comparison.bins(), failures=failures
    )


def _run_images(
    comparison: Comparison, records: Sequence[Record]
) -> "tuple[list[ImageCard], list[str]]":
    """A card for each image that could be done; sentences on the others."""
    failures, cards = Failures(), []

    def add(record: Record) -> None:
        cards.append(image_card(comparison.add(record), comparison.models))

    failures.attempt(comparison.warm_up, records[0])
    failures.sentences.clear()  # an image that fails does so again
    for record in progress(records):
        failures.attempt(add, record)
    return cards, failures.sentences
