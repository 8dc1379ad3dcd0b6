"""From the embedding of every pixel to instances: pure functions on one image and class.

Shapes: P pixels, E embedding channels, K clusters. Labels are (P,) int64, 0..K-1, -1 = left over.
Everything runs on the device of its input and, where that is half precision, in float32.
"""

from typing import Any

import torch
from torch import Tensor

from instance_seg_common.errors import UserError
from instance_seg_common.meta_arch import note_limit

from .search import PixelSearch, in_turn
from .segments import at_least_float32, without_autocast

CANDIDATE_RADIUS = 1.75  # bandwidths around a point in which candidates are looked for
CANDIDATE_REACH = 0.75  # bandwidths that a mean may be away from that point: 0.75 + 1 <= 1.75


def _left_over(embeddings: Tensor) -> Tensor:
    """(P,) int64 of -1."""
    return torch.full((len(embeddings),), -1, device=embeddings.device)


def _finite(embeddings: Tensor) -> "tuple[Tensor, Tensor]":
    """Pixels whose squares are finite numbers: (n,) int64 which of all P, (n, E) their embeddings.

    The embeddings are moved so that their mean is 0: small numbers make small rounding errors.
    """
    points = at_least_float32(embeddings)
    index = points.square().sum(1).isfinite().nonzero().squeeze(1)
    points = points.index_select(0, index).contiguous()
    return index, points - points.mean(0)


@without_autocast
def mean_shift(
    embeddings: Tensor,
    *,
    bandwidth: float,
    min_size: int = 1,
    max_iterations: int = 100,
    max_failures: int = 300,
    seed: int = 0,
) -> Tensor:
    """One cluster after another: the pixels around a random one, around their mean, and so on.

    Repeats until every pixel is in a cluster: draw a random pixel without one; take all pixels
    without one that are at most ``bandwidth`` away; go to their mean and take again, until the
    set stays the same; that set is a cluster.

    Args:
        embeddings (Tensor): (P, E) float.
        bandwidth (float): > 0, L2 distance in units of the embedding.
        min_size (int): smaller clusters are left over.
        max_iterations (int): the set after that many shifts is taken as it is.
        max_failures (int): after this many clusters in a row that are too small, what remains is
            left over: scattered pixels would take a pass each.
        seed (int): of the order in which pixels are drawn; the global random state is not used.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over; pixels whose
        embedding is not finite are left over.

    Source: De Brabandere et al. 2017 (arXiv 1708.02551), clustering at test time.
    Deviates: gives up after ``max_failures``; the paper goes on until no pixel is left.
    """
    index, points = _finite(embeddings)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    search = PixelSearch(points)
    labels = torch.full_like(index, -1)
    waiting = torch.ones_like(index, dtype=torch.bool)
    failures = 0
    for number, start in enumerate(in_turn(order.to(index.device), waiting)):
        if search.count < min_size:
            break
        if failures == max_failures:
            note_limit("The number of clusters in a row that are too small (mean_shift)", failures)
            break
        positions = _shift(search, points[start], bandwidth, max_iterations=max_iterations)
        members = search.index[positions]
        labels[members], waiting[members] = number, False
        search.remove(positions)
        failures = failures + 1 if len(members) < min_size else 0
    result = _left_over(embeddings)
    result[index] = _by_size(labels, min_size)
    return result


def _shift(search: PixelSearch, point: Tensor, bandwidth: float, *, max_iterations: int) -> Tensor:
    """Positions (m,) of the cluster that the shifts from a point end in.

    Only the candidates around a point can be within the bandwidth of a mean that is near it: the
    shifts run on these, in coordinates around the point, until the mean is too far from it.
    """
    near, offsets, squares = search.around(point, CANDIDATE_RADIUS * bandwidth)
    inside = squares <= bandwidth**2
    for _ in range(max_iterations):
        weights = inside.to(offsets.dtype)
        mean = (weights @ offsets) / weights.sum()
        away = float(mean.dot(mean))
        if away > (CANDIDATE_REACH * bandwidth) ** 2:
            point = point + mean
            near, offsets, squares = search.around(point, CANDIDATE_RADIUS * bandwidth)
            inside = squares <= bandwidth**2
            continue
        before, inside = inside, torch.addmv(squares, offsets, mean, alpha=-2)
        inside = inside <= bandwidth**2 - away
        if torch.equal(inside, before):
            break
    members = near[inside]
    # All of them may lie on the rim, where rounding can put them outside.
    return members if len(members) else near[squares.argmin()][None]


def _by_size(labels: Tensor, min_size: int) -> Tensor:
    """Labels renamed in the order of falling size (then of the label); small clusters are -1."""
    sizes = torch.bincount(labels[labels >= 0])
    order = sizes.argsort(descending=True, stable=True)
    order = order[sizes[order] >= max(min_size, 1)]
    renamed = labels.new_full((len(sizes) + 1,), -1)  # the last entry is label -1
    renamed[order] = torch.arange(len(order), device=labels.device)
    return renamed[labels]


def hdbscan(embeddings: Tensor, *, min_size: int = 1) -> Tensor:
    """HDBSCAN of scikit-learn: clusters of any density and no bandwidth.

    Args:
        embeddings (Tensor): (P, E) float.
        min_size (int): of the smallest cluster; at least 2 is used.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over.

    Raises:
        UserError: scikit-learn is not installed.

    Deviates: HDBSCAN finds two clusters or none; where it finds none, all pixels are one.
    """
    min_size = max(min_size, 2)
    settings = {"min_cluster_size": min_size, "copy": True}
    labels = scikit_learn_clusters("HDBSCAN", embeddings, min_size=min_size, **settings)
    alone = len(embeddings) >= min_size and bool((labels < 0).all())
    return torch.zeros_like(labels) if alone else labels


def scikit_learn_clusters(
    name: str, embeddings: Tensor, *, min_size: int, **settings: Any
) -> Tensor:
    """The clusters of an estimator of ``sklearn.cluster``.

    Args:
        name (str): of the estimator.
        embeddings (Tensor): (P, E) float; fewer than ``min_size`` are left over without it.
        min_size (int): at least 1; smaller clusters are left over.
        **settings: of the estimator.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over; pixels whose
        embedding is not finite are left over.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        import sklearn.cluster
    except ImportError as error:
        raise UserError(
            f"Clustering with {name} needs scikit-learn, which is not installed: "
            "run `pip install scikit-learn`, or choose another clustering."
        ) from error
    result = _left_over(embeddings)
    if len(embeddings) < min_size:
        return result
    estimator = getattr(sklearn.cluster, name)(**settings)
    index, points = _finite(embeddings.detach())
    result[index] = torch.from_numpy(estimator.fit_predict(points.cpu().numpy())).to(index)
    return _by_size(result, min_size)
