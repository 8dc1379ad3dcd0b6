"""The trainer of all methods: Detectron2's, with what it lacks on CPU and for small data sets."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Optional

import torch
from detectron2.config import CfgNode
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
    hooks,
)
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluators
from detectron2.evaluation.testing import verify_results
from detectron2.utils import comm
from torch import nn

from ..data.loader import build_test_loader, build_train_loader
from ..errors import UserError
from ..evaluation import build_evaluator
from ..tiling.tiled_model import with_tiles
from .averaged_weights import AveragedWeights
from .build import build_model_quietly
from .checkpoint import AtomicCheckpointer
from .checks import check_config
from .hooks import BestModel, EarlyStop, Pictures, StopTraining, Throughput, ValidationLoss
from .limits import ReachedLimit, evaluate_and_count
from .machine import fit_to_machine
from .optimizer import build_optimizer
from .results import write_results

logger = logging.getLogger(__name__)


class TrainingStream:
    """Training batches from ``start_iter`` on, with a loader that is built for the first of them.

    A resumed run knows only after its construction where it continues, and Detectron2 0.6 asks for
    an iterator before.

    Args:
        build: start iteration -> infinite loader.
    """

    def __init__(self, build: "Callable[[int], Iterable[Any]]"):
        self.build = build
        self.start_iter = 0

    def __iter__(self) -> "Iterator[Any]":
        yield from self.build(self.start_iter)


class InstanceSegTrainer(DefaultTrainer):
    """Trains, evaluates and keeps the best model of any meta-architecture.

    Args:
        cfg: with the keys of ``add_common_config``.

    Raises:
        UserError: data sets, classes, masks or batch size do not fit together.
    """

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer.__init__ gives DistributedDataParallel a GPU number; CPU models refuse it.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(fit_to_machine(cfg), comm.get_world_size())
        self.cfg = cfg
        self._num_images = check_config(cfg)
        model = self.build_model(cfg)
        if not any(p.requires_grad for p in model.parameters()):
            raise UserError(
                f"{cfg.MODEL.META_ARCHITECTURE} has nothing to train: evaluate it with --eval-only."
            )
        optimizer = self.build_optimizer(cfg, model)
        devices = [comm.get_local_rank()] if cfg.MODEL.DEVICE.startswith("cuda") else None
        kind = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        ddp_model = create_ddp_model(model, broadcast_buffers=False, device_ids=devices)
        self.averaged = None
        if cfg.SOLVER.EMA_DECAY > 0:  # a copy: of the same weights on all ranks, without hooks
            self.averaged = AveragedWeights(model, cfg.SOLVER.EMA_DECAY)
        model.register_forward_pre_hook(self._before_forward)
        model.register_forward_hook(_check_finite)
        self._stream = TrainingStream(partial(self.build_train_loader, cfg))
        self._trainer = kind(ddp_model, self._stream, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = AtomicCheckpointer(
            self.evaluated_model,
            cfg.OUTPUT_DIR,
            save_to_disk=comm.is_main_process(),
            trainer=weakref.proxy(self),
        )
        self.best = BestModel(cfg.TEST.BEST_METRIC, self.checkpointer, cfg.DATASETS.TEST)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self._last_eval_results: dict[str, Any] = {}
        self._limits: list[ReachedLimit] = []
        self.register_hooks(self.build_hooks())

    @property
    def trained_model(self) -> nn.Module:
        """What the optimiser changes, without the wrapper for several processes."""
        return getattr(self.model, "module", self.model)

    @property
    def evaluated_model(self) -> nn.Module:
        """What is evaluated, drawn and saved as the model: the average, if there is one."""
        return self.trained_model if self.averaged is None else self.averaged.module

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """As stock, but the log gets the number of parameters instead of every layer."""
        return build_model_quietly(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SGD or AdamW; see ``engine.optimizer``."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0) -> "Iterable[Any]":
        """See ``data.loader``."""
        return build_train_loader(cfg, start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> "Iterable[Any]":
        """See ``data.loader``; for a model of :meth:`test`."""
        return build_test_loader(cfg, dataset_name, tiled=True)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> "dict[str, Any]":
        """As stock; large images are predicted in tiles, if ``TEST.TILE_SIZE`` is not 0."""
        return super().test(cfg, with_tiles(cfg, model), evaluators)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        """See ``evaluation``; what evaluators write goes to ``OUTPUT_DIR/inference/DATASET``."""
        folder = Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
        return build_evaluator(cfg, dataset_name, str(folder))

    def build_hooks(self) -> "list[Optional[HookBase]]":
        """Stock hooks in stock order, with validation loss, best model, early stop and pictures."""
        stock = super().build_hooks()
        # The writer comes last, for it writes what all others have put into the storage.
        writer = stock.pop() if comm.is_main_process() else None
        stock = [self._evaluation_hook() if isinstance(h, hooks.EvalHook) else h for h in stock]
        num_images = sum(self._num_images[name] for name in self.cfg.DATASETS.TRAIN)
        throughput = Throughput(self.cfg.SOLVER.IMS_PER_BATCH, num_images)
        return [*stock, throughput, *self._hooks_of_evaluation_time(), writer]

    def _evaluation_hook(self):
        trainer = weakref.proxy(self)
        return hooks.EvalHook(
            self.cfg.TEST.EVAL_PERIOD, lambda: trainer.evaluate_and_keep_the_best()
        )

    def _hooks_of_evaluation_time(self):
        """What else the config wants every ``TEST.EVAL_PERIOD`` iterations."""
        cfg, is_main = self.cfg, comm.is_main_process()
        if cfg.TEST.EVAL_PERIOD <= 0:
            return []
        wanted = []
        if cfg.DATASETS.TEST and cfg.TEST.VALIDATION_LOSS_IMAGES > 0:
            wanted.append(ValidationLoss(cfg))
        if cfg.DATASETS.TEST and cfg.TEST.PICTURES > 0 and is_main:
            wanted.append(Pictures(cfg))
        if cfg.TEST.PATIENCE > 0:
            best = self.best if is_main else None
            wanted.append(EarlyStop(best, cfg.TEST.EVAL_PERIOD, cfg.TEST.PATIENCE))
        return wanted

    def evaluate_and_keep_the_best(self) -> "dict[str, Any]":
        """Evaluate the model as it is now, and keep its weights if they are the best so far.

        Returns:
            Nested results; {} on other ranks.
        """
        self._last_eval_results, self._limits = evaluate_and_count(
            self.test, self.cfg, self.evaluated_model
        )
        if comm.is_main_process() and self._last_eval_results:
            self.best.update(self._last_eval_results, min(self.iter + 1, self.max_iter))
        return self._last_eval_results

    def resume_or_load(self, resume: bool = True) -> None:
        """As stock; the loader continues at the image where the stopped run was.

        Args:
            resume: go on from ``OUTPUT_DIR/last_checkpoint`` if there is one.
        """
        super().resume_or_load(resume)
        if self.averaged is not None and self.averaged.n_averaged == 0:
            # Weights to start from, or of a run without an average.
            self.trained_model.load_state_dict(self.averaged.module.state_dict())
        if self.start_iter == 0:
            if comm.is_main_process():
                self.best.forget()
            return
        image = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
        logger.info(
            f"Resuming at iteration {self.start_iter} of {self.max_iter}, image {image} of the "
            "stream."
        )
        self._stream.start_iter = self.start_iter

    def state_dict(self) -> "dict[str, Any]":
        """As stock, with the optimiser's, which Detectron2 0.6 leaves out, and, where the model of
        the checkpoint is an average, the weights in training."""
        state = {**super().state_dict(), "_trainer": self._trainer.state_dict()}
        if self.averaged is not None:
            count = int(self.averaged.n_averaged)
            state["averaged"] = {"count": count, "trained": self.trained_model.state_dict()}
        return state

    def load_state_dict(self, state_dict: "dict[str, Any]") -> None:
        """Continue from what :meth:`state_dict` gave."""
        TrainerBase.load_state_dict(self, state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        averaged = state_dict.get("averaged")
        if averaged is not None:
            self.trained_model.load_state_dict(averaged["trained"])
            if self.averaged is not None:
                self.averaged.n_averaged.fill_(averaged["count"])

    def run_step(self) -> None:
        """One iteration; what is not finite names its images before it reaches the weights."""
        try:
            super().run_step()
        except FloatingPointError as error:
            raise UserError(
                f"{error} The images of the batch: {', '.join(self._batch)}. Look at them with "
                "tools/visualize.py --source dataloader; if they are right, lower SOLVER.BASE_LR."
            ) from error
        if self.averaged is not None:
            self.averaged.update_parameters(self.trained_model)

    def _before_forward(self, model, inputs):
        """Forward pre-hook of training steps: keep the images' names, set torch's random state.

        The state is a function of (SEED, iteration, rank), so that a resumed run continues exactly.
        It is set as late as here because a data loader that starts takes a random number itself.
        """
        if not (model.training and torch.is_grad_enabled()):
            return
        self._batch = [str(item.get("file_name", "?")) for item in inputs[0]]
        if self.cfg.SEED >= 0:
            step = self.iter * comm.get_world_size() + comm.get_rank()
            torch.manual_seed((self.cfg.SEED * 1_000_003 + step) % 2**63)

    def train(self) -> "dict[str, Any]":
        """Train to the end or to an early stop, then write ``OUTPUT_DIR/results.json``.

        Returns:
            Nested results of the last evaluation; {} on other ranks.
        """
        start = time.perf_counter()
        logging.getLogger("detectron2.engine.train_loop").addFilter(_is_no_user_error)
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        except StopTraining:
            self.checkpointer.save("model_final", iteration=self.iter)
        if comm.is_main_process():
            seconds = time.perf_counter() - start
            write_results(
                self.cfg,
                self._last_eval_results,
                weights=str(Path(self.cfg.OUTPUT_DIR) / "model_final.pth"),
                iteration=min(self.iter + 1, self.max_iter),
                seconds=round(seconds, 1),
                best=self.best.read(),
                limits=[limit._asdict() for limit in self._limits],
            )
            if self.cfg.TEST.EXPECTED_RESULTS:
                verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results


def _is_no_user_error(record):
    """Log filter: Detectron2 logs what ends a training with a traceback; a sentence needs none."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def _check_finite(model, inputs, output):
    """Forward hook: each rank checks its own losses; stock checks their mean on rank 0."""
    if model.training and torch.is_grad_enabled() and isinstance(output, dict):
        bad = [name for name, value in output.items() if not torch.isfinite(value).all()]
        if bad:
            raise FloatingPointError(f"The loss became NaN or infinite: {', '.join(bad)}.")
