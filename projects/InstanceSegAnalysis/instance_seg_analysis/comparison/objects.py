"""What objects are like: size, crowding, occlusion; and what was found by that.

Shape shorthand in this module:
    H, W: image   G: objects
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np

# Objects closer than this touch: annotators often leave a seam of background between two objects.
TOUCHING_PIXELS = 2
SIZE_BINS = 5


class Edges(NamedTuple):
    """edges: n ascending, a value on an edge belongs to the bin above it; names: of n + 1 bins."""

    edges: Sequence[float]
    names: Sequence[str]


CROWDING = Edges((1, 2, 4), ("0", "1", "2 or 3", "4 or more"))
OCCLUSION = Edges((1e-9, 0.1, 0.3), ("none", "below 10 %", "10 to 30 %", "30 % or more"))


class ObjectFacts(NamedTuple):
    """Of G objects, ids ascending. area: (G,) int64 in pixels; crowding: (G,) int64, how many other
    objects are within ``TOUCHING_PIXELS``; occlusion: (G,) float64, the share of the object's
    outline that has a pixel of another object among its eight neighbours."""

    area: np.ndarray
    crowding: np.ndarray
    occlusion: np.ndarray


class Bin(NamedTuple):
    """name: for an axis; objects: how many there are; found: how many of them each model found;
    AP: each model's mask AP of these objects (COCO) in percent, None where there is none."""

    name: str
    objects: int
    found: dict[str, int]
    AP: dict[str, Optional[float]]


def describe_objects(labels: np.ndarray) -> ObjectFacts:
    """Size, crowding and occlusion of each object.

    Args:
        labels (ndarray): (H, W) int, 0 is background.
    """
    ids = np.unique(labels[labels > 0])
    slices = _bounding_slices(labels, ids, TOUCHING_PIXELS)
    rows = [_describe_object(labels[s], i) for i, s in zip(ids, slices)]
    areas, crowding, occlusion = zip(*rows) if rows else ((), (), ())
    return ObjectFacts(
        np.array(areas, np.int64), np.array(crowding, np.int64), np.array(occlusion, float)
    )


def _bounding_slices(
    labels: np.ndarray, ids: np.ndarray, margin: int
) -> "Iterator[tuple[slice, ...]]":
    from scipy import ndimage

    boxes = ndimage.find_objects(labels.astype(np.int64))
    for i in ids:
        yield tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in boxes[i - 1])


def _describe_object(crop: np.ndarray, label: int) -> "tuple[int, int, float]":
    """Area, number of neighbours and share of the outline next to them, of one id in its crop."""
    from scipy import ndimage

    mask = crop == label
    others = (crop > 0) & ~mask
    square = np.ones((3, 3), dtype=bool)
    reach = ndimage.binary_dilation(mask, square, iterations=TOUCHING_PIXELS)
    neighbours = len(np.unique(crop[reach & others]))
    # Beyond the rim of the image there is nothing: no pixel there ends the object.
    outline = mask & ~ndimage.binary_erosion(mask, square, border_value=1)
    shared = outline & ndimage.binary_dilation(others, square)
    return int(mask.sum()), neighbours, float(shared.sum() / max(outline.sum(), 1))


def size_bins(areas: np.ndarray) -> Edges:
    """``SIZE_BINS`` bins, or fewer, of about as many of the objects each, by their areas (G,)."""
    edges = size_edges(areas)
    return Edges(edges, size_names(edges))


def size_edges(areas: np.ndarray) -> np.ndarray:
    """Edges between ``SIZE_BINS`` bins of about as many objects each: (n,) ascending, distinct."""
    if len(areas) == 0:
        return np.zeros(0)
    quantiles = np.quantile(areas, np.linspace(0, 1, SIZE_BINS + 1)[1:-1])
    edges = np.unique(np.round(quantiles))
    return edges[edges > np.min(areas)]


def size_names(edges: np.ndarray) -> "tuple[str, ...]":
    """Texts of the bins between edges, in pixels."""
    if len(edges) == 0:
        return ("all",)
    middle = [f"{a:g} to {b - 1:g}" for a, b in zip(edges[:-1], edges[1:])]
    return (f"below {edges[0]:g}", *middle, f"{edges[-1]:g} or more")


def bins_of(
    values: np.ndarray,
    bounds: Edges,
    *,
    found: Mapping[str, np.ndarray],
    precisions: "Mapping[str, Sequence[Optional[float]]]",
) -> "list[Bin]":
    """Objects by the bin of a value.

    Args:
        values (ndarray): (G,) numbers.
        bounds (Edges): of n + 1 bins.
        found (dict[str, ndarray]): by the name of the model, (G,) bool.
        precisions (dict[str, list]): by the name of the model, AP of each bin, n + 1.

    Returns:
        list[Bin]: n + 1; bins without objects are among them.
    """
    index = np.searchsorted(np.asarray(bounds.edges), values, side="right")
    return [
        Bin(
            name,
            int((index == n).sum()),
            {model: int(f[index == n].sum()) for model, f in found.items()},
            {model: of_bins[n] for model, of_bins in precisions.items()},
        )
        for n, name in enumerate(bounds.names)
    ]
