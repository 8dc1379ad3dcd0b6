"""Predictions cut to the pixels that a data set judges, before they are scored.

Shape shorthand in this module:
    H, W: image   N: predicted instances
"""

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluators

from ..data.label_images import read_foreground
from ..errors import UserError
from .checks import check_prediction
from .ground_truth import GroundTruth


class CutPredictions(DatasetEvaluators):
    """Evaluators that see of each predicted mask only what lies in a region of its image.

    A prediction of which nothing is left is not judged. Boxes stay as they were predicted.
    """

    def __init__(self, evaluators, region):
        """
        Args:
            evaluators (list[DatasetEvaluator]): what gets the cut predictions.
            region (callable): model input (dict) -> (H, W) bool ndarray, or None to cut nothing.
        """
        super().__init__(evaluators)
        self._region = region

    def process(self, inputs, outputs):
        """Cut a batch and hand it on.

        Raises:
            UserError: predictions that cannot be compared with the ground truth.
        """
        cut = []
        for record, output in zip(inputs, outputs):
            check_prediction(record, output["instances"])
            region = self._region(record)
            cut.append({**output, "instances": cut_to(output["instances"], region)})
        super().process(inputs, cut)


def cut_to_what_is_judged(cfg, dataset_name, evaluators):
    """Evaluators that see of a prediction what the config and the data set want judged.

    Args:
        cfg (CfgNode): with ``TEST.FOREGROUND_GIVEN``, only what lies in the supplied foreground.
        dataset_name (str): registered; of evaluator_type "voc", only what is not void.
        evaluators (list[DatasetEvaluator])

    Returns:
        list[DatasetEvaluator]
    """
    if cfg.TEST.FOREGROUND_GIVEN:
        evaluators = [CutPredictions(evaluators, supplied_foreground)]
    if MetadataCatalog.get(dataset_name).get("evaluator_type") == "voc":
        evaluators = [CutPredictions(evaluators, outside_void(dataset_name))]
    return evaluators


def cut_to(instances, region):
    """Predictions without what lies outside a region.

    Args:
        instances (Instances): ``pred_masks`` (N, H, W) bool, on any device.
        region (ndarray or None): (H, W) bool.

    Returns:
        Instances: new; those of which something is left, and those that had no pixel before, which
        are wrong and not outside.
    """
    if region is None or len(instances) == 0:
        return instances
    masks = instances.pred_masks
    inside = masks & torch.from_numpy(region).to(masks.device)
    left = inside.flatten(1).any(dim=1) | ~masks.flatten(1).any(dim=1)
    cut = instances[left]
    cut.pred_masks = inside[left]
    return cut


def outside_void(dataset_name):
    """The region of a data set with void pixels, which are neither objects nor background.

    Args:
        dataset_name (str): registered; void is value 255 of ``sem_seg_file_name``.

    Returns:
        callable: for :class:`CutPredictions`.
    """
    ground_truth = GroundTruth(dataset_name)

    def region(record):
        void = ground_truth.void_region(record["image_id"])
        return None if void is None else ~void

    return region


def supplied_foreground(record):
    """The region of a data set that supplies the foreground of each image.

    Args:
        record (dict): model input with ``foreground_file_name``, ``height`` and ``width``.

    Returns:
        ndarray: (H, W) bool.

    Raises:
        UserError: the data set supplies none, or the file cannot be used.
    """
    path = record.get("foreground_file_name")
    if path is None:
        raise UserError(no_foreground_sentence(record.get("file_name")))
    return read_foreground(path, (record["height"], record["width"]))


def no_foreground_sentence(file_name):
    """The sentence for an image whose foreground is asked for and not supplied."""
    return (
        f"TEST.FOREGROUND_GIVEN is True, but the data set supplies no foreground for {file_name}; "
        "set it to False. The sets cvppp_* supply one."
    )
