"""Cityscapes' instance-level score: AP, AP50 and, by distance, AP100m and AP50m.

Overlaps of predictions with the ground truth are counted by `cityscapes_matching`, in each process
as the predictions come; precision, recall and their averages are computed by the official package.
What it would do besides (files of masks, a dump in the working directory, the end of the process if
an image has no prediction) does not happen.

Shape shorthand in this module:
    H, W: image   N: predicted instances   D: limits of distance   C: classes   O: overlaps
"""

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from ..data.cityscapes import CLASS_IDS, CityscapesSource
from ..data.cityscapes_distances import (
    instance_distances,
    read_camera,
    read_disparity,
    stereo_problems,
)
from ..data.label_images import read_label
from ..data.registration import first_few, source_of
from ..errors import UserError
from .checks import check_prediction
from .cityscapes_matching import GroundTruthEntry, ImageMatches, class_of, match_image, void_ids
from .gathering import gather_list

# Result -> its name in the averages of the official script: of all classes, of one class.
FIGURES = {"AP": ("allAp", "ap"), "AP50": ("allAp50%", "ap50%")}
DISTANCE_FIGURES = {"AP100m": ("allAp100m", "ap100m"), "AP50m": ("allAp50m", "ap50m")}
# What the official script assumes of an instance whose distance is not known.
NO_DISTANCE = (-1.0, 0.0)


def official_script() -> ModuleType:
    """The module of the official score.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling
    except ImportError as error:
        raise UserError(
            f"The score of Cityscapes needs the official package ({error}): pip install "
            "cityscapesscripts."
        ) from error
    return evalInstanceLevelSemanticLabeling


def check_cityscapes(dataset_name: str) -> None:
    """Raise a sentence if a data set could not be scored, before hours of training.

    Args:
        dataset_name: registered, with evaluator_type "cityscapes".

    Raises:
        UserError: the official package is absent, the set is not one of Cityscapes, or disparities
            and cameras are there but incomplete, or do not fit the labels.
    """
    official_script()
    source = _source(dataset_name)
    if source.absent_stereo():
        return
    problems = [sentence for _, sentence in stereo_problems(source)]
    if problems:
        raise UserError(
            f"The distances of {dataset_name!r} cannot be computed: {first_few(problems)}"
        )


def _source(dataset_name):
    source = source_of(dataset_name)
    if not isinstance(source, CityscapesSource):
        raise UserError(
            f"Data set {dataset_name!r} has evaluator_type 'cityscapes' but was not registered by "
            "register_cityscapes_dataset: register it so, or give it another type."
        )
    return source


class CityscapesEvaluator(DatasetEvaluator):
    """The official instance-level score of Cityscapes, in percent, of the images processed.

    Results, task "cityscapes": ``AP`` (mean over the overlaps 0.5 to 0.95), ``AP50``, and each for
    one class (``AP-car``, ``AP50-car``); with the folders ``disparity`` and ``camera`` also
    ``AP100m`` and ``AP50m``, of instances up to that distance. nan where there is nothing to find.
    """

    def __init__(self, dataset_name: str, distributed: bool = True):
        """
        Args:
            dataset_name: registered by ``register_cityscapes_dataset``.
            distributed: gather the matches of all processes.

        Raises:
            UserError: see :func:`check_cityscapes`.
        """
        self._official = official_script()
        self._name = dataset_name
        self._source = _source(dataset_name)
        self._labels = self._source.files().labels
        self._distributed = distributed
        self._logger = logging.getLogger(__name__)
        absent = self._source.absent_stereo()
        self._with_distance = not absent
        if absent and comm.is_main_process():
            self._logger.info(
                f"AP100m and AP50m of {dataset_name} are left out, for there is no folder "
                f"{' nor '.join(map(str, absent))} to compute distances from."
            )
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._matches: dict[str, ImageMatches] = {}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Match a batch with its labels.

        Args:
            inputs: ``image_id``, ``file_name``, ``height``, ``width`` of each image.
            outputs: ``instances`` with ``pred_masks`` (N, H, W) bool, ``pred_classes``
                and ``scores`` (N,).

        Raises:
            UserError: predictions that cannot be compared, an image that is not in the set, or a
                file that cannot be read.
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            check_prediction(record, instances, len(CLASS_IDS))
            image_id = record["image_id"]
            if image_id not in self._labels:
                raise UserError(
                    f"Image {image_id!r} was evaluated but has no label in {self._name!r}. Build "
                    "the evaluator with the name of the data set that the loader reads."
                )
            label_path = self._labels[image_id][0]
            labels = read_label(label_path)
            ground_truth = self._ground_truth(labels, label_path, image_id)
            void = void_ids(self._official.labels)
            self._matches[image_id] = match_image(labels, ground_truth, instances, void=void)

    def _ground_truth(self, labels, label_path, image_id) -> "list[GroundTruthEntry]":
        ids, areas = np.unique(labels, return_counts=True)
        scored = np.isin(class_of(ids), list(CLASS_IDS.values()))
        ids, areas = ids[scored].tolist(), areas[scored].tolist()
        distances = [NO_DISTANCE] * len(ids)
        if self._with_distance:
            disparity, camera = (
                self._source.stereo_path(kind, label_path, image_id)
                for kind in ("disparity", "camera")
            )
            values = read_disparity(disparity, labels.shape)
            distances = instance_distances(labels, ids, values, factor=read_camera(camera))
        return [
            {"instID": i, "pixelCount": area, "medDist": distance, "distConf": density}
            for i, area, (distance, density) in zip(ids, areas, distances)
        ]

    def evaluate(self) -> "dict[str, dict[str, float]]":
        """
        Returns:
            {"cityscapes": {...}} in the main process; {} in the others and where no image was
            processed.
        """
        matches = list(self._matches.items())
        matches = dict(gather_list(matches) if self._distributed else matches)
        if not matches:
            return {}
        if len(matches) < len(self._labels):
            self._logger.info(
                f"The Cityscapes score is that of {len(matches)} of the {len(self._labels)} images "
                f"of {self._name}."
            )
        results = score_matches(self._official, matches, self._with_distance)
        if np.isnan(results["AP"]):
            self._logger.warning(
                f"The labels of {self._name} hold no object, so that there is no score; those of "
                "the test split are not public: the official server scores it."
            )
        self._logger.info("Cityscapes score (percent): \n" + results_table(results))
        return {"cityscapes": results}


def score_matches(
    official: ModuleType, matches: Mapping[str, ImageMatches], with_distance: bool
) -> "dict[str, float]":
    """The figures of a data set.

    Args:
        official: :func:`official_script`.
        matches: of each image, :func:`match_image`.
        with_distance: whether ``medDist`` and ``distConf`` are filled in.

    Returns:
        Percent, see :class:`CityscapesEvaluator`.
    """
    settings = copy.copy(official.args)  # the module's own stay as they are
    official.setInstanceLabels(settings)
    settings.distanceAvailable = with_distance
    settings.quiet = True
    precisions = average_precisions(official, matches, settings)
    with warnings.catch_warnings():
        # Means over classes of which there is none are nan, which needs no words.
        warnings.simplefilter("ignore", RuntimeWarning)
        averages = official.computeAverages(precisions, settings)
    figures = {**FIGURES, **(DISTANCE_FIGURES if with_distance else {})}
    results = {name: 100 * float(averages[key]) for name, (key, _) in figures.items()}
    for class_name in settings.instLabels:
        of_class = averages["classes"][class_name]
        for name, (_, key) in figures.items():
            results[f"{name}-{class_name}"] = 100 * float(of_class[key])
    return results


def average_precisions(
    official: ModuleType, matches: Mapping[str, ImageMatches], settings: Any
) -> np.ndarray:
    """AP of each limit of distance, class and overlap.

    Args:
        official: :func:`official_script`.
        matches: of each image, :func:`match_image`.
        settings: as ``official.args``, with ``instLabels`` and ``distanceAvailable``.

    Returns:
        (D, C, O) float, 0 to 1, nan where there is nothing to find.
    """
    number = len(settings.distanceThs) if settings.distanceAvailable else 1
    shape = (number, len(settings.instLabels), len(settings.overlaps))
    precisions = np.full(shape, np.nan)
    for d, c, o in np.ndindex(shape):
        cell = copy.copy(settings)
        cell.minRegionSizes = settings.minRegionSizes[d : d + 1]
        cell.distanceThs = settings.distanceThs[d : d + 1]
        cell.distanceConfs = settings.distanceConfs[d : d + 1]
        cell.instLabels = settings.instLabels[c : c + 1]
        cell.overlaps = settings.overlaps[o : o + 1]
        try:
            precisions[d, c, o] = official.evaluateMatches(matches, cell).item()
        except IndexError:
            # There are objects, and every prediction of the class lies in void: the script asks an
            # empty list for its last entry. No object is detected.
            precisions[d, c, o] = 0.0
    return precisions


def results_table(results: Mapping[str, float]) -> str:
    """The results as a text table, a row for each class, as in the papers.

    Args:
        results: of :func:`score_matches`.
    """
    headers = [name for name in results if "-" not in name]
    rows = [[name, *(results[f"{figure}-{name}"] for figure in headers)] for name in CLASS_IDS]
    rows.append(["mean", *(results[figure] for figure in headers)])
    return tabulate(rows, ["class", *headers], tablefmt="pipe", floatfmt=".1f")
