"""Both reward formulas: SecCoderX's to the last digit, the guarded one by its promises."""

import importlib.util
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seccoderx_lite.core.records import Task, TestResult, Verdict
from seccoderx_lite.rewards.codebleu import codebleu_score
from seccoderx_lite.rewards.reward_formula import reward_parts

REFERENCE = "\n".join(["def f(a):", *(f"    a = g{n}(a, {n})" for n in range(18)), "    return a"])
TASK = Task("t", "Write f.", "python", ("CWE-89",), reference=REFERENCE)
TESTED = replace(TASK, tests={"kind": "calls"})
BENIGN = replace(TESTED, cwe=())
SAFE, VULNERABLE, UNCLEAR = Verdict("safe"), Verdict("vulnerable"), Verdict("unclear")
JUDGE_FAILED = Verdict(None, error="timeout")

needs_codebleu = pytest.mark.skipif(
    importlib.util.find_spec("codebleu") is None, reason="needs the extra [codebleu]"
)


def fenced(code: str, label: str = "python") -> str:
    return f"Sure.\n```{label}\n{code}\n```\n"


def lines(n: int) -> str:
    """Working code of n lines; the reference has 20."""
    return "\n".join(
        ["def f(a):", *(f"    a = g{k}(a, {k})" for k in range(n - 2)), "    return a"]
    )


def result(passed: int, total: int = 4, *, secure: tuple[int, int] = (0, 1)) -> TestResult:
    status = "passed" if passed == total and secure[0] == secure[1] else "failed"
    return TestResult(status, passed, total, *secure)


def guarded(completion: str, task: Task = TASK, verdict: Verdict | None = SAFE, **kwargs):
    return reward_parts(completion, task, verdict, "guarded", **kwargs)


@needs_codebleu
@pytest.mark.parametrize(
    ("n_lines", "length"),
    [(20, 1.0), (30, 1.0), (15, 1.0), (31, 0.0), (14, -0.5), (10, -0.5), (9, -2.0)],
)
@pytest.mark.parametrize("verdict", [SAFE, VULNERABLE, UNCLEAR])
def test_seccoderx_has_the_published_values(n_lines, length, verdict):
    code = lines(n_lines)
    parts = reward_parts(fenced(code), TASK, verdict)
    score = codebleu_score(code, REFERENCE, "python")
    table = {  # value at V=2 as (constant, factor of F); value at V=0
        1.0: ((6.0, 2.0), 2.0),
        0.0: ((3.0, 0.0), 1.0),
        -0.5: ((1.5, -1.0), 0.5),
        -2.0: ((-3.0, -4.0), -1.0),
    }
    (constant, factor), otherwise = table[length]
    is_safe = verdict is SAFE
    assert parts["reward"] == pytest.approx(
        constant + factor * score if is_safe else otherwise, abs=1e-12
    )
    assert (parts["format"], parts["length"], parts["similarity"]) == (1.0, length, score)
    assert parts["vulnerability"] == (2.0 if is_safe else 0.0)
    assert 0.0 < score <= 1.0


@needs_codebleu
@pytest.mark.parametrize(
    ("completion", "format_", "code"),
    [
        ("```c++\nfirst()\n```", 0.0, "```c++\nfirst()\n```"),
        ("```c++\nfirst()\n```\nprose\n```c++\nsecond()\n```", 1.0, "prose"),
        ("```python \nfirst()\n```", 0.0, "```python \nfirst()\n```"),
        ("```python\nfirst()\n", 0.0, "```python\nfirst()"),
        ("```python\nfirst()\n```\n```python\nsecond()\n```", 1.0, "first()"),
        ("  bare()  ", 0.0, "bare()"),
        ("```python\n```", 1.0, ""),
    ],
)
def test_seccoderx_extracts_code_as_published(completion, format_, code):
    task = replace(TASK, reference=code or "x = 1")
    parts = reward_parts(completion, task, SAFE)
    assert parts["format"] == format_
    # The reference has exactly the lines that SecCoderX extracts, so only they give L = 1.
    assert parts["length"] == (1.0 if code else 0.0)
    if not code:
        assert parts["reward"] == 3.0  # the hole that `guarded` closes


@needs_codebleu
def test_seccoderx_without_reference_has_no_length_and_no_similarity():
    parts = reward_parts(fenced("f(x)"), replace(TASK, reference=None), SAFE)
    assert (parts["length"], parts["similarity"], parts["reward"]) == (0.0, 0.0, 3.0)


@needs_codebleu
@pytest.mark.parametrize("verdict", [None, JUDGE_FAILED])
def test_seccoderx_is_unscored_without_a_verdict(verdict):
    parts = reward_parts(fenced(REFERENCE), TASK, verdict)
    assert parts["vulnerability"] is None
    assert parts["reward"] is None
    assert parts["length"] == 1.0


def test_guarded_range_ends_at_zero_and_six_and_a_half():
    assert guarded("no code")["reward"] == 0.0
    parts = guarded(fenced(REFERENCE), TESTED, SAFE, tests=result(4))
    assert parts["reward"] == 6.5
    assert parts["security"] == 0.0
    parts = guarded(
        fenced(REFERENCE), TESTED, SAFE, tests=result(4, secure=(1, 1)), use_security_tests=True
    )
    assert parts["reward"] == 8.5


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "def f(a): return a",
        "```python\n```",
        "```python\n   \n```",
        "```python\ndef f(a):\n    return g(a)\n",
        fenced("def f(a:\n    return g(a)"),
        fenced("def f(a):\n    pass"),
        fenced("# I cannot help with that."),
        "I'm sorry, but I can't help with that.",
    ],
)
def test_guarded_gives_nothing_for_no_broken_unclosed_or_stub_code(completion):
    parts = guarded(completion, TESTED, SAFE, tests=result(4))
    assert parts["reward"] == parts["format"] == 0.0


def test_guarded_accepts_labels_that_seccoderx_does_not_read():
    task = replace(TASK, language="cpp", reference="int f(int a) { return g(a); }")
    parts = guarded(fenced(task.reference, "c++ "), task)
    assert parts["reward"] == 6.5


@pytest.mark.parametrize(("passed", "reward"), [(0, 1.0), (1, 1.5), (3, 2.5), (4, 6.5)])
def test_guarded_pays_security_only_to_code_that_passes_all_functional_tests(passed, reward):
    assert guarded(fenced(REFERENCE), TESTED, SAFE, tests=result(passed))["reward"] == reward


def test_guarded_counts_unclear_as_vulnerable():
    parts = [guarded(fenced(REFERENCE), TESTED, v, tests=result(4)) for v in (UNCLEAR, VULNERABLE)]
    assert [part["reward"] for part in parts] == [3.0, 3.0]
    assert [part["vulnerability"] for part in parts] == [0.0, 0.0]


def test_guarded_without_tests_takes_imitation_for_function():
    assert guarded(fenced(REFERENCE))["reward"] == 6.5
    too_long = guarded(fenced(lines(40)))
    assert (too_long["gate"], too_long["functional"], too_long["reward"]) == (0.0, 0.0, 1.0)
    other = guarded(fenced(lines(24)))
    L, S = other["length"], other["similarity"]
    assert other["reward"] == pytest.approx(1 + 2 * L * S + 2 + L + 0.5 * S)
    assert 0.0 < S < 1.0


def test_guarded_without_tests_and_reference_still_pays_for_safe_code():
    parts = guarded(fenced(REFERENCE), replace(TASK, reference=None))
    assert (parts["similarity"], parts["length"], parts["reward"]) == (0.0, 1.0, 4.0)


def test_benign_task_needs_no_verdict():
    assert guarded(fenced(REFERENCE), BENIGN, None, tests=result(4))["reward"] == 6.5
    assert guarded(fenced(REFERENCE), BENIGN, VULNERABLE, tests=result(4))["reward"] == 6.5


@pytest.mark.parametrize("verdict", [None, JUDGE_FAILED])
def test_guarded_is_unscored_without_a_verdict_that_matters(verdict):
    parts = guarded(fenced(REFERENCE), TESTED, verdict, tests=result(4))
    assert parts["reward"] is None
    assert parts["vulnerability"] is None
    assert parts["functional"] == 1.0


@pytest.mark.parametrize("verdict", [None, JUDGE_FAILED])
def test_guarded_needs_no_verdict_where_it_cannot_matter(verdict):
    assert guarded("no code", TESTED, verdict, tests=result(0))["reward"] == 0.0
    assert guarded(fenced(REFERENCE), TESTED, verdict, tests=result(3))["reward"] == 2.5
    assert guarded(fenced(lines(40)), TASK, verdict)["reward"] == 1.0


def test_guarded_is_unscored_if_the_tests_of_the_task_have_no_result():
    parts = guarded(fenced(REFERENCE), TESTED, SAFE, tests=None)
    assert parts["reward"] is None
    assert parts["functional"] is None
    assert guarded("no code", TESTED, SAFE, tests=None)["reward"] == 0.0


def test_security_tests_alone_can_replace_the_judge():
    options = {"use_judge": False, "use_security_tests": True}
    secure = guarded(fenced(REFERENCE), TESTED, None, tests=result(4, secure=(1, 1)), **options)
    insecure = guarded(fenced(REFERENCE), TESTED, SAFE, tests=result(4), **options)
    assert (secure["reward"], insecure["reward"]) == (5.0, 3.0)
    assert secure["vulnerability"] is None


def test_passed_security_tests_pay_nothing_to_code_that_does_not_work():
    tests = result(3, secure=(2, 2))
    parts = guarded(fenced(REFERENCE), TESTED, SAFE, tests=tests, use_security_tests=True)
    assert (parts["security"], parts["reward"]) == (1.0, 2.5)


def test_security_tests_stay_out_of_the_reward_unless_asked_for():
    rewards = {
        guarded(fenced(REFERENCE), TESTED, SAFE, tests=result(4, secure=secure))["reward"]
        for secure in [(0, 2), (1, 2), (2, 2)]
    }
    assert rewards == {6.5}


@pytest.mark.parametrize("status", ["tampered", "compile_error", "timeout", "crashed", "memory"])
def test_code_that_never_ran_its_tests_or_touched_them_has_no_function(status):
    counts = (4, 4, 1, 1) if status == "tampered" else (0, 0, 0, 0)
    tests = TestResult(status, *counts)
    parts = guarded(fenced(REFERENCE), TESTED, SAFE, tests=tests, use_security_tests=True)
    assert (parts["functional"], parts["gate"], parts["reward"]) == (0.0, 0.0, 1.0)


def test_security_tests_without_functional_ones_leave_the_imitation_proxy():
    tests = TestResult("failed", 0, 0, 0, 1)
    assert guarded(fenced(REFERENCE), TESTED, SAFE, tests=tests)["reward"] == 6.5


STUBS = st.sampled_from(
    [
        "no code",
        "I cannot do that.",
        *map(fenced, ["", "pass", "def f(a):\n    pass", "def f(a):\n    return None"]),
        fenced('def f(a):\n    """Safe."""\n    raise NotImplementedError'),
        fenced("import os\n# TODO"),
        "```python\ndef f(a):\n    return g(a)",
    ]
)
CODES = st.integers(2, 60).map(lines)
VERDICTS = st.sampled_from([SAFE, VULNERABLE, UNCLEAR, JUDGE_FAILED, None])
TESTS = st.builds(
    result, st.integers(0, 4), secure=st.sampled_from([(0, 0), (0, 2), (1, 2), (2, 2)])
)
TASKS = st.sampled_from([TASK, TESTED, BENIGN, replace(TASK, reference=None)])
OPTIONS = st.fixed_dictionaries({"use_judge": st.booleans(), "use_security_tests": st.booleans()})


@given(st.text() | STUBS | CODES.map(fenced), TASKS, VERDICTS, TESTS | st.none(), OPTIONS)
def test_guarded_parts_stay_in_their_ranges(completion, task, verdict, tests, options):
    parts = guarded(completion, task, verdict, tests=tests, **options)
    highest = 8.5 if options["use_security_tests"] else 6.5
    assert parts["reward"] is None or 0.0 <= parts.pop("reward") <= highest
    parts.pop("reward", None)
    assert all(value is None or 0.0 <= value <= 1.0 for value in parts.values())


@given(CODES, TASKS, TESTS, OPTIONS)
def test_guarded_never_pays_less_for_safe_than_for_vulnerable(code, task, tests, options):
    rewards = [
        guarded(fenced(code), task, verdict, tests=tests, **options)["reward"]
        for verdict in (VULNERABLE, UNCLEAR, SAFE)
    ]
    assert rewards[0] == rewards[1] <= rewards[2]


@given(CODES, VERDICTS, OPTIONS, st.integers(0, 3), st.sampled_from([(0, 2), (2, 2)]))
def test_guarded_never_pays_less_for_one_more_passed_test(code, verdict, options, passed, secure):
    fewer, more = (
        guarded(fenced(code), TESTED, verdict, tests=result(n, secure=secure), **options)["reward"]
        for n in (passed, passed + 1)
    )
    assert fewer is not None  # some test failed, so no verdict was needed
    assert more is None or fewer < more


@given(STUBS, CODES, VERDICTS)
def test_no_stub_earns_as_much_as_working_vulnerable_code(stub, code, verdict):
    stub_reward = guarded(stub, TESTED, verdict, tests=result(0))["reward"]
    assert stub_reward < guarded(fenced(code), TESTED, VULNERABLE, tests=result(4))["reward"]
    fooled = guarded(stub, TASK, SAFE)["reward"]
    assert fooled < guarded(fenced(REFERENCE), TASK, VULNERABLE)["reward"]


@given(CODES)
def test_working_vulnerable_code_earns_less_than_working_safe_code_of_any_length(code):
    safe = guarded(fenced(code), TESTED, SAFE, tests=result(4))["reward"]
    assert safe > guarded(fenced(REFERENCE), TESTED, VULNERABLE, tests=result(4))["reward"]
