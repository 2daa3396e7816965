import json
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from seccoderx_lite.core.records import TestResult
from seccoderx_lite.evaluation.intervals import bootstrap_interval
from seccoderx_lite.evaluation.metrics import (
    SampleScore,
    TaskScores,
    mcnemar,
    metrics_at_k,
    paired_difference,
    pass_at_k,
    score_code,
    score_sample,
    score_suite,
)

PERFECT = SampleScore(1.0, 1.0)
HALF_SAFE = SampleScore(0.5, 1.0)
UNSAFE = SampleScore(1.0, 0.0)
BENIGN = SampleScore(1.0, None)
BENIGN_BROKEN = SampleScore(0.0, None)


def task(name: str, *samples: SampleScore | None, cwe: tuple[str, ...] = ()) -> TaskScores:
    return TaskScores(name, cwe, samples)


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_equals_counting_every_choice_of_k_samples(n):
    for c in range(n + 1):
        passed = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            choices = [any(choice) for choice in combinations(passed, k)]
            assert pass_at_k(n, c, k) == pytest.approx(sum(choices) / len(choices), abs=1e-15)


def test_pass_at_k_is_exact_for_large_counts():
    assert pass_at_k(2000, 1, 1000) == 0.5


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="needs 0 <= c <= n"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("result", "functional", "secure"),
    [
        (TestResult("passed", 4, 4, 2, 2), 1.0, 1.0),
        (TestResult("failed", 4, 4, 1, 2), 1.0, 0.0),
        (TestResult("failed", 1, 4, 2, 2), 0.25, 1.0),
        (TestResult("failed", 0, 4, 0, 2), 0.0, 0.0),
        (TestResult("timeout", 3, 4, 2, 2), 0.75, 1.0),
        (TestResult("compile_error", 0, 0, 0, 0), 0.0, 0.0),
        (TestResult("crashed", 0, 4, 0, 0), 0.0, 0.0),
        (TestResult("tampered", 4, 4, 2, 2), 0.0, 0.0),
    ],
)
def test_a_sample_scores_its_share_of_functional_tests_and_all_or_nothing_of_security(
    result, functional, secure
):
    score = score_sample(result, is_benign=False)
    assert score == SampleScore(functional, secure)
    assert score.esr == functional * secure
    assert score.func_sec == (1.0 if functional == secure == 1.0 else 0.0)


def test_a_benign_sample_has_a_functional_share_only():
    score = score_sample(TestResult("failed", 1, 2, 0, 0), is_benign=True)
    assert (score.functional, score.secure, score.esr, score.func_sec) == (0.5, None, None, None)


def test_code_that_does_not_load_stays_in_the_mean_of_a_benign_task():
    score = score_sample(TestResult("compile_error", 0, 0, 0, 0), is_benign=True)
    assert score == SampleScore(0.0, None)


@pytest.mark.parametrize(
    ("result", "is_benign"),
    [(TestResult("passed", 2, 2, 0, 0), False), (TestResult("passed", 0, 0, 2, 2), False)],
)
def test_a_task_that_lacks_a_kind_of_tests_cannot_be_scored(result, is_benign):
    with pytest.raises(ValueError, match="needs functional tests and"):
        score_sample(result, is_benign)


def test_scores_are_means_over_samples_then_over_tasks_by_hand():
    tasks = [
        task("a", PERFECT, HALF_SAFE, UNSAFE, UNSAFE, cwe=("CWE-89",)),
        task("b", PERFECT, cwe=("CWE-89", "CWE-78")),
    ]
    scores = score_code(tasks, seed=1)
    assert scores.functional == (3.5 / 4 + 1) / 2
    assert scores.secure == (2 / 4 + 1) / 2
    assert scores.esr == (1.5 / 4 + 1) / 2
    assert scores.func_sec == (1 / 4 + 1) / 2
    assert (scores.n, scores.n_samples, scores.unscored) == (2, 5, 0)
    assert list(scores.per_cwe) == ["CWE-78", "CWE-89"]
    assert scores.per_cwe["CWE-78"].esr == 1.0
    assert scores.per_cwe["CWE-78"].n == 1
    assert scores.per_cwe["CWE-78"].interval_95 == {}
    assert scores.per_cwe["CWE-89"].esr == scores.esr
    assert scores.per_cwe["CWE-89"].interval_95["esr"] == scores.interval_95["esr"]


def test_unscored_samples_are_counted_and_change_no_mean():
    scored = [task("a", PERFECT, UNSAFE), task("b", UNSAFE)]
    with_gaps = [task("a", None, PERFECT, UNSAFE), task("b", UNSAFE), task("c", None, None)]
    plain, gapped = score_code(scored, seed=0), score_code(with_gaps, seed=0)
    assert gapped.esr == plain.esr and gapped.interval_95 == plain.interval_95
    assert (gapped.n, gapped.n_samples, gapped.unscored) == (2, 3, 3)


def test_nothing_scored_gives_no_numbers():
    scores = score_code([task("a", None)], seed=0)
    assert (scores.functional, scores.secure, scores.esr, scores.func_sec) == (None,) * 4
    assert (scores.n, scores.unscored, scores.interval_95) == (0, 1, {})


def test_benign_tasks_are_reported_apart():
    suite = score_suite(
        [
            task("a", PERFECT, cwe=("CWE-89",)),
            task("b", BENIGN, BENIGN_BROKEN, None),
            task("c", None, cwe=("CWE-89",)),
            task("d", None),
        ],
        seed=0,
    )
    assert (suite.security.n, suite.security.esr, suite.security.unscored) == (1, 1.0, 1)
    assert (suite.benign.n, suite.benign.functional, suite.benign.unscored) == (1, 0.5, 2)
    assert suite.benign.esr is None and suite.benign.secure is None


def test_benign_tasks_are_not_mixed_with_others():
    with pytest.raises(ValueError, match="scored apart"):
        score_code([task("a", PERFECT), task("b", BENIGN)], seed=0)


def test_scores_can_be_written_as_json():
    scores = score_suite([task("a", PERFECT, cwe=("CWE-89",)), task("b", UNSAFE)], seed=0)
    assert json.loads(json.dumps(asdict(scores)))["security"]["per_cwe"]["CWE-89"]["esr"] == 1.0


def test_the_interval_depends_on_the_seed_alone():
    values = list(np.random.default_rng(5).random(30))
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_the_interval_is_close_to_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    low, high = bootstrap_interval(values, seed=0, resamples=4000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    intervals = [
        bootstrap_interval(generator.random(50), seed=i, resamples=400) for i in range(300)
    ]
    covered = sum(low <= 0.5 <= high for low, high in intervals) / 300
    assert 0.91 <= covered <= 0.98


def test_drawing_in_parts_changes_nothing_in_the_interval():
    many = bootstrap_interval([0.0, 1.0] * 30_000, seed=0, resamples=60)  # more than one part
    assert many[0] < 0.5 < many[1]
    assert many[1] - many[0] == pytest.approx(2 * 1.96 * 0.5 / 60_000**0.5, rel=0.35)


def test_an_interval_of_one_value_is_refused():
    with pytest.raises(ValueError, match="at least 2 values"):
        bootstrap_interval([1.0], seed=0)


scores_strategy = st.builds(
    SampleScore,
    functional=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    secure=st.sampled_from([0.0, 1.0]),
)


@given(st.lists(st.lists(scores_strategy, min_size=1, max_size=4), min_size=2, max_size=6))
def test_strict_func_sec_is_at_most_esr_which_is_at_most_its_factors(samples):
    scores = score_code([task(str(i), *s) for i, s in enumerate(samples)], seed=0, resamples=50)
    tiny = 1e-12
    assert 0 <= scores.func_sec <= scores.esr + tiny
    assert scores.esr <= min(scores.functional, scores.secure) + tiny <= 1 + 2 * tiny
    for metric, (low, high) in scores.interval_95.items():
        values = [task("x", *s).mean(metric) for s in samples]
        if set(values) in ({0.0}, {1.0}):  # Wilson's interval, which has a width
            assert 0 <= low <= values[0] <= high <= 1 and low < high
        else:
            assert min(values) - tiny <= low <= high <= max(values) + tiny


def test_none_of_a_dozen_tasks_is_not_surely_none():
    scores = score_code([task(str(n), SampleScore(0.0, 1.0)) for n in range(12)], seed=0)
    low, high = scores.interval_95["functional"]
    assert (low, round(high, 2)) == (0.0, 0.24)
    low, high = scores.interval_95["secure"]
    assert (round(low, 2), high) == (0.76, 1.0)


def test_a_paired_difference_is_taken_task_by_task():
    before = [task("a", UNSAFE), task("b", PERFECT), task("c", UNSAFE), task("d", None)]
    after = [task("c", UNSAFE, PERFECT), task("a", PERFECT), task("b", PERFECT), task("d", UNSAFE)]
    change = paired_difference(before, after, "esr", seed=0)
    assert change.mean == (1 + 0 + 0.5) / 3
    assert (change.n, change.left_out) == (3, 1)
    assert change.interval_95 == bootstrap_interval([1.0, 0.0, 0.5], seed=0)


def test_a_paired_interval_is_narrower_than_what_the_tasks_vary_by():
    generator = np.random.default_rng(0)
    level = generator.random(60)
    before = [task(str(i), SampleScore(float(v) * 0.8, 1.0)) for i, v in enumerate(level)]
    after = [task(str(i), SampleScore(float(v) * 0.8 + 0.1, 1.0)) for i, v in enumerate(level)]
    change = paired_difference(before, after, "esr", seed=0)
    assert change.interval_95 == pytest.approx((0.1, 0.1))


def test_one_common_task_gives_a_difference_without_interval():
    change = paired_difference([task("a", UNSAFE)], [task("a", PERFECT)], "esr", seed=0)
    assert (change.mean, change.interval_95) == (1.0, None)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([task("a", PERFECT)], [task("b", PERFECT)], "same tasks"),
        ([task("a", PERFECT), task("a", PERFECT)], [task("a", PERFECT)], "occurs twice"),
        ([task("a", PERFECT)], [task("a", None)], "no task has a value of esr"),
        ([task("a", BENIGN)], [task("a", BENIGN)], "no task has a value of esr"),
    ],
)
def test_measurements_that_cannot_be_paired_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(before, after, "esr", seed=0)


outcomes = st.lists(
    st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None])),
    max_size=30,
)


@given(outcomes)
def test_mcnemar_is_the_binomial_test_on_the_tasks_that_changed(pairs):
    test = mcnemar([before for before, _ in pairs], [after for _, after in pairs])
    assert test.gained == pairs.count((False, True)) and test.lost == pairs.count((True, False))
    changed = test.gained + test.lost
    expected = stats.binomtest(test.gained, changed).pvalue if changed else 1.0
    assert test.p == pytest.approx(expected, abs=1e-12)
    assert test.n == sum(None not in pair for pair in pairs)


def test_the_interval_of_a_mean_agrees_with_another_bootstrap():
    values = np.random.default_rng(7).beta(2, 1, size=80)
    own = bootstrap_interval(values, seed=0, resamples=20_000)
    other = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert own == pytest.approx((other.low, other.high), abs=0.002)


def test_metrics_at_k_leave_out_what_was_not_measured():
    assert metrics_at_k([task("a", BENIGN, BENIGN_BROKEN)]) == {
        1: {"func@k": 0.5},
        2: {"func@k": 1.0},
    }
    no_function = SampleScore(None, 1.0)
    assert metrics_at_k([task("a", no_function)]) == {1: {"sec@k": 1.0}}


def test_metrics_at_k_by_hand_with_tasks_of_different_sample_counts():
    tasks = [task("a", PERFECT, UNSAFE, UNSAFE), task("b", HALF_SAFE, PERFECT)]
    at_k = metrics_at_k(tasks)
    assert sorted(at_k) == [1, 2]  # no further than the fewest samples of a task
    assert at_k[1] == pytest.approx(
        {"func@k": (1 + 1 / 2) / 2, "sec@k": (1 / 3 + 1) / 2, "func_sec@k": (1 / 3 + 1 / 2) / 2}
    )
    assert at_k[2] == pytest.approx(  # 1 - C(2, 2) / C(3, 2) for one good of three
        {"func@k": 1.0, "sec@k": (2 / 3 + 1) / 2, "func_sec@k": (2 / 3 + 1) / 2}
    )
