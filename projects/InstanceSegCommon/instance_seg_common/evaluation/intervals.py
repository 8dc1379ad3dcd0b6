"""How sure a share is that was measured on a sample."""

import math
from typing import Optional


def wilson_interval(hits: int, trials: int, z: float = 1.96) -> "Optional[list[float]]":
    """Bounds of a share from a sample.

    Args:
        hits, trials: the sample.
        z: standard deviations; 1.96 for 95 %.

    Returns:
        Lower and upper bound; None without trials.

    Source: Wilson 1927.
    """
    if not trials:
        return None
    share, weight = hits / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return [max(0.0, middle - half), min(1.0, middle + half)]
