"""COCO's AP of masks for several settings on the same images."""

import contextlib
import copy
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np

from instance_seg_analysis.limits.images import MeasuredImages
from instance_seg_common.evaluation.build import counted_detections
from instance_seg_common.evaluation.coco import InstanceCOCOEvaluator

ByGroup = dict[str, Optional[float]]


class MaskAP(InstanceCOCOEvaluator):
    """COCO's AP of masks alone, for some of the images at a time.

    Args:
        dataset_name (str): registered.
    """

    def __init__(self, dataset_name: str):
        counted = counted_detections(dataset_name)
        super().__init__(dataset_name, max_dets_per_image=counted, distributed=False)
        self._tasks = ("segm",)
        self.reset()

    def for_other_settings(self, settings: "Iterable[Any]") -> "dict[Any, MaskAP]":
        """Evaluators of the same ground truth, each with predictions of its own, by setting."""
        others = {setting: copy.copy(self) for setting in settings}
        for other in others.values():
            other.reset()
        return others

    def precision(self, image_ids: Sequence[Any]) -> Optional[float]:
        """AP in percent over these images; None where there is nothing to find."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its table
            value = self.evaluate(img_ids=image_ids)["segm"]["AP"]
        return None if math.isnan(value) else float(value)

    def precision_by_group(self, images: MeasuredImages) -> ByGroup:
        """AP in percent or None by "all" or the name of a group."""
        ids = np.array([record["image_id"] for record in images.records], dtype=object)
        chosen = {"all": ids}
        chosen |= {name: ids[images.groups == g] for g, name in enumerate(images.group_names)}
        return {
            name: self.precision(list(some)) if len(some) else None for name, some in chosen.items()
        }
