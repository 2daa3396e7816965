"""How sure a figure is: 95% intervals of shares, means and rates of counts; pure arithmetic."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper bound."""

Floats = NDArray[np.float64]

_Z_95 = 1.959963984540054


def wilson_interval(part: int, whole: int) -> Interval:
    """Return the 95% score interval of a share, in [0, 1]; honest at 0 and 1 too.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927;
    recommended by Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001.

    Raises:
        ValueError: not 0 <= part <= whole, or whole is 0.

    >>> low, high = wilson_interval(40, 80)
    >>> round(low, 3), round(high, 3)
    (0.393, 0.607)
    >>> wilson_interval(0, 10)[0], round(wilson_interval(0, 10)[1], 3)
    (0.0, 0.278)
    """
    if not 0 <= part <= whole or whole == 0:
        raise ValueError(f"needs 0 <= part <= whole and whole > 0 (got {part} of {whole})")
    share, z2 = part / whole, _Z_95**2
    centre = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    spread = share * (1 - share) / whole + z2 / (4 * whole**2)
    half = _Z_95 * math.sqrt(spread) / (1 + z2 / whole)
    low = 0.0 if part == 0 else max(0.0, centre - half)
    high = 1.0 if part == whole else min(1.0, centre + half)
    return low, high


def bootstrap_interval(values: Sequence[float], seed: int, resamples: int = 2000) -> Interval:
    """Return the 95% percentile interval of the mean, the values drawn anew with replacement.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13. Here the values are one
    per task, since the samples of one task are not independent of each other.

    Raises:
        ValueError: there are fewer than two values, of which nothing can be said.

    >>> bootstrap_interval([0.5, 0.5, 0.5], seed=0)
    (0.5, 0.5)
    >>> low, high = bootstrap_interval([0.0, 1.0] * 50, seed=0)
    >>> 0.39 <= low <= 0.42 and 0.58 <= high <= 0.61  # normal: 0.5 +- 1.96 * 0.05
    True
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values (got {len(values)})")
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    at_once = max(1, 1_000_000 // len(data))  # keeps the drawn indices below about 8 MB
    means = [
        data[
            generator.integers(0, len(data), size=(min(at_once, resamples - done), len(data)))
        ].mean(axis=1)
        for done in range(0, resamples, at_once)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_counts(
    clusters: Sequence[tuple[int, ...]],
    statistic: Callable[[Floats], Floats],
    seed: int,
    resamples: int = 2000,
) -> Interval | None:
    """Return the 95% percentile interval of a statistic of summed counts, by cluster bootstrap.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13. Clusters are what is drawn
    anew with replacement: the two sides of a pair go together. Equal clusters are drawn as one
    multinomial, which is the same distribution and cheap at any size.

    Args:
        clusters: counts of each cluster, all of one length M.
        statistic: from sums of shape (resamples, M) to values of shape (resamples,), NaN where it
            is undefined.
        seed: of the drawing.
        resamples: how many.

    Returns:
        None where fewer than two clusters, or no resample with a defined value, says nothing.

    >>> rate = lambda sums: sums[:, 0] / sums.sum(axis=1)
    >>> low, high = bootstrap_counts([(1, 0), (0, 1)] * 50, rate, seed=0)
    >>> 0.39 <= low <= 0.42 and 0.58 <= high <= 0.61  # normal: 0.5 +- 1.96 * 0.05
    True
    """
    if len(clusters) < 2:
        return None
    kinds = sorted(Counter(clusters).items())
    table = np.array([kind for kind, _ in kinds], dtype=np.float64)
    shares = np.array([count for _, count in kinds]) / len(clusters)
    drawn = np.random.default_rng(seed).multinomial(len(clusters), shares, size=resamples)
    return percentiles_95(statistic(drawn @ table))


def percentiles_95(values: Floats) -> Interval | None:
    """Return the 2.5th and 97.5th percentile of the values that are numbers, if there are any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
