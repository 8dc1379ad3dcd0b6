"""What a package announces of its method, so that analysis can look inside it.

An entry point of the group ``instance_seg.analysis``: its name is the meta-architecture, its value
a :class:`MethodAnalysis`. A method without one is compared by what it predicts alone.

Shape shorthand in this module:
    H, W: image   H', W': picture   h, w: network input without padding
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from detectron2.config import CfgNode
from torch import Tensor, nn

from instance_seg_analysis.limits.adapters import MethodAdapter
from instance_seg_common.config import announced
from instance_seg_common.errors import UserError

ANALYSIS = "instance_seg.analysis"
Inputs = Sequence[Mapping[str, Any]]
Internals = dict[str, Tensor]
# drawer(image, internals, dataset_dict, name=name)
Drawer = Callable[..., np.ndarray]


class Split(NamedTuple):
    """A model's call in two: run_network: from its inputs to what the last map is part of; finish:
    from the inputs and that to what the model returns, a list of dicts with ``instances``."""

    run_network: Callable[[Inputs], Any]
    finish: "Callable[[Inputs, Any], list[dict[str, Any]]]"


def _always(model: nn.Module) -> bool:
    return True


@dataclass(frozen=True)
class MethodAnalysis:
    """How analysis looks inside a method; every part may be left out.

    Attributes:
        draw_internals: from the image (H, W, 3) uint8 RGB, the internals of that image, the data
            set dict and the keyword ``name``, for the header, to a picture (H', W', 3) uint8 RGB.
            The dict has ``thing_classes``, names of classes; of a plain file no annotations.
        compute_internals: from the model and a list of inputs to the internals of each image; None:
            the model's own method ``internals``.
        shows: what the picture of the internals shows, for readers who cannot see it.
        fits: whether a model of the meta-architecture has the parts that ``network_modules``,
            ``split`` and ``adapter`` need; others are analysed by what they predict alone.
        network_modules: names of the model's parts (``nn.Module``) in which its network runs, up to
            the last map; one that runs within another counts once. An empty tuple: no network.
        split: from the model to its two halves, where the network is more than calls of modules;
            ``network_modules`` are not read then. With neither, the seconds of network and
            post-processing cannot be told apart.
        adapter: the class that tries settings on what the network gave.
        proposal_based: boxes are proposed, and duplicates among them removed by NMS with the
            threshold ``MODEL.ROI_HEADS.NMS_THRESH_TEST``.
        trained: it has weights; False for a classical baseline.
        semantic_output: the internals have ``semantic`` (h, w) int64 and ``foreground`` (h, w),
            and ``model.num_classes`` stands for background.
    """

    draw_internals: Optional[Drawer] = None
    compute_internals: "Optional[Callable[[nn.Module, Inputs], list[Internals]]]" = None
    shows: str = "what its internals hold"
    fits: Callable[[nn.Module], bool] = _always
    network_modules: Optional[tuple[str, ...]] = None
    split: Optional[Callable[[Any], Split]] = None
    adapter: type[MethodAdapter] = MethodAdapter
    proposal_based: bool = False
    trained: bool = True
    semantic_output: bool = False


def analysis_of(architecture: str) -> MethodAnalysis:
    """What is announced of a method.

    Args:
        architecture (str): MODEL.META_ARCHITECTURE.

    Returns:
        MethodAnalysis: an empty one where nothing is.
    """
    return announced(ANALYSIS).get(architecture, MethodAnalysis())


def adapt(cfg: CfgNode, model: nn.Module) -> MethodAdapter:
    """The adapter of a model, by which settings are tried after its network has run.

    Args:
        cfg (CfgNode): its META_ARCHITECTURE decides.
        model (nn.Module): in evaluation mode.
    """
    analysis = analysis_of(cfg.MODEL.META_ARCHITECTURE)
    kind = analysis.adapter if analysis.fits(model) else MethodAdapter
    return kind(cfg, model)


def check_drawable(architecture: str) -> None:
    """Raise a UserError if nothing draws the internals of this MODEL.META_ARCHITECTURE."""
    known = sorted(name for name, entry in announced(ANALYSIS).items() if entry.draw_internals)
    if architecture not in known:
        raise UserError(
            f"--internals cannot draw {architecture}; it can draw {', '.join(known)}. Leave it out."
        )


def compute_internals(
    architecture: str, model: nn.Module, batched_inputs: Inputs
) -> "list[Internals]":
    """The internals of each image: the model's own, or what its analysis computes.

    Args:
        architecture (str): MODEL.META_ARCHITECTURE.
        model (nn.Module): in evaluation mode.
        batched_inputs (list[dict]): what it takes.

    Returns:
        list[dict[str, Tensor]]: one an image.

    Raises:
        UserError: there are none.
    """
    compute = analysis_of(architecture).compute_internals
    if compute is not None:
        return compute(model, batched_inputs)
    if not hasattr(model, "internals"):
        raise UserError(
            f"{architecture} has no internals to draw. Give the model a method internals, or its "
            "MethodAnalysis a function compute_internals."
        )
    return model.internals(batched_inputs)


def internals_panel(
    architecture: str,
    image: np.ndarray,
    internals: Internals,
    *,
    dataset_dict: "Optional[dict[str, Any]]" = None,
    name: str = "",
) -> np.ndarray:
    """Draw the internals of one image.

    Args:
        architecture (str): MODEL.META_ARCHITECTURE.
        image (ndarray): (H, W, 3) uint8 RGB.
        internals (dict[str, Tensor]): of :func:`compute_internals`.
        dataset_dict (dict or None): with annotations, where there are any.
        name (str): for the header.

    Returns:
        ndarray: (H', W', 3) uint8 RGB.

    Raises:
        UserError: nothing draws this architecture.
    """
    check_drawable(architecture)
    draw = analysis_of(architecture).draw_internals
    assert draw is not None
    return draw(image, internals, dataset_dict, name=name)
