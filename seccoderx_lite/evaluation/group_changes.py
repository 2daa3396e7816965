"""Which weaknesses, languages and suites changed from one measurement to another of the same tasks.

A mean over a suite can hide a weakness that got worse. Every group is compared here, with a test
that is corrected for the number of groups, because among many groups a few fall by chance.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from scipy.stats import permutation_test

from seccoderx_lite.core import cwe
from seccoderx_lite.core.scores import CodeMetric, Difference, GroupChange, GroupKind
from seccoderx_lite.evaluation.intervals import bootstrap_interval
from seccoderx_lite.evaluation.metrics import TaskScores

METRICS: tuple[CodeMetric, ...] = ("esr", "functional")
RESAMPLES = 9999


@dataclass(frozen=True, slots=True)
class Pair:
    """The scores of one task before and after."""

    before: TaskScores
    after: TaskScores


def group_changes(
    suites: Mapping[str, tuple[Sequence[TaskScores], Sequence[TaskScores]]], seed: int
) -> tuple[GroupChange, ...]:
    """Return the change of ESR and function of every suite, weakness and language.

    Args:
        suites: by name the scores before and after, of the same tasks in the same order.
        seed: of the bootstrap and of the permutations.
    """
    found = [
        change
        for suite, (before, after) in suites.items()
        for kind, group, pairs in _groups(suite, list(map(Pair, before, after)))
        for metric in METRICS
        if (change := _change(suite, kind, group, metric, pairs, seed)) is not None
    ]
    corrected = holm([change.p for change in found])
    return tuple(replace(change, p_corrected=p) for change, p in zip(found, corrected, strict=True))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number.

    Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    scaled = (min(1.0, values[at] * (len(values) - rank)) for rank, at in enumerate(order))
    by_rank = accumulate(scaled, max)
    return [p for _, p in sorted(zip(order, by_rank, strict=True))]


def _groups(suite: str, pairs: Sequence[Pair]) -> Iterator[tuple[GroupKind, str, list[Pair]]]:
    """Yield the suite itself, and its weaknesses and languages where there are several."""
    yield "suite", suite, list(pairs)
    weaknesses = cwe.in_order(pair.before.cwe for pair in pairs)
    if len(weaknesses) > 1:
        for name in weaknesses:
            yield "weakness", name, [pair for pair in pairs if name in pair.before.cwe]
    languages = sorted({pair.before.language for pair in pairs if pair.before.language})
    if len(languages) > 1:
        for name in languages:
            yield "language", name, [pair for pair in pairs if pair.before.language == name]


def _change(
    suite: str,
    kind: GroupKind,
    group: str,
    metric: CodeMetric,
    pairs: Sequence[Pair],
    seed: int,
) -> GroupChange | None:
    """Compare the tasks with a value both times; None without at least two."""
    measured = [(pair.before.mean(metric), pair.after.mean(metric)) for pair in pairs]
    known = np.array([both for both in measured if None not in both], dtype=float)
    if len(known) < 2:
        return None
    before, after = known.mean(axis=0)
    differences = known[:, 1] - known[:, 0]
    return GroupChange(
        suite=suite,
        kind=kind,
        group=group,
        metric=metric,
        before=float(before),
        after=float(after),
        difference=Difference(
            mean=float(differences.mean()),
            interval_95=bootstrap_interval(list(differences), seed),
            n=len(known),
        ),
        p=sign_flip_p(differences, seed),
    )


def sign_flip_p(differences: Sequence[float] | np.ndarray, seed: int) -> float:
    """Return the two-sided p-value of a mean of paired differences, by flipping their signs.

    Exact up to 13 differences, else from 9,999 random flips.

    >>> sign_flip_p([1.0, 1.0, 1.0, 1.0], seed=0)  # 2 of 16
    0.125
    """
    values = np.asarray(differences, dtype=float)
    if not values.any():
        return 1.0
    test = permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
