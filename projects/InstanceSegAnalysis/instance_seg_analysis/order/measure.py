"""In which order a model that finds one object after the other finds them.

The protocol is that of Salvador et al. 2018 (RSIS), section 4.7: predicted sequences are compared
with simple orders by Kendall's tau, pairs of consecutive objects by their direction, and the
objects' activations in the encoder with the sequence. What the paper leaves open is decided thus:
tau is tau-b, which counts ties for neither side; random orders of the same objects are the
yardstick for every figure; an activation is the mean over a mask's area and all channels, as they
are (after the ReLU of a ResNet's blocks, signed elsewhere).

Shape shorthand in this module:
    N: objects of an image in the order of their steps   M: images   C: channels   K: classes
    h, w: grid of the masks   H', W': grid of the features
"""

from typing import NamedTuple

import numpy as np
from torch.nn import functional as F

# A positive tau says that the objects are found in this order, a negative one in its opposite.
ORDERS = {"r2l": "right to left", "b2t": "bottom to top", "l2s": "large to small"}
OPPOSITES = {"r2l": "left to right", "b2t": "top to bottom", "l2s": "small to large"}
# How the second object of a pair lies from the first.
DIRECTIONS = ("left", "right", "up", "down")
PAIR_EXTENT = 0.15  # share of the image's width or height from which on a pair has a direction
MIN_PAIRS = 20  # of two categories, for their percentages
DISCOVERIES = 3  # of which a map is drawn: first, second, third
# Of random orders 99 % lie within this many standard deviations: of some 20 figures of a table, one
# in five tables would have one outside by chance.
NULL_QUANTILE = 2.5758
RESAMPLES = 2000


class FoundObjects(NamedTuple):
    """One image. centers (N, 2) float64: x, y as shares of width and height; areas (N,) float64:
    shares of the image; classes (N,) int64, 0-based."""

    centers: np.ndarray
    areas: np.ndarray
    classes: np.ndarray


class TauSummary(NamedTuple):
    """Kendall's tau over images.

    images: M, with two or more objects that the key tells apart; mean: of tau over them; low, high:
    95 % bootstrap interval of the mean over images; null: half the width of the interval around 0
    in which the mean lies for 99 % of random orders; spread: mean square of tau over its variance
    in random orders, 1 if the orders are random, above it if images have orders of their own.
    """

    images: int
    mean: float
    low: float
    high: float
    null: float
    spread: float

    @property
    def is_pattern(self):
        """Whether random orders have a mean as far from 0 in less than 1 % of cases, and other
        images of the kind would have one on the same side."""
        return self.images > 0 and abs(self.mean) > self.null and self.low * self.high > 0


class Place(NamedTuple):
    """Where objects of one rank lie. objects: how many; mean: x and y as shares of width and
    height; expected: the same, if the same images' orders were random; null: half the widths of
    the intervals around it in which the mean lies for 99 % of random orders."""

    objects: int
    mean: tuple
    expected: tuple
    null: tuple


class PairShares(NamedTuple):
    """Consecutive pairs. first, second: 0-based classes, or None for all; pairs: how many;
    expected: how many random orders have on average; shares, expected_shares: by direction."""

    first: int
    second: int
    pairs: int
    expected: float
    shares: dict
    expected_shares: dict

    def null(self, direction):
        """Half the width of the 99 % interval of a share in random orders, pairs independent."""
        share = self.expected_shares[direction]
        return NULL_QUANTILE * np.sqrt(share * (1 - share) / self.pairs) if self.pairs else np.nan

    def excess(self, direction):
        """How many times :meth:`null` a share is above that of random orders; below it negative."""
        more, null = self.shares[direction] - self.expected_shares[direction], self.null(direction)
        return more / null if null > 0 else 0.0


def describe_masks(masks, classes):
    """Place and size of the objects.

    Args:
        masks (Tensor): (N, h, w) bool, none empty, in the order of the steps.
        classes (Tensor): (N,) int64.

    Returns:
        FoundObjects: a centre is the centre of mass, which may lie outside of its mask.
    """
    height, width = masks.shape[1:]
    rows, columns = (masks.sum(dim=dim).double().cpu().numpy() for dim in (2, 1))
    areas = rows.sum(axis=1)
    y = rows @ ((np.arange(height) + 0.5) / height) / areas
    x = columns @ ((np.arange(width) + 0.5) / width) / areas
    return FoundObjects(np.stack([x, y], axis=1), areas / (height * width), classes.cpu().numpy())


def covered_shares(masks, padded_size, grid):
    """Masks on a coarser grid.

    Args:
        masks (Tensor): (N, h, w) bool, on the network input without padding.
        padded_size (tuple[int, int]): of the network input; (h, w) or more.
        grid (tuple[int, int]): (H', W') of features of the padded network input.

    Returns:
        Tensor: (N, H', W') float, the share of each cell that a mask covers.
    """
    height, width = padded_size
    padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
    return F.adaptive_avg_pool2d(F.pad(masks.float(), padding)[:, None], grid)[:, 0]


def mask_activations(features, shares):
    """Mean activation of each object, over its area and all channels.

    Args:
        features (Tensor): (C, H', W') float.
        shares (Tensor): (N, H', W') float of :func:`covered_shares`, none all 0; with them as
            weights an object smaller than a cell has an activation, too.

    Returns:
        ndarray: (N,) float64.
    """
    means, shares = features.double().mean(dim=0).flatten(), shares.double().flatten(1)
    return (shares @ means / shares.sum(dim=1)).cpu().numpy()


def order_keys(found):
    """What each order sorts by, ascending.

    Args:
        found (FoundObjects)

    Returns:
        dict[str, ndarray]: (N,) float64 by the names of ORDERS.
    """
    return {"r2l": -found.centers[:, 0], "b2t": -found.centers[:, 1], "l2s": -found.areas}


def order_tau(key):
    """Kendall's tau-b of the order in which objects are found with that of ascending keys.

    Args:
        key (ndarray): (N,) float, in the order in which the objects are found.

    Returns:
        float: in [-1, 1]; nan for fewer than two objects, or if no two keys differ.
    """
    from scipy.stats import kendalltau

    if len(key) < 2 or np.ptp(key) == 0:
        return float("nan")
    return float(kendalltau(np.arange(len(key)), key, variant="b").statistic)


def random_order_variance(key):
    """Variance of :func:`order_tau` over all orders of the objects.

    Args:
        key (ndarray): (N,) float.

    Returns:
        float: nan where tau is.
    """
    n = len(key)
    ties = np.unique(key, return_counts=True)[1]
    if len(ties) < 2:
        return float("nan")
    # Kendall 1970: of concordant minus discordant pairs, ties in one of the two rankings only.
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    pairs = n * (n - 1) / 2
    return float(variance / (pairs * (pairs - (ties * (ties - 1) / 2).sum())))


def summarize_taus(keys, seed=0):
    """Tau over images, with what chance would give.

    Args:
        keys (list[ndarray]): of each image (N,) float, as :func:`order_tau` takes them.
        seed (int): of the bootstrap.

    Returns:
        TauSummary: all but ``images`` nan if no image has two objects.
    """
    taus = np.array([order_tau(key) for key in keys])
    kept = ~np.isnan(taus)
    taus = taus[kept]
    if not len(taus):
        return TauSummary(0, *[float("nan")] * 5)
    variances = np.array([random_order_variance(key) for key, k in zip(keys, kept) if k])
    chosen = np.random.default_rng(seed).integers(len(taus), size=(RESAMPLES, len(taus)))
    low, high = np.quantile(taus[chosen].mean(axis=1), (0.025, 0.975))
    null = NULL_QUANTILE * np.sqrt(variances.sum()) / len(taus)
    figures = (taus.mean(), low, high, null, (taus**2 / variances).mean())
    return TauSummary(len(taus), *map(float, figures))


def has_spread(summary):
    """Whether images have orders of their own: a spread that random orders have in less than 1 %.

    Args:
        summary (TauSummary)

    Returns:
        bool: by the chi-squared distribution, which says yes too rarely rather than too often, as
        tau has lighter tails than a normal variable.
    """
    from scipy.stats import chi2

    images = summary.images
    return bool(images and summary.spread * images > chi2.ppf(0.99, images))


def pair_shares(images, num_classes, extent=PAIR_EXTENT, min_pairs=MIN_PAIRS):
    """Where the next object lies, of all pairs and by the classes of the two.

    Args:
        images (list[FoundObjects])
        num_classes (int): K.
        extent (float): share of width or height; nearer pairs have no direction on that axis.
        min_pairs (int): classes with fewer pairs are left out.

    Returns:
        list[PairShares]: all pairs, then ordered pairs of classes, the most frequent first; with
        objects of one class, all pairs alone.
    """
    observed = np.zeros((len(DIRECTIONS) + 1, num_classes, num_classes))
    expected = np.zeros_like(observed)
    for found in images:
        if len(found.classes):
            counts = _pairs_of_image(found, num_classes, extent)
            observed += counts[0]
            expected += counts[1]
    rows = [_pair_row(None, None, observed.sum(axis=(1, 2)), expected.sum(axis=(1, 2)))]
    if len({c for found in images for c in found.classes}) < 2:
        return rows
    enough = np.argwhere(observed[-1] >= max(min_pairs, 1)).tolist()
    for a, b in sorted(enough, key=lambda pair: -observed[-1][tuple(pair)]):
        rows.append(_pair_row(a, b, observed[:, a, b], expected[:, a, b]))
    return rows


def _pairs_of_image(found, num_classes, extent):
    """Two (5, K, K): pairs by direction, and at the end all, as found and in a random order."""
    n = len(found.classes)
    step = found.centers[None] - found.centers[:, None]  # from the row's object to the column's
    x, y = step[..., 0], step[..., 1]
    flags = np.stack([x < -extent, x > extent, y < -extent, y > extent, np.ones((n, n))])
    member = np.eye(num_classes)[found.classes]
    # Each of the n (n - 1) ordered pairs is one of the n - 1 consecutive ones equally often.
    weights = np.eye(n, k=1), (1 - np.eye(n)) / n
    return [np.einsum("ia,dij,jb->dab", member, flags * w, member, optimize=True) for w in weights]


def _pair_row(first, second, observed, expected):
    *counts, total = observed
    *expected_counts, expected_total = expected

    def by_direction(values, whole):
        return {name: float(v / whole) if whole else np.nan for name, v in zip(DIRECTIONS, values)}

    return PairShares(
        first, second, int(total), float(expected_total),
        by_direction(counts, total), by_direction(expected_counts, expected_total),
    )  # fmt: skip


def discovery_centers(images, rank):
    """Where the objects of one rank lie.

    Args:
        images (list[FoundObjects])
        rank (int or None): 0 for the objects found first; None for all.

    Returns:
        ndarray: (P, 2) float64, x and y as shares of width and height.
    """
    chosen = [f.centers if rank is None else f.centers[rank : rank + 1] for f in images]
    return np.concatenate([np.zeros((0, 2)), *chosen])


def discovery_places(images, discoveries=DISCOVERIES):
    """Where the objects found first, second, ... lie on average.

    Args:
        images (list[FoundObjects])
        discoveries (int): how many ranks.

    Returns:
        list[Place]: by rank; ends at the first that no image has.
    """
    places = []
    for rank in range(discoveries):
        longer = [found.centers for found in images if len(found.centers) > rank]
        if not longer:
            break
        # In a random order, every object of an image is the one of this rank equally often.
        expected = np.mean([centers.mean(axis=0) for centers in longer], axis=0)
        deviation = np.sqrt(np.sum([c.var(axis=0) for c in longer], axis=0)) / len(longer)
        mean = discovery_centers(images, rank).mean(axis=0)
        rows = (mean, expected, NULL_QUANTILE * deviation)
        places.append(Place(len(longer), *(tuple(row.tolist()) for row in rows)))
    return places


def density_map(points, size=60, sigma=None):
    """How densely points lie in the unit square, Gaussian kernels of which nothing gets outside.

    Args:
        points (ndarray): (P, 2) float, x and y in [0, 1].
        size (int): cells a side.
        sigma (float or None): of the kernel, a share of the square's side; None: narrower the
            more points there are.

    Returns:
        ndarray: (size, size) float64, row 0 at y = 0; mean 1, or all 0 without points.
    """
    if sigma is None:
        sigma = 0.2 * max(len(points), 1) ** (-1 / 6)  # the exponent of Scott's rule
    grid = (np.arange(size) + 0.5) / size
    kernels = np.exp(-((grid[None, :, None] - points[:, None, :]) ** 2) / (2 * sigma**2))
    kernels /= kernels.mean(axis=1, keepdims=True)
    total = np.einsum("pi,pj->ij", kernels[..., 1], kernels[..., 0])
    return total / max(len(points), 1)
