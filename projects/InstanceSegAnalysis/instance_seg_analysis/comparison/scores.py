"""What is measured of one image, and the evaluators of one model.

Shape shorthand in this module:
    G: objects of an image
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators
from detectron2.structures import Instances
from pycocotools.mask import area as mask_area

from instance_seg_analysis.comparison.models import ComparedModel
from instance_seg_analysis.comparison.objects import ObjectFacts
from instance_seg_analysis.comparison.timing import TimedInstances
from instance_seg_common.evaluation.ap_by_value import ap_by_value, nearest_objects
from instance_seg_common.evaluation.build import counted_detections
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator
from instance_seg_common.evaluation.contingency import relabel
from instance_seg_common.evaluation.error_kinds import InstanceErrors
from instance_seg_common.evaluation.image_report import ImageReport, Truth, report_image
from instance_seg_common.evaluation.label_map import (
    ImageScores,
    LabelMapEvaluator,
    score_label_maps,
)
from instance_seg_common.evaluation.restriction import restrict_evaluators, restrict_to_config

IOU = 0.5


class ModelResult(NamedTuple):
    """One model on one image.

    report: the prediction beside the truth; None once the pictures are made, for it fills memory.
    scores: at IoU 0.5. errors: of what was evaluated. found: (G,) bool. seconds: of the whole
    model. network_seconds: of these, in the network; None where that cannot be told.
    """

    report: Optional[ImageReport]
    scores: ImageScores
    errors: InstanceErrors
    found: np.ndarray
    seconds: float
    network_seconds: Optional[float]


class ImageResult(NamedTuple):
    """All models on one image. record: data set dict; truth: None once the pictures are made;
    models: by name; objects: what the G objects are like."""

    record: dict[str, Any]
    truth: Optional[Truth]
    models: dict[str, ModelResult]
    objects: ObjectFacts

    def spread(self, names: Sequence[str]) -> "tuple[float, float]":
        """How much results differ: largest minus smallest matching accuracy, the same of SBD.

        Args:
            names (sequence[str]): of the models, not empty.
        """
        scores = [self.models[name].scores for name in names]
        accuracies = [score.matchings[0].accuracy for score in scores]
        sbds = [score.sbd for score in scores]
        return max(accuracies) - min(accuracies), max(sbds) - min(sbds)

    def without_maps(self) -> "ImageResult":
        """The same without what fills memory."""
        models = {name: result._replace(report=None) for name, result in self.models.items()}
        return self._replace(truth=None, models=models)


def score_image(
    compared: ComparedModel, record: Mapping[str, Any], *, truth: Truth, timed: TimedInstances
) -> ModelResult:
    """Compare what a model predicted for an image with the truth, as ``ModelEvaluators`` do."""
    report = report_image(
        truth,
        restrict_to_config(compared.cfg, record, timed.instances),
        score_threshold=compared.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        min_area=compared.cfg.TEST.LABEL_MAP_MIN_AREA,
        iou_threshold=IOU,
    )
    predicted = report.evaluated.labels
    scores = score_label_maps(relabel(truth.labels), predicted, iou_thresholds=(IOU,))
    ids = np.unique(truth.labels[truth.labels > 0])
    found = np.isin(ids, [g for g, _ in report.errors.matched])
    return ModelResult(
        report, scores, report.errors,
        found=found, seconds=timed.seconds, network_seconds=timed.network_seconds,
    )  # fmt: skip


class ModelEvaluators:
    """COCO's AP and the label map scores of one model.

    Args:
        cfg (CfgNode): ``TEST.*``.
        dataset (str): registered.
    """

    def __init__(self, cfg: CfgNode, dataset: str):
        self.coco = InstanceCOCOEvaluator(
            dataset, max_dets_per_image=counted_detections(dataset), distributed=False
        )
        self.label_map = LabelMapEvaluator(
            dataset, cfg.TEST.LABEL_MAP_SCORE_THRESHOLD, cfg.TEST.LABEL_MAP_MIN_AREA,
            distributed=False,
        )  # fmt: skip
        both = restrict_evaluators(cfg, dataset, [self.coco, self.label_map])
        self._all = DatasetEvaluators(both)
        self._all.reset()

    def process(self, item: Mapping[str, Any], instances: Instances) -> None:
        """Keep the prediction of one image."""
        self._all.process([item], [{"instances": instances}])

    def annotations(self, image_id: Any) -> "list[dict[str, Any]]":
        """COCO's annotations of the objects of an image that are no crowd."""
        annotations = self.coco.coco_api.imgToAnns[image_id]
        return [a for a in annotations if not a.get("iscrowd", 0)]

    def metrics(self, image_ids: Sequence[Any]) -> "dict[str, float]":
        """See ``Summary``; AP is of the images that were processed, not of the whole set."""
        with contextlib.redirect_stdout(io.StringIO()):
            segm = self.coco.evaluate(img_ids=image_ids)["segm"]
            rest = self.label_map.evaluate()
        return {
            **{key: float(segm[key]) for key in ("AP", "AP50", "AP75")},
            "accuracy": rest["matching"]["accuracy50"],
            "PQ": rest["matching"]["pq50"],
            "SBD": rest["sbd"]["SBD"],
            "DiC": rest["dic"]["DiC"],
        }

    def precision(
        self, edges: Sequence[float], of_objects: Mapping[int, float], *, own_area: bool
    ) -> "list[Optional[float]]":
        """AP of each bin, after ``metrics``.

        Args:
            edges, of_objects: as :func:`ap_by_value`.
            own_area (bool): a prediction's value is its own area; else that of the object it
                overlaps most, 0 without any.
        """
        evaluation = self.coco.evaluations["segm"]
        predictions = evaluation.cocoDt.anns
        if own_area:
            values = {i: float(mask_area(p["segmentation"])) for i, p in predictions.items()}
        else:
            nearest = nearest_objects(evaluation)
            values = {i: of_objects.get(nearest.get(i), 0.0) for i in predictions}
        return ap_by_value(evaluation, edges, of_objects=of_objects, of_predictions=values)
