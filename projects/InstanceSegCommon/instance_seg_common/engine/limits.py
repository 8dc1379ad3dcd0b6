"""Which limits of a model cut something off, and in how many images: nothing is cut in silence."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..meta_arch import note_limit, noted_limits
from ..tiling.tiled_model import with_tiles

logger = logging.getLogger(__name__)

# The parts of Detectron2's proposal-based models, which are not ours to change.
_ANCHORS, _PROPOSALS, _DETECTIONS = "anchor_generator", "proposal_generator", "roi_heads"


class ReachedLimit(NamedTuple):
    """key: of the config, or where there is none in words; value: of it; images: that reached it,
    of ``of``."""

    key: str
    value: int
    images: int
    of: int

    @property
    def sentence(self) -> str:
        """For the log, a summary, or a page."""
        return (
            f"{self.key} is {self.value}, which {self.images} of {self.of} images reached: what "
            "lies beyond it is left out; raise it if objects are missing."
        )


class LimitCounter:
    """Counts the images in which a limit was reached, of one model; a context manager.

    Models tell by ``meta_arch.note_limit``; of Detectron2's own models the parts are watched.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        """
        Args:
            cfg: of the model.
            model: within the context, some of its parts have forward hooks.
        """
        self.cfg, self.model = cfg, model
        self._images = 0
        self._reached: Counter[tuple[str, int]] = Counter()
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> "LimitCounter":
        for name, module in self.model.named_modules():
            note = _NOTES.get(name.rsplit(".", 1)[-1])
            if note is not None:
                self._hooks.append(module.register_forward_hook(_Watch(note, self.cfg)))
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @contextmanager
    def image(self) -> "Iterator[None]":
        """Around whatever the model does with one image."""
        with noted_limits() as noted:
            yield
        self._images += 1
        self._reached.update(noted)

    def counted(self) -> "CountedModel":
        """The model, every call of which is one image, however many tiles that has."""
        return CountedModel(with_tiles(self.cfg, self.model), self)

    def reached(self) -> "list[ReachedLimit]":
        """The limits that were reached, in all processes, the most frequent first."""
        parts = comm.all_gather((self._images, self._reached))
        images = sum(part for part, _ in parts)
        total = sum((counts for _, counts in parts), Counter())
        return [
            ReachedLimit(key, value, count, images) for (key, value), count in total.most_common()
        ]


class _Watch:
    """A forward hook that notes limits from a part's output."""

    def __init__(self, note: "Callable[[CfgNode, Any], None]", cfg: CfgNode) -> None:
        self.note, self.cfg = note, cfg

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not module.training:
            self.note(self.cfg, output)


def _note_anchors(cfg: CfgNode, anchors: Any) -> None:
    limit = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST
    if any(len(level) > limit for level in anchors):
        note_limit("MODEL.RPN.PRE_NMS_TOPK_TEST", limit)


def _note_proposals(cfg: CfgNode, output: Any) -> None:
    limit = cfg.MODEL.RPN.POST_NMS_TOPK_TEST
    if any(len(proposals) >= limit for proposals in output[0]):
        note_limit("MODEL.RPN.POST_NMS_TOPK_TEST", limit)


def _note_detections(cfg: CfgNode, output: Any) -> None:
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if any(0 <= limit <= len(instances) for instances in output[0]):
        note_limit("TEST.DETECTIONS_PER_IMAGE", limit)


_NOTES = {_ANCHORS: _note_anchors, _PROPOSALS: _note_proposals, _DETECTIONS: _note_detections}


class CountedModel(nn.Module):
    """A model whose every call is counted as one image.

    Args:
        model: in evaluation mode; its parameters and buffers are shared.
        counter: of the model.
    """

    def __init__(self, model: nn.Module, counter: LimitCounter) -> None:
        super().__init__()
        self.model, self.counter = model, counter
        self.training = model.training
        self.takes_any_size = getattr(model, "takes_any_size", False)

    def forward(self, batched_inputs: "list[Mapping[str, Any]]") -> Any:
        """Detectron2's contract: see ``GeneralizedRCNN``."""
        with self.counter.image():
            return self.model(batched_inputs)


def evaluate_and_count(
    test: "Callable[[CfgNode, nn.Module], dict[str, Any]]", cfg: CfgNode, model: nn.Module
) -> "tuple[dict[str, Any], list[ReachedLimit]]":
    """Evaluate a model, and say in the log which of its limits were reached.

    Args:
        test: of a trainer.
        cfg: ``DATASETS.TEST``, evaluators.
        model: with its weights.

    Returns:
        Nested results, {} on other ranks; the limits.
    """
    with LimitCounter(cfg, model) as counter:
        results = test(cfg, counter.counted())
    reached = counter.reached()
    for limit in reached:
        logger.info(limit.sentence)
    return results, reached
