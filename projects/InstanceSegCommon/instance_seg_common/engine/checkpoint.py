"""Checkpoints that a kill cannot truncate, and weights whose misfit is said in a sentence."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from ..errors import UserError
from .adapted_weights import (
    adapt_first_convolutions,
    aligned_weights,
    counts_by_part,
    modules_of,
)

logger = logging.getLogger(__name__)
PARTIAL = ".partial"


class AtomicCheckpointer(DetectionCheckpointer):
    """Writes under a temporary name and renames; reports what did not fit in sentences.

    Args: those of ``DetectionCheckpointer``.

    Attributes:
        misfits: what the last file did not have or had in another shape, a sentence each.
    """

    misfits: tuple[str, ...] = ()
    _resuming = False  # what does not fit is an error
    _starting = False  # what does not fit is adapted or left out

    def resume_or_load(self, path: str, *, resume: bool = True) -> "dict[str, Any]":
        """As stock; a run of another model cannot be resumed, but its weights can be a start.

        Args:
            path: of weights to start from; "" for none.
            resume: go on from the last checkpoint of the folder if there is one.

        Raises:
            UserError: see :meth:`load`; the last checkpoint is of another model.
        """
        self._resuming = resume and self.has_checkpoint()
        self._starting = not self._resuming
        try:
            return super().resume_or_load(path, resume=resume)
        except ValueError as error:  # the optimiser's, for other groups of parameters
            if isinstance(error, UserError) or not self._resuming:
                raise
            raise UserError(self._cannot_resume(f"of the optimiser ({error})")) from error
        finally:
            self._resuming = self._starting = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Save model and checkpointables as ``name``.pth and tag it as the last checkpoint."""
        super().save(name + PARTIAL, **kwargs)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Give the finished file its name, then point ``last_checkpoint`` to it."""
        folder = Path(self.save_dir)
        final = last_filename_basename.replace(PARTIAL, "")
        (folder / last_filename_basename).replace(folder / final)
        tag = folder / f"last_checkpoint{PARTIAL}"
        tag.write_text(final)
        tag.replace(folder / "last_checkpoint")

    def save_weights(self, name: str) -> None:
        """Save the model alone as ``name``.pth; the last checkpoint stays what it is."""
        folder = Path(self.save_dir)
        torch.save({"model": self.model.state_dict()}, folder / f"{name}{PARTIAL}.pth")
        (folder / f"{name}{PARTIAL}.pth").replace(folder / f"{name}.pth")

    def load(self, path: str, *args: Any, **kwargs: Any) -> "dict[str, Any]":
        """As stock; a file that is absent or damaged is a ``UserError`` that names it."""
        self.misfits = ()
        # Detectron2 takes options behind a "?", such as file.pth?matching_heuristics=True.
        if path and "://" not in path and not Path(path.split("?")[0]).is_file():
            raise UserError(f"There is no weights file {path}. {self._alternatives(path)}")
        try:
            return super().load(path, *args, **kwargs)
        except (EOFError, RuntimeError, pickle.UnpicklingError, KeyError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"The weights {path} cannot be read ({reason}): truncated, "
                f"out of reach, or no checkpoint. {self._alternatives(path)}"
            ) from error

    def _load_model(self, checkpoint):
        """As stock; to start from, first convolutions of other channels are adapted before."""
        if self._starting:
            weights = checkpoint["model"]
            if checkpoint.pop("matching_heuristics", False):
                self._convert_ndarray_to_tensor(weights)
                caffe2 = checkpoint.get("__author__") == "Caffe2"
                weights = aligned_weights(self.model, weights, caffe2)
            adapted = adapt_first_convolutions(weights, self.model)
            if adapted:
                logger.warning(
                    "Other channels than those of the weights: %s. Each kernel is its mean over "
                    "channels, scaled to the same response.",
                    ", ".join(adapted),
                )
            checkpoint["model"] = weights
        return super()._load_model(checkpoint)

    def _alternatives(self, path):
        """Other checkpoints in the run's folder, newest first, as a hint."""
        folder = Path(self.save_dir)
        files = sorted(folder.glob("*.pth"), key=lambda f: f.stat().st_mtime, reverse=True)
        names = [f.name for f in files if f.name != Path(path).name and PARTIAL not in f.name]
        if not self.save_dir or not names:
            return "Give another file as MODEL.WEIGHTS."
        return (
            f"Other checkpoints in {folder}: {', '.join(names)}. To go on from one with --resume, "
            f"write its name into {folder / 'last_checkpoint'}."
        )

    def _log_incompatible_keys(self, incompatible):
        """Count what was loaded and name what was not, in a line each instead of a list of keys."""
        others = [key for key, *_ in incompatible.incorrect_shapes]
        absent = [key for key in incompatible.missing_keys if key not in others]
        self.misfits = (
            *(
                f"{key}: {tuple(in_file)} in the file, {tuple(in_model)} in the model"
                for key, in_file, in_model in incompatible.incorrect_shapes
            ),
            *(f"{key}: absent from the file" for key in absent),
        )
        unused = incompatible.unexpected_keys
        if self._resuming and (self.misfits or unused):
            raise UserError(self._cannot_resume(*self.misfits, *unused))
        total, misfits = len(self.model.state_dict()), len(self.misfits)
        logger.info(
            f"Weights: {total - misfits} of {total} tensors loaded, {misfits} keep their initial "
            f"value, {len(unused)} in the file unused."
        )
        if others:
            logger.warning(
                "Left out, for their shapes in the file are others (another number of classes?), "
                "and learned anew: %s. First: %s.",
                ", ".join(modules_of(others)),
                self.misfits[0],
            )
        if absent:
            parts = ", ".join(f"{part} ({n})" for part, n in counts_by_part(absent).items())
            logger.warning("Not in the file, and learned anew: tensors of %s.", parts)

    def _cannot_resume(self, first, *others):
        """Why the last checkpoint of this folder is not one of this model, and what to do."""
        path = self.get_checkpoint_file()
        return (
            f"--resume cannot go on with this config: {path} is of another model, "
            f"{1 + len(others)} tensors do not fit, first {first}. Another number of classes or of "
            "channels (MODEL.PIXEL_MEAN) does this. To start from what was learned, leave --resume "
            f"out and set MODEL.WEIGHTS {path} and another OUTPUT_DIR; what does not fit is then "
            "left out and named."
        )


def cfg_to_resume(cfg: CfgNode) -> CfgNode:
    """The config with which a run goes on: ``MODEL.WEIGHTS`` is its last checkpoint.

    The weights with which the run began, such as those that a backbone brings, are then not needed.

    Args:
        cfg: ``OUTPUT_DIR``; stays as it is.

    Returns:
        ``cfg`` itself where the run has no checkpoint, or a changed copy.
    """
    checkpointer = AtomicCheckpointer(nn.Module(), cfg.OUTPUT_DIR)
    if not checkpointer.has_checkpoint():
        return cfg
    resumed = cfg.clone()
    resumed.defrost()
    resumed.MODEL.WEIGHTS = checkpointer.get_checkpoint_file()
    return resumed


def load_weights(model: nn.Module, path: str) -> None:
    """Load all weights of ``model`` for inference.

    Args:
        model: built from the config that the weights were trained with.
        path: a checkpoint, or a name such as ``detectron2://...``.

    Raises:
        UserError: no path, an unreadable file, or tensors that are absent or of another shape.
    """
    if not path:
        raise UserError(
            "No weights are given, and an untrained model predicts noise. Add MODEL.WEIGHTS FILE, "
            "for example the model_final.pth of a training's OUTPUT_DIR."
        )
    checkpointer = AtomicCheckpointer(model)
    checkpointer.load(path)
    if checkpointer.misfits:
        raise UserError(
            f"The weights {path} do not fit the config: {len(checkpointer.misfits)} tensors are "
            f"absent or of another shape, first {checkpointer.misfits[0]}. Use the config.yaml of "
            "the run that made them; another number of classes or of channels (MODEL.PIXEL_MEAN) "
            "gives this too."
        )
