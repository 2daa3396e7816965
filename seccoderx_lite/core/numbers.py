"""Numbers that decide: the one rule for those that are not finite, and the interval of a share."""

import math
from collections.abc import Iterable


def finite(value: float | None) -> float | None:
    """Return a number that may decide something; None for NaN and infinity, as for no number.

    A comparison with NaN is false, so that a NaN probability would read as "safe" and a NaN reward
    as a low one. What has no number is unscored: it is counted, shown and left out of every mean.

    >>> finite(0.5), finite(float("nan")), finite(float("inf")), finite(None)
    (0.5, None, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are finite numbers; None if there are none.

    >>> mean([0.5, None, float("nan"), 1.0]), mean([])
    (0.75, None)
    """
    known = [value for each in values if (value := finite(each)) is not None]
    return sum(known) / len(known) if known else None


def wilson_interval(part: int, whole: int) -> tuple[float, float]:
    """Return the 95% score interval of a share, in [0, 1]; valid at 0 and 1 too.

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
    from scipy.stats import binomtest

    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
