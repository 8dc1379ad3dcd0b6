"""How far RoIAlign and RoIPool read beside a box.

Shape shorthand in this module:
    S: positions of a box   n: bins along one side of the pooled grid
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from instance_seg_common.visualization.figures import new_figure

# Type of the pooler, what it is called, its colour.
POOLERS = (
    ("ROIPool", "RoIPool", "tab:orange"),
    ("ROIAlign", "RoIAlign without half-pixel correction", "tab:gray"),
    ("ROIAlignV2", "RoIAlign", "tab:green"),
)


class Offsets(NamedTuple):
    """In image pixels. mean: the constant part, which a network can learn to undo; std: the part
    that changes with the position of the box, which it cannot."""

    mean: float
    std: float


def pooling_offsets(
    pooler_type: str,
    shifts: Union[np.ndarray, Sequence[float]],
    *,
    box_size: float = 100.0,
    stride: int = 16,
    output_size: int = 7,
) -> np.ndarray:
    """How far beside its place each bin of a pooled box is read.

    A feature map that holds its own x coordinate is pooled, and its negative: half the difference
    is the centre of what a bin reads, for the mean of RoIAlign and the maximum of RoIPool alike.

    Args:
        pooler_type (str): MODEL.ROI_*_HEAD.POOLER_TYPE: ROIAlignV2, ROIAlign or ROIPool.
        shifts (sequence[float]): S positions of the box's left edge, in strides.
        box_size (float): side of the square box in image pixels.
        stride (int): image pixels per cell of the feature map.
        output_size (int): n.

    Returns:
        ndarray: (S, n) float64, read minus true centre of each bin in image pixels, along x.
    """
    shifts = np.asarray(shifts, dtype=np.float64)
    margin = 2 * stride
    left = margin + shifts * stride
    cells = int(np.ceil((left.max() + box_size + margin) / stride)) + 1
    # Cell i covers the pixels from i * stride to (i + 1) * stride: its centre is half a cell on.
    ramp = ((torch.arange(cells) + 0.5) * stride).expand(cells, cells)
    features = torch.stack([ramp, -ramp])[None]
    boxes = torch.tensor([[x, margin, x + box_size, margin + box_size] for x in left.tolist()])
    pooler = ROIPooler(output_size, [1 / stride], sampling_ratio=0, pooler_type=pooler_type)
    pooled = pooler([features], [Boxes(boxes)]).double()
    read = ((pooled[:, 0] - pooled[:, 1]) / 2).mean(dim=1).numpy()
    true = left[:, None] + (np.arange(output_size) + 0.5) * box_size / output_size
    return read - true


def offsets_figure(
    path: Path, *, stride: int = 16, box_size: float = 100.0
) -> "dict[str, Offsets]":
    """Draw the offsets of a box that moves over two cells, and write a PNG.

    Args:
        path (Path): the file.
        stride, box_size: of :func:`pooling_offsets`.

    Returns:
        dict[str, Offsets]: by the type of the pooler.
    """
    shifts = np.linspace(0, 2, 129)
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    result = {}
    for name, label, color in POOLERS:
        offsets = pooling_offsets(name, shifts, box_size=box_size, stride=stride)
        result[name] = Offsets(float(offsets.mean()), float(offsets.std()))
        axes.fill_between(shifts, offsets.min(axis=1), offsets.max(axis=1), color=color, alpha=0.2)
        text = f"{label}: {offsets.mean():.1f} +- {offsets.std():.1f} pixels"
        axes.plot(shifts, offsets.mean(axis=1), color=color, label=text)
    axes.set_xlabel(f"position of the box, in strides of {stride} pixels")
    axes.set_ylabel("read beside the bin by (image pixels)")
    axes.set_title(f"Box of {box_size:g} pixels: mean over its 7 x 7 bins, and their range")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=110)
    return result
