"""How sure a share is that was measured on a sample."""

import math


def wilson_interval(hits, trials, z=1.96):
    """Bounds of a share from a sample.

    Args:
        hits, trials (int)
        z (float): standard deviations; 1.96 for 95 %.

    Returns:
        list[float] or None: lower and upper bound; None without trials.

    Source: Wilson 1927.
    """
    if not trials:
        return None
    share, weight = hits / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return [max(0.0, middle - half), min(1.0, middle + half)]
