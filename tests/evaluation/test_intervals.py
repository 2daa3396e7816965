"""Intervals, against scipy where it has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from seccoderx_lite.core.numbers import wilson_interval
from seccoderx_lite.evaluation.intervals import bootstrap_counts


@given(st.integers(0, 300), st.integers(0, 300))
def test_wilson_intervals_equal_those_of_scipy(part, rest):
    if part + rest == 0:
        with pytest.raises(ValueError, match="got 0 of 0"):
            wilson_interval(0, 0)
        return
    expected = binomtest(part, part + rest).proportion_ci(method="wilson")
    assert wilson_interval(part, part + rest) == pytest.approx((expected.low, expected.high))


def test_one_cluster_says_nothing():
    assert bootstrap_counts([(1, 2)], lambda sums: sums[:, 0], seed=0) is None


def test_a_statistic_that_is_never_defined_has_no_interval():
    undefined = bootstrap_counts([(1,), (2,)], lambda sums: np.full(len(sums), np.nan), seed=0)
    assert undefined is None


def test_equal_seeds_give_equal_intervals():
    clusters = [(number % 3, 3) for number in range(50)]

    def share(sums):
        return sums[:, 0] / sums[:, 1]

    assert bootstrap_counts(clusters, share, 5) == bootstrap_counts(clusters, share, 5)
