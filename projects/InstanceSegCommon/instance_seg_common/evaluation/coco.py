"""COCO average precision that also answers for empty predictions, empty sets and crowded images."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.coco import CocoSource, usable_content
from ..data.coco_truth import truth_of, truth_of_stock
from ..data.registration import source_of
from ..errors import UserError
from .checks import check_prediction
from .coco_matching import coco_detections, evaluate_coco, with_category_ids
from .ground_truth import GroundTruth, drop_ignored

COCO_COUNTS = 100  # predictions of an image, in COCO's own benchmark


class InstanceCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator for box and mask AP, in percent, without its silent cases.

    - Both tasks are always reported: AP is 0 where there is something to find and nothing was
      predicted, nan where there is nothing to find (stock: nan or no key at all).
    - All predictions count, unless the rules of a benchmark say otherwise; the stock limit is 100
      an image. Thousands of objects in an image are no matter of hours.
    - A data set that is not a COCO json is converted anew for every evaluator, in a temporary
      folder, and its metadata is left as it was (stock: a json_file that outlives its content).
    - Of a data set that is not a COCO json, detections with half or more of their pixels in an
      ignored region (value 255 of ``sem_seg_file_name``) are left out instead of being false
      positives. A COCO json has crowds for that, which COCO's own rule deals with.
    - The annotations of a COCO json are numbered anew from 1, and what COCO's evaluation needs of
      them is filled in (stock: an annotation with id 0 is never found). Those without a mask do not
      count.
    - Masks that are soft or of the wrong size, and classes out of range, are errors.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: Union[str, Path, None] = None,
        max_dets_per_image: Optional[int] = None,
        distributed: bool = True,
    ):
        """
        Args:
            dataset_name: a registered data set with ``thing_classes``.
            output_dir: where the predictions are dumped; None keeps no file.
            max_dets_per_image: predictions of an image that count, by the rules of a benchmark;
                None: all of them, and the summary says how many the most crowded image has.
            distributed: gather the predictions of all processes.

        Raises:
            UserError: the data set's annotation file does not exist.
        """
        metadata = MetadataCatalog.get(dataset_name)
        converted = not hasattr(metadata, "json_file")
        with _truth_file(dataset_name, metadata) as folder:
            super().__init__(
                dataset_name,
                tasks=("bbox", "segm"),
                distributed=distributed,
                output_dir=folder,
                use_fast_impl=False,
            )
        self._output_dir = None if output_dir is None else str(output_dir)
        if converted and not self._do_evaluation:
            # The conversion of a set without a single object leaves the key out.
            self._coco_api.dataset["annotations"] = []
            self._do_evaluation, self._kpt_oks_sigmas = True, ()
        self._counted = max_dets_per_image
        self._ground_truth = GroundTruth(dataset_name) if converted else None
        self._num_classes = len(metadata.get("thing_classes", ())) or None
        # Of "bbox" and "segm", what the last evaluation computed.
        self.evaluations: dict[str, COCOeval] = {}

    @property
    def coco_api(self) -> COCO:
        """The ground truth."""
        return self._coco_api

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the predictions of a batch, masks as RLE; arguments as in the stock evaluator.

        Raises:
            UserError: see :func:`instance_seg_common.evaluation.checks.check_prediction`.
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            check_prediction(record, instances, self._num_classes)
            evaluated = self._evaluated(record, instances)
            image_id = record["image_id"]
            detections = coco_detections(evaluated, image_id)
            self._predictions.append({"image_id": image_id, "instances": detections})

    def _evaluated(self, record, instances):
        region = self._ground_truth and self._ground_truth.void_region(record["image_id"])
        return instances if region is None else drop_ignored(instances, region)

    def _eval_predictions(self, predictions, img_ids=None):
        classes = [detection for p in predictions for detection in p["instances"]]
        detections = with_category_ids(classes, self._metadata)
        if self._output_dir:
            path = Path(self._output_dir) / "coco_instances_results.json"
            path.write_text(json.dumps(detections))
        if not detections:
            self._logger.warning(
                f"No instance was predicted on '{self._metadata.name}': AP is 0 wherever there is "
                "ground truth."
            )
        limits = self._limits([len(p["instances"]) for p in predictions])
        names = self._metadata.get("thing_classes")
        for task in self._tasks:
            evaluation = evaluate_coco(
                self._coco_api, detections, task, limits=limits, image_ids=img_ids
            )
            self.evaluations[task] = evaluation
            self._results[task] = self._derive_coco_results(evaluation, task, class_names=names)

    def _limits(self, numbers: "list[int]") -> "tuple[int, int, int]":
        """COCO's three numbers of detections an image, of which AP is that of the last."""
        most = max(numbers, default=0)
        if self._counted is None:
            return (1, 10, max(most, COCO_COUNTS))
        cut = sum(number > self._counted for number in numbers)
        if cut:
            self._logger.warning(
                f"AP counts the best {self._counted} predictions of an image, as the rules of "
                f"'{self._metadata.name}' have it: {cut} of {len(numbers)} images have more, "
                f"at most {most}."
            )
        return (1, 10, self._counted)


@contextlib.contextmanager
def _truth_file(dataset_name: str, metadata: Metadata) -> "Iterator[str]":
    """A temporary folder; meanwhile the metadata name a file there with the ground truth.

    A data set that has no JSON is converted by the stock evaluator, into this folder.
    """
    own = metadata.get("json_file")
    truth = None if own is None else _truth(dataset_name, own)
    with tempfile.TemporaryDirectory() as folder:
        if truth is not None:
            path = Path(folder) / "truth.json"
            path.write_text(json.dumps(truth), encoding="utf-8")
            del metadata.json_file
            metadata.json_file = str(path)
        try:
            yield folder
        finally:
            if hasattr(metadata, "json_file"):
                del metadata.json_file
            if own is not None:
                metadata.json_file = own


def _truth(dataset_name: str, json_file: str) -> "dict[str, Any]":
    source = source_of(dataset_name)
    if isinstance(source, CocoSource):
        return truth_of(usable_content(source))
    _check_json_file(dataset_name, json_file)
    content = json.loads(Path(PathManager.get_local_path(json_file)).read_bytes())
    return truth_of_stock(content) if "annotations" in content else content


def _check_json_file(dataset_name, json_file):
    if not PathManager.isfile(json_file):
        raise UserError(
            f"The annotation file of data set '{dataset_name}' does not exist: {json_file}. "
            "Check the path it was registered with and DETECTRON2_DATASETS."
        )
