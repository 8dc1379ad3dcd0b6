"""From the embedding of every pixel to instances: pure functions on one image and class.

Shapes: P pixels, E embedding channels, K clusters. Labels are (P,) int64, 0..K-1, -1 = left over.
Everything runs on the device of its input and, where that is half precision, in float32.
"""

import functools
import math

import torch

from instance_seg_common.errors import UserError

from .segments import at_least_float32, segment_mean

CANDIDATE_RADIUS = 1.75  # bandwidths around a point in which candidates are looked for
CANDIDATE_REACH = 0.75  # bandwidths that a mean may be away from that point: 0.75 + 1 <= 1.75
SEARCH_STEP = 256  # pixels looked at in one step for the next one without a cluster
HALF_WIDTH = math.sqrt(2 * math.log(2))  # sigmas at which a Gaussian is one half
BLOCK_NUMBERS = 2**19  # distances held at a time: 2 MiB in float32, which caches hold


def _without_autocast(function):
    """The function without gradients, in the precision of its own choice."""

    @functools.wraps(function)
    def wrapped(embeddings, *args, **kwargs):
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return function(embeddings, *args, **kwargs)

    return wrapped


def _left_over(embeddings):
    """(P,) int64 of -1."""
    return torch.full((len(embeddings),), -1, device=embeddings.device)


def _finite(embeddings):
    """Pixels whose squares are finite numbers: (n,) int64 which of all P, (n, E) their embeddings.

    The embeddings are moved so that their mean is 0: small numbers make small rounding errors.
    """
    points = at_least_float32(embeddings)
    index = points.square().sum(1).isfinite().nonzero().squeeze(1)
    points = points.index_select(0, index).contiguous()
    return index, points - points.mean(0)


def _in_turn(order, waiting):
    """The first of the pixels that is still waiting, again and again until none is.

    Args:
        order (Tensor): (n,) int64 pixels.
        waiting (Tensor): (P,) bool; the caller changes it from one to the next.

    Yields:
        int: a pixel.
    """
    for block in order.split(SEARCH_STEP):
        found = waiting[block].nonzero()
        while len(found):
            yield int(block[found[0]])
            found = waiting[block].nonzero()


@_without_autocast
def mean_shift(embeddings, *, bandwidth, min_size=1, max_iterations=100, max_failures=300, seed=0):
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
    search = _Search(points)
    labels = torch.full_like(index, -1)
    waiting = torch.ones_like(index, dtype=torch.bool)
    failures = 0
    for found, start in enumerate(_in_turn(order.to(index.device), waiting)):
        if search.count < min_size or failures == max_failures:
            break
        positions = _shift(search, points[start], bandwidth, max_iterations)
        members = search.index[positions]
        labels[members], waiting[members] = found, False
        search.remove(positions)
        failures = failures + 1 if len(members) < min_size else 0
    result = _left_over(embeddings)
    result[index] = _by_size(labels, min_size)
    return result


def _shift(search, point, bandwidth, max_iterations):
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


class _Search:
    """The pixels around a point, among those that are not removed.

    Attributes:
        index (Tensor): (n,) int64, the number of each pixel among those that it began with.
        points (Tensor): (n, E) float; positions are those in here.
        count (int): how many are not removed.
    """

    def __init__(self, points):
        self.index = torch.arange(len(points), device=points.device)
        self.points = points
        self.count = len(points)
        self._squares = points.square().sum(1)  # inf: removed, farther away than anything
        # Bound on the rounding error of |x|^2 - 2 x.c + |c|^2; too many candidates do no harm.
        largest = float(self._squares.max()) if self.count else 0.0
        self._slack = 8 * (points.shape[1] + 2) * torch.finfo(points.dtype).eps * largest

    def around(self, point, radius):
        """One matrix-vector product over all pixels.

        Returns:
            tuple[Tensor, Tensor, Tensor]: (m,) int64 positions of all pixels within the radius
            and a few more; (m, E) from the point to them; (m,) its square, without cancellation.
        """
        limit = radius**2 + self._slack - point.dot(point)
        squares = torch.addmv(self._squares, self.points, point, alpha=-2)
        near = (squares <= limit).nonzero().squeeze(1)
        offsets = self.points.index_select(0, near) - point
        return near, offsets, offsets.square().sum(1)

    def remove(self, positions):
        """These are not found any more; once that holds for half of all, they are dropped."""
        self._squares[positions] = math.inf
        self.count -= len(positions)
        if 2 * self.count < len(self.index):
            kept = (self._squares != math.inf).nonzero().squeeze(1)
            self.index, self._squares = self.index[kept], self._squares[kept]
            self.points = self.points.index_select(0, kept)


def _by_size(labels, min_size):
    """Labels renamed in the order of falling size (then of the label); small clusters are -1."""
    sizes = torch.bincount(labels[labels >= 0])
    order = sizes.argsort(descending=True, stable=True)
    order = order[sizes[order] >= max(min_size, 1)]
    renamed = labels.new_full((len(sizes) + 1,), -1)  # the last entry is label -1
    renamed[order] = torch.arange(len(order), device=labels.device)
    return renamed[labels]


def sklearn_mean_shift(embeddings, *, bandwidth, min_size=1):
    """Mean shift of scikit-learn with binned seeds: every pixel goes to its nearest mode.

    Args:
        embeddings (Tensor): (P, E) float.
        bandwidth (float): > 0, in units of the embedding.
        min_size (int): smaller clusters are left over.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling size, -1 = left over.

    Raises:
        UserError: scikit-learn is not installed.
    """
    estimator = _from_sklearn("MeanShift")(bandwidth=bandwidth, bin_seeding=True)
    return _fit(estimator, embeddings, min_size) if len(embeddings) else _left_over(embeddings)


def hdbscan(embeddings, *, min_size=1):
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
    estimator = _from_sklearn("HDBSCAN")(min_cluster_size=min_size, copy=True)
    if len(embeddings) < min_size:
        return _left_over(embeddings)
    labels = _fit(estimator, embeddings, min_size)
    return labels if (labels >= 0).any() else torch.zeros_like(labels)


def _from_sklearn(name):
    try:
        import sklearn.cluster
    except ImportError as error:
        raise UserError(
            f"Clustering with {name} needs scikit-learn, which is not installed: "
            "run `pip install scikit-learn`, or choose another clustering."
        ) from error
    return getattr(sklearn.cluster, name)


def _fit(estimator, embeddings, min_size):
    index, points = _finite(embeddings.detach())
    result = _left_over(embeddings)
    labels = torch.from_numpy(estimator.fit_predict(points.cpu().numpy()))
    result[index] = labels.to(index)
    return _by_size(result, min_size)


@_without_autocast
def seeded(embeddings, seeds, bandwidths, *, seed_threshold=0.5, min_size=1, max_failures=300):
    """Clusters around the pixels that look most like a centre, as wide as these say.

    Repeats: of the pixels without a cluster, the one with the highest seed value is a centre and
    its bandwidth is sigma; the pixels without a cluster for which exp(-d^2 / (2 sigma^2)) > 0.5
    are its cluster. A centre is passed over if more than half of all pixels for which that holds
    have a cluster already.

    Args:
        embeddings (Tensor): (P, E) float.
        seeds (Tensor): (P,) float in [0, 1].
        bandwidths (Tensor): (P,) float > 0, in units of the embedding.
        seed_threshold (float): pixels with a lower seed value are no centres.
        min_size (int): smaller clusters are left over.
        max_failures (int): after this many centres in a row without a cluster, what remains is
            left over.

    Returns:
        Tensor: (P,) int64, 0..K-1 in the order of falling seed values, -1 = left over.

    Source: Neven et al. 2019 (arXiv 1906.11109), Eq. 5 and the clustering at test time.
    """
    index, points = _finite(embeddings)
    seeds, radii = seeds[index], HALF_WIDTH * bandwidths[index].to(points)
    centers = seeds.argsort(descending=True, stable=True)[: int((seeds >= seed_threshold).sum())]
    line = _Line(points)
    labels = torch.full_like(index, -1)
    free = torch.ones_like(index, dtype=torch.bool)
    waiting = free.clone()  # to be a centre
    found = failures = 0
    for center in _in_turn(centers, waiting):
        if failures == max_failures:
            break
        waiting[center] = False
        failures += 1
        inside = line.around(points[center], radii[center])
        members = inside[free[inside]]
        if 2 * len(members) < len(inside):
            continue
        free[members] = waiting[members] = False
        if len(members) >= max(min_size, 1):
            labels[members] = found
            found += 1
            failures = 0
    result = _left_over(embeddings)
    result[index] = labels
    return result


class _Line:
    """Pixels sorted along the channel that varies most: what is near a point is in one slice."""

    def __init__(self, points):
        self._channel = int(points.square().sum(0).argmax())
        self._coordinates, self._index = points[:, self._channel].sort()
        self._points = points.index_select(0, self._index)

    def around(self, point, radius):
        """(m,) int64: pixels that are less than the radius from the point."""
        reach = radius * point.new_tensor([-1.001, 1.001])  # more than rounding
        begin, end = torch.searchsorted(self._coordinates, point[self._channel] + reach).tolist()
        squares = (self._points[begin:end] - point).square().sum(1)
        return self._index[begin:end][squares < radius.square()]


@_without_autocast
def centers_of(embeddings, labels):
    """Mean embedding of every cluster.

    Args:
        embeddings (Tensor): (P, E) float.
        labels (Tensor): (P,) int64, 0..K-1, < 0 = left over.

    Returns:
        Tensor: (K, E) float; K is the largest label + 1.
    """
    members = (labels >= 0).nonzero().squeeze(1)
    owners = labels[members]
    count = int(owners.max()) + 1 if len(owners) else 0
    return segment_mean(at_least_float32(embeddings[members]), owners, count)


@_without_autocast
def assign(embeddings, centers, bandwidths, reach):
    """The nearest centre of every pixel, counted in bandwidths of that centre.

    Args:
        embeddings (Tensor): (P, E) float.
        centers (Tensor): (K, E) float.
        bandwidths (Tensor): (K,) float > 0, in units of the embedding.
        reach (float): pixels farther than this many bandwidths from every centre are left over;
            inf: none is, unless there is no centre.

    Returns:
        tuple[Tensor, Tensor]: (P,) int64 labels, 0..K-1, of equally near centres the first,
        -1 = left over; (P,) float distances in bandwidths of the nearest centre, inf for K = 0.
    """
    centers = centers.to(torch.promote_types(embeddings.dtype, torch.float32))
    bandwidths = bandwidths.to(centers)
    labels = _left_over(embeddings)
    distances = centers.new_full((len(embeddings),), math.inf)
    rows = max(BLOCK_NUMBERS // max(centers.shape), 1)
    for begin in range(0, len(embeddings) if len(centers) else 0, rows):
        block = slice(begin, begin + rows)
        points = embeddings[block].to(centers.dtype)
        labels[block] = nearest = _nearest(points, centers, bandwidths)
        distances[block] = (points - centers[nearest]).norm(dim=1) / bandwidths[nearest]
    labels[~(distances <= reach)] = -1
    return labels, distances


def _nearest(points, centers, bandwidths):
    """(n,) int64: the centre with the least distance over bandwidth."""
    middle = centers.mean(0)  # small numbers make small rounding errors
    points, centers = points - middle, centers - middle
    squares = torch.addmm(centers.square().sum(1), points, centers.T, alpha=-2)
    squares.add_(points.square().sum(1, keepdim=True)).mul_(bandwidths.pow(-2))
    return squares.argmin(1)
