"""95% confidence intervals of shares, means and rates of counts; pure arithmetic."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from seccoderx_lite.core.numbers import wilson_interval
from seccoderx_lite.core.scores import Interval

Floats = NDArray[np.float64]


def bootstrap_interval(values: Sequence[float], seed: int, resamples: int = 2000) -> Interval:
    """Return the 95% percentile interval of the mean, by resampling the values with replacement.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13. Pass one value per task:
    the samples of one task are not independent of each other.

    Raises:
        ValueError: there are fewer than two values.

    >>> bootstrap_interval([0.5, 0.5, 0.5], seed=0)
    (0.5, 0.5)
    >>> low, high = bootstrap_interval([0.0, 1.0] * 50, seed=0)
    >>> 0.39 <= low <= 0.42 and 0.58 <= high <= 0.61  # normal: 0.5 +- 1.96 * 0.05
    True
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values (got {len(values)})")
    resampled = bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 1_000_000 // len(values)),  # keeps the drawn indices below about 8 MB
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    # scipy's own interval takes percentile 2.5000000000000022, which shows in the last digit.
    low, high = np.percentile(resampled.bootstrap_distribution, [2.5, 97.5])
    return float(low), float(high)


def share_interval(shares: Sequence[float], seed: int, resamples: int = 2000) -> Interval:
    """Return the 95% interval of the mean of values in [0, 1], one per task.

    By bootstrap; but resampling values that are all 0, or all 1, gives an interval without width,
    as if nothing else could ever happen. Then it is Wilson's.

    >>> low, high = share_interval([0.0] * 12, seed=0)
    >>> low, round(high, 2)
    (0.0, 0.24)
    >>> share_interval([0.5, 0.5, 0.5], seed=0)
    (0.5, 0.5)
    """
    if set(shares) in ({0.0}, {1.0}):
        return wilson_interval(round(sum(shares)), len(shares))
    return bootstrap_interval(shares, seed, resamples)


def bootstrap_counts(
    clusters: Sequence[tuple[int, ...]],
    statistic: Callable[[Floats], Floats],
    seed: int,
    resamples: int = 2000,
) -> Interval | None:
    """Return the 95% percentile interval of a statistic of summed counts, by cluster bootstrap.

    Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13. Clusters are resampled
    with replacement: the two sides of a pair stay together. Not `scipy.stats.bootstrap`, whose
    random draws differ: equal clusters are drawn at once as one multinomial, which has the same
    distribution and is cheap at any size.

    Args:
        clusters: counts per cluster, all of one length M.
        statistic: from sums of shape (resamples, M) to values of shape (resamples,), NaN where it
            is undefined.
        seed: of the random draws.
        resamples: number of resamples.

    Returns:
        None with fewer than two clusters, or if the statistic is defined for no resample.

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
    """Return the 2.5th and 97.5th percentile of the values that are not NaN, None without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
