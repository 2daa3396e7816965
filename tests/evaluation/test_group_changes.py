"""Which weaknesses, languages and suites got better or worse."""

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.scores import Evaluation, SuiteResult
from seccoderx_lite.evaluation.group_changes import group_changes, holm, sign_flip_p
from seccoderx_lite.evaluation.metrics import SampleScore, TaskScores
from seccoderx_lite.reporting.results import result_sections
from seccoderx_lite.reporting.text import describe_evaluation


def task(number, cwe, secure, language="python"):
    return TaskScores(f"{cwe}-{number}", (cwe,), (SampleScore(1.0, secure),), language)


def suite(fallen="CWE-113", tasks=10):
    """Three weaknesses that become secure, and one that becomes insecure."""
    names = ("CWE-22", "CWE-78", "CWE-89", fallen)
    before = [task(n, name, float(name == fallen)) for name in names for n in range(tasks)]
    after = [task(n, name, float(name != fallen)) for name in names for n in range(tasks)]
    return before, after


def found(changes, group, metric="esr"):
    (change,) = [one for one in changes if (one.group, one.metric) == (group, metric)]
    return change


def test_a_weakness_that_falls_is_found_while_the_mean_of_the_suite_rises():
    changes = group_changes({"mine": suite()}, seed=0)
    assert found(changes, "mine").difference.verdict == "better"
    fall = found(changes, "CWE-113")
    assert (fall.before, fall.after, fall.difference.n) == (1.0, 0.0, 10)
    assert fall.difference.verdict == "worse"
    assert fall.p == pytest.approx(2 / 2**10)
    assert fall.p < fall.p_corrected < 0.05
    assert [change.group for change in Evaluation(group_changes=changes).worse] == ["CWE-113"]


def test_function_that_does_not_change_has_no_verdict():
    function = found(group_changes({"mine": suite()}, seed=0), "CWE-89", "functional")
    assert (function.difference.mean, function.p_corrected) == (0.0, 1.0)
    assert function.difference.verdict == "no change"


def test_languages_are_compared_where_there_are_several():
    before = [task(n, "CWE-89", 1.0, language) for n in range(9) for language in ("go", "c")]
    after = [task(n, "CWE-89", float(lang == "go"), lang) for n in range(9) for lang in ("go", "c")]
    changes = group_changes({"mine": (before, after)}, seed=0)
    assert {change.group for change in changes} == {"mine", "go", "c"}  # one weakness: the suite
    assert found(changes, "c").difference.verdict == "worse"
    assert found(changes, "go").difference.verdict == "no change"


def test_a_group_with_one_measured_task_is_not_compared():
    before, after = suite(tasks=1)
    assert {change.group for change in group_changes({"mine": (before, after)}, seed=0)} == {"mine"}


def test_chance_alone_seldom_passes_the_correction():
    rng = random.Random(1)
    runs = []
    for seed in range(20):
        both = [
            [task(n, f"CWE-{c}", rng.choice((0.0, 1.0))) for c in range(1, 7) for n in range(8)]
            for _ in range(2)
        ]
        runs.append(min(one.p_corrected for one in group_changes({"mine": both}, seed)))
    assert sum(p < 0.05 for p in runs) <= 3  # 1 is expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_correction_raises_every_p_value_keeps_their_order_and_stays_below_one(values):
    corrected = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, corrected, strict=True))
    assert max(corrected) <= min(1.0, max(values) * len(values))
    by_value = [q for _, q in sorted(zip(values, corrected, strict=True))]
    assert by_value == sorted(by_value)


def test_the_p_value_is_that_of_all_sign_flips_counted_one_by_one():
    values = [0.5, 0.25, 0.75, -0.1, 0.4]
    mean = abs(sum(values))
    flips = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in product((1, -1), repeat=5)
    ]
    expected = sum(abs(total) >= mean - 1e-12 for total in flips) / len(flips)
    assert sign_flip_p(values, seed=0) == pytest.approx(expected)


def test_the_terminal_and_the_report_name_what_got_worse():
    measured = {"mine": SuiteResult(esr=0.5, functional=1.0, n=40)}
    evaluation = Evaluation(
        before=measured, after=measured, group_changes=group_changes({"mine": suite()}, seed=0)
    )
    text = "\n".join(describe_evaluation(evaluation))
    assert "worse: CWE-113 ESR 1.000 -> 0.000" in text
    assert "corrected for the 10 comparisons" in text
    page = "".join(section.body for section in result_sections(evaluation))
    assert "largest fall:</span> CWE-113 ESR" in page
    assert page.count('<td class="bad">worse</td>') == 1
