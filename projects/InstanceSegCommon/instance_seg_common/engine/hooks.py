"""Hooks that Detectron2 lacks: exact randomness, best model, early stop, validation, pictures."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.evaluation import inference_context
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ..data.mapper import build_test_mapper
from ..tiling.tiled_model import with_tiles
from ..visualization.panels import prediction_panel
from .checkpoint import AtomicCheckpointer
from .validation_loss import build_validation_inputs, validation_loss

logger = logging.getLogger(__name__)


class StopTraining(BaseException):
    """Ends training early; no Exception, so that the trainer does not log it as a failure."""


class Throughput(HookBase):
    """Images per second and epochs so far, on the line that the printer logs.

    Args:
        batch_size: images of all ranks in one iteration.
        num_images: images in an epoch.
    """

    def __init__(self, batch_size: int, num_images: int):
        self.batch_size = batch_size
        self.num_images = num_images

    def after_step(self) -> None:
        storage = self.trainer.storage
        if "time" in storage.histories():
            seconds = storage.history("time").avg(20)
            storage.put_scalar("images/s [metric]", self.batch_size / max(seconds, 1e-9))
        seen = (self.trainer.iter + 1) * self.batch_size
        storage.put_scalar("epoch [metric]", seen / self.num_images, smoothing_hint=False)


class Periodic(HookBase):
    """Calls ``self.run()`` every ``period`` iterations and after the last one; never if 0.

    Args:
        period: iterations.
    """

    def __init__(self, period: int):
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and (done % self.period == 0 or done == self.trainer.max_iter):
            self.run()

    def run(self) -> None:
        """What is done."""
        raise NotImplementedError


class ValidationLoss(Periodic):
    """Writes ``validation_loss`` and its terms as scalars.

    Args:
        cfg: ``DATASETS.TEST[0]``, ``TEST.VALIDATION_LOSS_IMAGES``, ``TEST.EVAL_PERIOD``.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg.TEST.EVAL_PERIOD)
        self.inputs = build_validation_inputs(
            cfg, cfg.DATASETS.TEST[0], cfg.TEST.VALIDATION_LOSS_IMAGES
        )

    def run(self) -> None:
        losses = validation_loss(self.trainer.evaluated_model, self.inputs)
        total = losses.pop("total")
        self.trainer.storage.put_scalar("validation_loss", total, smoothing_hint=False)
        for name, value in losses.items():
            # A name with "loss" in it would stay on every line of the log.
            name = f"validation/{name.removeprefix('loss_')}"
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)


class BestModel:
    """Keeps the best weights of a run as ``model_best.pth`` and what they reached as ``best.json``.

    The file is the only state, so that a resumed run knows the best value so far.

    Args:
        metric: path in the results, such as ``segm/AP``; ``-`` before it: lower is better.
        checkpointer: of the run.
        dataset_names: of the evaluation; of several the first one decides.
    """

    def __init__(
        self, metric: str, checkpointer: AtomicCheckpointer, dataset_names: Sequence[str] = ()
    ):
        # Detectron2 nests the results below the data set's name only where there are several.
        prefix = f"{dataset_names[0]}/" if len(dataset_names) > 1 else ""
        self.metric = prefix + metric.lstrip("-")
        self.sign = -1.0 if metric.startswith("-") else 1.0
        self.checkpointer = checkpointer
        self.file = Path(checkpointer.save_dir) / "best.json"

    def read(self) -> "Optional[dict[str, Any]]":
        """The best so far: {"metric", "value", "iteration"}, or None."""
        return json.loads(self.file.read_text()) if self.file.is_file() else None

    def forget(self) -> None:
        """Start anew: an earlier run in the same folder does not count."""
        self.file.unlink(missing_ok=True)

    def update(self, results: Mapping[str, Any], iteration: int) -> None:
        """Keep the weights if ``results`` are the best so far.

        Args:
            results: nested, of an evaluation.
            iteration: iterations done.
        """
        flat = flatten_results_dict(results)
        value = flat.get(self.metric)
        if value is None:
            logger.warning(
                "TEST.BEST_METRIC %r is not among the results: no best model is kept. They are: %s",
                self.metric,
                ", ".join(sorted(flat)),
            )
            return
        best = self.read()
        if math.isnan(value) or (best and self.sign * value <= self.sign * best["value"]):
            return
        self.checkpointer.save_weights("model_best")
        partial = self.file.with_suffix(".partial")
        partial.write_text(
            json.dumps({"metric": self.metric, "value": float(value), "iteration": iteration})
        )
        partial.replace(self.file)
        logger.info("Best %s so far: %.4g at iteration %d.", self.metric, value, iteration)


class EarlyStop(Periodic):
    """Ends training when the best value is older than a number of evaluations; all ranks agree.

    Args:
        best: None except on the main process.
        period: iterations between evaluations.
        patience: evaluations without a better value.
    """

    def __init__(self, best: Optional[BestModel], period: int, patience: int):
        super().__init__(period)
        self.best = best
        self.patience = patience

    def run(self) -> None:
        stop = False
        done = self.trainer.iter + 1
        if self.best is not None and done < self.trainer.max_iter:
            best = self.best.read()
            stop = bool(best) and done - best["iteration"] >= self.patience * self.period
        if any(comm.all_gather(stop)):
            logger.info("No better %s for %d evaluations: stop.", self.best_name, self.patience)
            raise StopTraining

    @property
    def best_name(self) -> str:
        """The metric watched, for the log."""
        return self.best.metric if self.best else "value"


class Pictures(Periodic):
    """Ground truth | prediction | errors of some test images in TensorBoard; main process only.

    Args:
        cfg: ``TEST.PICTURES`` images of ``DATASETS.TEST[0]``, every ``TEST.EVAL_PERIOD``.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg.TEST.EVAL_PERIOD)
        self.cfg = cfg
        dicts = DatasetCatalog.get(cfg.DATASETS.TEST[0])
        self.dicts = dicts[:: max(1, len(dicts) // cfg.TEST.PICTURES)][: cfg.TEST.PICTURES]
        self.mapper = build_test_mapper(cfg, tiled=True)
        self.class_names = MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes

    def run(self) -> None:
        model = self.trainer.evaluated_model
        tiled = with_tiles(self.cfg, model)
        with inference_context(model), torch.no_grad():
            for item in self.dicts:
                instances = tiled([self.mapper(item)])[0]["instances"].to("cpu")
                panel = prediction_panel(
                    item,
                    instances,
                    self.class_names,
                    score_threshold=self.cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
                    min_area=self.cfg.TEST.LABEL_MAP_MIN_AREA,
                )
                name = f"predictions/{Path(item['file_name']).stem}"
                self.trainer.storage.put_image(name, panel.transpose(2, 0, 1))
