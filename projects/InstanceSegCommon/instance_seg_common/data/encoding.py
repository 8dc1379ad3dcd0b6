"""Label maps as run-length encoded instances.

Shapes: H, W height and width in pixels; a label map is (H, W) integers, 0 = background.

Encodings are computed from the runs of the label map, never from a dense mask of each instance.
"""

from typing import Optional, TypedDict, cast

import numpy as np
import pycocotools.mask as mask_util


class _Encoded(TypedDict):
    id: int
    bbox: list[float]
    area: int
    counts: str


class EncodedInstance(_Encoded, total=False):
    """One instance of a label map, as the cache of annotations keeps it.

    ``id``; ``bbox`` [x, y, width, height] and ``area`` in pixels; ``counts``, COCO's compressed
    encoding of the full image; where the set has class images ``classes``: [class id, number of
    pixels] each, most pixels first.
    """

    classes: list[list[int]]


def encode_label_map(
    labels: np.ndarray, classes: Optional[np.ndarray] = None
) -> "list[EncodedInstance]":
    """Run-length encodings of all instances of a label map.

    Args:
        labels: (H, W) integers, 0 = background.
        classes: (H, W) integers, the class-id image.

    Returns:
        By rising id; with ``classes`` only if these are given.
    """
    height, width = labels.shape
    column_major = labels.T.ravel()  # the order of COCO's run lengths
    ids, starts, ends = _runs_by_id(column_major)
    records: list[EncodedInstance] = []
    for instance_id, begin, end in zip(ids, starts, ends):
        bounds = np.stack([begin, end], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=column_major.size)
        counts = counts[:-1] if counts[-1] == 0 else counts
        rle = mask_util.frPyObjects(
            {"counts": counts.tolist(), "size": [height, width]}, height, width
        )
        records.append(
            {
                "id": int(instance_id),
                "bbox": mask_util.toBbox(rle).tolist(),
                "area": int((end - begin).sum()),
                "counts": cast(bytes, rle["counts"]).decode("ascii"),
            }
        )
    if classes is not None:
        for record, votes in zip(records, _class_votes(ids, labels, classes)):
            record["classes"] = votes
    return records


def _runs_by_id(
    values: np.ndarray,
) -> "tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]":
    """Runs of equal values other than 0: ids (N,), and of each the starts and ends of its runs."""
    if values.size == 0:
        return np.empty(0, int), [], []
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [values.size]])
    run_values = values[starts]
    keep = np.flatnonzero(run_values)
    order = keep[np.argsort(run_values[keep], kind="stable")]
    ids, first = np.unique(run_values[order], return_index=True)
    return ids, np.split(starts[order], first[1:]), np.split(ends[order], first[1:])


def _class_votes(
    ids: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> "list[list[list[int]]]":
    """Of each id the classes of its pixels: [[class id, number of pixels], ...], most first."""
    inside = labels > 0
    index = np.searchsorted(ids, labels[inside])
    # One number for a pair: np.unique of pairs takes twenty times as long.
    span = int(classes.max(initial=0)) + 1
    pairs, counts = np.unique(index * span + classes[inside], return_counts=True)
    votes: list[list[list[int]]] = [[] for _ in ids]
    for pair, count in zip(pairs.tolist(), counts.tolist()):
        votes[pair // span].append([pair % span, count])
    return [sorted(of_id, key=lambda vote: (-vote[1], vote[0])) for of_id in votes]
