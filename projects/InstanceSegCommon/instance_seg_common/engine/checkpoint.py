"""Checkpoints that a kill cannot truncate, and weights whose misfit is said in a sentence."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import UserError

logger = logging.getLogger(__name__)
PARTIAL = ".partial"


class AtomicCheckpointer(DetectionCheckpointer):
    """Writes under a temporary name and renames; reports what did not fit in sentences.

    Args: those of ``DetectionCheckpointer``.

    Attributes:
        misfits: what the last file did not have or had in another shape, a sentence each.
    """

    misfits: tuple[str, ...] = ()

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
        """Count what was loaded and say what was not, instead of a list of keys."""
        shapes = [
            f"{key}: {tuple(in_file)} in the file, {tuple(in_model)} in the model"
            for key, in_file, in_model in incompatible.incorrect_shapes
        ]
        self.misfits = tuple(shapes) + tuple(
            f"{key}: absent from the file"
            for key in incompatible.missing_keys
            if key not in {k for k, _, _ in incompatible.incorrect_shapes}
        )
        total, misfits = len(self.model.state_dict()), len(self.misfits)
        logger.info(
            f"Weights: {total - misfits} of {total} tensors loaded, {misfits} keep their initial "
            f"value, {len(incompatible.unexpected_keys)} in the file unused."
        )
        for misfit in self.misfits[:10]:
            logger.warning("Not loaded: %s", misfit)


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
            "the run that made them; another number of classes gives this too."
        )
