"""What a package announces of its method, so that analysis can look inside it.

An entry point of the group ``instance_seg.analysis``: its name is the meta-architecture, its value
a :class:`MethodAnalysis`. A method without one is compared by what it predicts alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from torch import Tensor, nn

from instance_seg_common.config import announced
from instance_seg_common.errors import UserError

ANALYSIS = "instance_seg.analysis"
Internals = dict[str, Tensor]


@dataclass(frozen=True)
class MethodAnalysis:
    """How analysis looks inside a method; every part may be left out.

    Attributes:
        draw_internals: from the image (H, W, 3) uint8 RGB, the internals of that image, the data
            set dict (None for plain files) and a name for the header to a picture (H', W', 3) uint8
            RGB.
        compute_internals: from the model and a list of inputs to the internals of each image; None:
            the model's own method ``internals``.
        shows: what the picture of the internals shows, for readers who cannot see it.
        network_parts: functions of the model, such as "backbone.forward", in which its network
            runs, up to the last map; one that is called within another counts once. None: the
            seconds of network and post-processing cannot be told apart.
        adapter: the class that tries settings on what the network gave, of ``limits.adapters``.
        semantic_output: the internals have ``semantic`` (h, w) int64 and ``foreground`` (h, w),
            and ``model.num_classes`` stands for background.
    """

    draw_internals: Optional[Callable[[np.ndarray, Internals, Optional[dict], str], np.ndarray]] = (
        None
    )
    compute_internals: Optional[Callable[[nn.Module, Sequence[Mapping]], list[Internals]]] = None
    shows: str = "what its internals hold"
    network_parts: Optional[tuple[str, ...]] = None
    adapter: Optional[type[Any]] = None
    semantic_output: bool = False


def analysis_of(architecture: str) -> MethodAnalysis:
    """What is announced of a method.

    Args:
        architecture (str): MODEL.META_ARCHITECTURE.

    Returns:
        MethodAnalysis: an empty one where nothing is.
    """
    return announced(ANALYSIS).get(architecture, MethodAnalysis())


def check_drawable(architecture: str) -> None:
    """Raise a UserError if nothing draws the internals of this MODEL.META_ARCHITECTURE."""
    known = sorted(name for name, entry in announced(ANALYSIS).items() if entry.draw_internals)
    if architecture not in known:
        raise UserError(
            f"--internals cannot draw {architecture}; it can draw {', '.join(known)}. Leave it out."
        )


def compute_internals(
    architecture: str, model: nn.Module, batched_inputs: Sequence[Mapping]
) -> "list[Internals]":
    """The internals of each image: the model's own, or what its analysis computes.

    Args:
        architecture (str): MODEL.META_ARCHITECTURE.
        model (nn.Module): in evaluation mode.
        batched_inputs (list[dict]): what it takes.

    Returns:
        list[dict[str, Tensor]]: one an image.
    """
    compute = analysis_of(architecture).compute_internals
    return compute(model, batched_inputs) if compute else model.internals(batched_inputs)


def internals_panel(
    architecture: str,
    image: np.ndarray,
    internals: Internals,
    *,
    dataset_dict: "dict | None" = None,
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
    return draw(image, internals, dataset_dict, name)
