"""Sequences beside simple orders: Kendall's tau, and what random orders of the objects would give.

The protocol is that of Salvador et al. 2018 (RSIS), section 4.7: predicted sequences are compared
with simple orders by Kendall's tau, pairs of consecutive objects by their direction (``pairs``),
and the objects' activations in the encoder with the sequence. What the paper leaves open is decided
thus: tau is tau-b, which counts ties for neither side; random orders of the same objects are the
yardstick for every figure.

Shape shorthand in this module:
    N: objects of an image in the order of their steps   M: images
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from instance_seg_analysis.order.objects import FoundObjects

# A positive tau says that the objects are found in this order, a negative one in its opposite.
ORDERS = {"r2l": "right to left", "b2t": "bottom to top", "l2s": "large to small"}
OPPOSITES = {"r2l": "left to right", "b2t": "top to bottom", "l2s": "small to large"}
# Of random orders 99 % lie within this many standard deviations: of some 20 figures of a table, one
# in five tables would have one outside by chance.
NULL_QUANTILE = 2.5758
RESAMPLES = 2000


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
    def is_pattern(self) -> bool:
        """Whether random orders have a mean as far from 0 in less than 1 % of cases, and other
        images of the kind would have one on the same side."""
        return self.images > 0 and abs(self.mean) > self.null and self.low * self.high > 0


def order_keys(found: FoundObjects) -> "dict[str, np.ndarray]":
    """What each order sorts by, ascending.

    Args:
        found (FoundObjects)

    Returns:
        dict[str, ndarray]: (N,) float64 by the names of ORDERS.
    """
    return {"r2l": -found.centers[:, 0], "b2t": -found.centers[:, 1], "l2s": -found.areas}


def order_tau(key: np.ndarray) -> float:
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


def random_order_variance(key: np.ndarray) -> float:
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


def summarize_taus(keys: Sequence[np.ndarray], *, seed: int = 0) -> TauSummary:
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


def has_spread(summary: TauSummary) -> bool:
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


AFTER = "after"  # the trained encoder, among the names of encoders
Activations = dict[str, dict[str, np.ndarray]]  # of one image: encoder -> block -> (N,) float


class BlockTaus(NamedTuple):
    """Of one block. after: training; before: it, one for each encoder, empty where it is not
    known. Positive: the most active objects are found first."""

    after: TauSummary
    before: list[TauSummary]


def summarize_activations(images: Sequence[Activations]) -> "dict[str, BlockTaus]":
    """Tau of activations by block, deepest first.

    Args:
        images (list[dict]): of each image, not empty; an encoder before training may lack blocks.
    """

    def summary(encoder: str, block: str) -> TauSummary:
        # The most active come first: keys ascend.
        return summarize_taus([-image[encoder][block] for image in images])

    encoders = images[0]
    return {
        block: BlockTaus(
            summary(AFTER, block),
            [summary(e, block) for e, known in encoders.items() if e != AFTER and block in known],
        )
        for block in encoders[AFTER]
    }
