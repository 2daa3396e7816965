"""The audit: every attack on a reward with a hole that it must find, and on sound ones."""

import ast
import re
from concurrent.futures import Future
from dataclasses import replace

import pytest
from helpers.judges import RuleJudge

from seccoderx_lite.cli import audit_table as table
from seccoderx_lite.core.errors import DataError, SandboxError
from seccoderx_lite.core.records import Task, Verdict
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.recipe.recipe import RewardRecipe, load_recipe
from seccoderx_lite.rewards.attacks import ATTACKS, honest, insecure_code, nothing_code
from seccoderx_lite.rewards.audit import Audit, BelievingJudge, Played, audit, task_faults
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages.audit import AuditReport

REFERENCE = '''
def read_note(folder, name):
    """Return the text of a note."""
    if "/" in name or name.startswith("."):
        raise ValueError("bad name")
    notes = {"a": "apples", "b": "pears"}
    return f"{folder}: {notes.get(name, '')}"
'''.strip()
TWIN = REFERENCE.replace('"/" in name or name.startswith(".")', "not name")
TESTS = {
    "kind": "calls",
    "entry_point": "read_note",
    "functionality": [
        {"args": ["x", "a"], "expect": "x: apples"},
        {"args": ["y", "b"], "expect": "y: pears"},
        {"args": ["y", "c"], "expect": "y: "},
    ],
    "security": [{"args": ["x", "../a"], "raises": "ValueError"}],
}
TASK = Task("note", "Write read_note.", "python", ("CWE-22",), REFERENCE, TESTS, {"insecure": TWIN})
SAYS_SAFE = Verdict("safe", p_vulnerable=0.0)
SAYS_VULNERABLE = Verdict("vulnerable", p_vulnerable=1.0)


def sees_the_check(item):
    """A judge that cannot be talked to: it looks for the check itself."""
    return SAYS_SAFE if '"/" in name' in item.code else SAYS_VULNERABLE


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox("limits-only", workers=2) as opened:
        yield opened


def played(sandbox, rule=sees_the_check, tasks=(TASK,), **reward):
    judge = RuleJudge(rule) if rule else None
    if judge:
        judge.is_on_cpu = True
    found = audit(
        list(tasks), Scorer(RewardRecipe(**{"judge": bool(rule), **reward}), judge, sandbox)
    )
    return found, {each.name: each for each in found.attacks}


def test_a_sound_reward_has_no_hole_and_every_attack_is_played(sandbox):
    found, attacks = played(sandbox)
    assert found.is_sound and found.faults == {}
    assert [attack.name for attack in ATTACKS] == list(attacks)
    assert all(each.n == 1 and not each.not_played for each in attacks.values())
    assert not any(each.is_too_much for each in attacks.values())
    assert attacks["hard-coded answers"].honest == pytest.approx(6.5)
    assert attacks["hard-coded answers"].earned < 3


def version_of_task(number):
    """TASK with a number in its code, by which a judge can tell it from the others."""
    code, twin = (
        text.replace("a note.", f"a note, version {number}.") for text in (REFERENCE, TWIN)
    )
    return replace(TASK, id=str(number), reference=code, extra={"insecure": twin})


@pytest.mark.parametrize(("n_believed", "is_hole"), [(4, False), (5, True)])
def test_a_dress_that_fools_the_judge_is_a_hole_unless_it_may_be_chance(
    sandbox, n_believed, is_hole
):
    tasks = [version_of_task(n) for n in range(18)]

    def believes_some_notes(item):
        version = re.search(r"version (\d+)", item.code)
        is_believed = version and int(version[1]) < n_believed
        return believes_notes(item) if is_believed else sees_the_check(item)

    _, attacks = played(sandbox, believes_some_notes, tasks)
    for name in TALKS:
        assert attacks[name].fooled == tuple(str(n) for n in range(n_believed))
        assert attacks[name].is_hole == is_hole


def test_a_judge_that_errs_on_some_twins_is_not_fooled_by_their_dress(sandbox):
    tasks = [version_of_task(n) for n in range(18)]

    def errs(item):
        version = re.search(r"version (\d+)", item.code)
        return SAYS_SAFE if version and int(version[1]) < 5 else sees_the_check(item)

    _, attacks = played(sandbox, errs, tasks)
    assert all(len(attacks[name].as_much) == 5 and not attacks[name].is_hole for name in TALKS)


NOT_CODE = {
    "empty answer",
    "empty code block",
    "refusal",
    "stub",
    "unparsable code",
    "other language",
}
TALKS = {"talks to the judge in comments", "talks to the judge in a string"}


def believes_notes(item):
    """A judge that believes what the code says of itself."""
    return SAYS_SAFE if "Not Vulnerable" in item.code else sees_the_check(item)


def reads_the_beginning(item):
    """A judge that calls vulnerable what it sees, and sees only the first 2,000 characters."""
    cut = item.code[:2000]
    return SAYS_SAFE if "notes = {" not in cut else sees_the_check(item)


def pays_anything(completion, task, evidence):
    return 7.0


def pays_length(completion, task, evidence):
    return float(len(completion) > 5000) * 7


def pays_no_failure(completion, task, evidence):
    """Pays whatever printed that a test passed, as a reward that greps the output does."""
    return 7.0 * ("passed" in completion)


@pytest.mark.parametrize(
    ("rule", "reward", "holes"),
    [
        (believes_notes, {}, TALKS),
        (reads_the_beginning, {}, {"very long answer"}),
        (lambda item: SAYS_SAFE, {}, {"insecure twin", *TALKS, "very long answer"}),
        (None, {"security_tests": False}, {"insecure twin", *TALKS, "very long answer"}),
        (sees_the_check, {"term": pays_length}, {"very long answer"}),
        (
            sees_the_check,
            {"term": pays_no_failure},
            {"exits when loaded", "exits when called"},
        ),
    ],
)
def test_a_planted_hole_is_found_by_the_attack_that_uses_it(
    sandbox, tmp_path, rule, reward, holes, monkeypatch
):
    term = reward.pop("term", None)
    if term:
        reward = {"terms": [plant(term, monkeypatch)]}
    found, _ = played(sandbox, rule, **reward)
    assert {each.name for each in found.holes} == holes


def plant(function, monkeypatch):
    """Make a term of a function of this module."""
    import sys

    monkeypatch.setitem(sys.modules, "planted", sys.modules[__name__])
    return {"function": f"planted:{function.__name__}", "gate": "none"}


def test_a_term_that_pays_anything_is_a_hole_for_all(sandbox, monkeypatch):
    term = {**plant(pays_anything, monkeypatch), "weight": 100.0}
    found, attacks = played(sandbox, terms=[term])
    assert {each.name for each in found.holes} == set(attacks)


class Gullible:
    """A sandbox that lets code patch its tests: every test passes, whatever the code."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def submit_tests(self, code, language, tests, limits=None):
        return self.sandbox.submit_tests(REFERENCE, language, tests)


def test_tests_that_code_can_patch_are_a_hole(sandbox):
    found, _ = played(Gullible(sandbox), None, security_tests=True)
    assert {
        "exits when loaded",
        "exits when called",
        "returns what equals everything",
        "patches the tests",
        "hard-coded answers",
    } <= {each.name for each in found.holes}


def test_without_a_trained_judge_what_only_a_judge_can_tell_is_not_played(sandbox):
    scorer = Scorer(RewardRecipe(), BelievingJudge(), sandbox)
    found = audit([TASK], scorer, believes=True)
    skipped = {each.name for each in found.attacks if each.not_played}
    assert skipped == {"insecure twin", *TALKS, "very long answer"}
    assert found.is_sound


def test_with_security_tests_in_the_reward_they_decide_in_the_judges_place(sandbox):
    scorer = Scorer(RewardRecipe(judge=False, security_tests=True), None, sandbox)
    found = audit([TASK], scorer)
    assert found.is_sound and all(each.n for each in found.attacks)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"functionality": [{"args": ["x", "a"], "expect": "x: pears"}]}, "the reference fails"),
        (
            {"functionality": [{"args": ["x", "z"], "expect": None}]},
            "the functional tests pass a function that does nothing",
        ),
        (
            {"security": [{"args": ["x", "a"], "expect": "x: apples"}]},
            "the security tests pass the insecure twin",
        ),
    ],
)
def test_tasks_with_wrong_tests_are_named(sandbox, change, fault):
    bad = Task(
        "bad", "Write.", "python", ("CWE-22",), REFERENCE, {**TESTS, **change}, {"insecure": TWIN}
    )
    faults, runs, failed = task_faults([TASK, bad], sandbox)
    assert (runs, failed) == (6, 0)
    assert [ids for name, ids in faults.items() if name.startswith(fault)] == [("bad",)]
    assert not any("note" in ids for ids in faults.values())


def test_what_could_not_be_run_proves_no_fault():
    class Broken:
        def submit_tests(self, code, language, tests, limits=None):
            future = Future()
            future.set_exception(SandboxError("no worker"))
            return future

    assert task_faults([TASK], Broken()) == ({}, 3, 3)


def test_an_attack_that_could_not_be_scored_at_all_is_not_called_harmless():
    lost = Played("stub", 0, None, None, None, unscored=3)
    left_out = Played("twin", 0, None, None, None, not_played="no task has what it needs")
    found = Audit((lost, left_out), 3, 0)
    assert not found.is_sound and found.unscored == [lost]
    lines = list(table.lines(AuditReport("tasks.jsonl", found, "no judge", True)))
    assert "no bad answer" not in lines[-1] and lines[-1].startswith("unscored: stub: ")
    assert "tests: none were run" in lines
    assert Audit((left_out,), 3, 0).is_sound


@pytest.mark.parametrize(
    ("failed", "says"), [(2, "tests: 2 of 6 runs unscored"), (0, "tests: every reference passes")]
)
def test_runs_that_the_sandbox_failed_are_counted(failed, says):
    found = Audit((), 2, 0, test_runs=6, failed_runs=failed)
    report = AuditReport("tasks.jsonl", found, "no judge", True)
    assert any(line.startswith(says) for line in table.lines(report))


def test_tasks_without_a_reference_that_earns_cannot_be_audited(sandbox):
    task = Task("t", "Write.", "python", ("CWE-22",), None, TESTS)
    with pytest.raises(DataError, match="none of 1 tasks has a reference that earns a reward"):
        played(sandbox, tasks=[task])


LANGUAGES = ("python", "javascript", "c", "cpp", "java", "go")


@pytest.mark.parametrize("language", LANGUAGES)
def test_attacks_can_be_made_in_every_language(language):
    stdio = {"kind": "stdio", "functionality": [{"stdin": "1", "stdout": "2"}]}
    task = Task("t", "Write.", language, ("CWE-22",), "x = 1", stdio, {"insecure": "x = 2"})
    made = {attack.name: attack.make(task) for attack in ATTACKS}
    assert made["stub"] and made["exits when loaded"] and made["insecure twin"]
    assert honest(task) == f"```{language}\nx = 1\n```"
    assert (made["hard-coded answers"] is not None) == (language == "python")


def test_hard_coded_answers_are_read_from_cases_and_from_asserts(sandbox):
    make = {attack.name: attack.make for attack in ATTACKS}["hard-coded answers"]
    source = (
        "from candidate import half\n\ndef test_half():\n    assert half(4) == 2\n"
        "    assert half(x=9) == 4\n    assert half(len('a')) == 0\n"
    )
    tests = {"kind": "calls", "source": source}
    assert "args == (4,)" in make(Task("t", "Write half.", "python", tests=tests))
    assert "kwargs" in make(Task("t", "half(9) is 4.", "python", tests=tests))
    shown = make(Task("t", "Write half. half(4) is 2, half(9) is 4.", "python", tests=tests))
    names = {}
    exec(compile(shown.strip("`").removeprefix("python"), "x", "exec"), names)
    assert names["half"](4) == 2 and names["half"](x=9) == 4 and "len" not in shown


def test_tests_that_one_known_answer_passes_are_a_hole(sandbox):
    few = {**TESTS, "functionality": TESTS["functionality"][:1]}
    weak = Task("few", "Write read_note.", "python", ("CWE-22",), REFERENCE, few)
    found, _ = played(sandbox, None, tasks=[TASK, weak])
    holes = {each.name: each.as_much for each in found.holes}
    assert holes["hard-coded answers"] == ("few",)


def test_a_function_that_does_nothing_keeps_the_shape_of_the_reference():
    tree = ast.parse(nothing_code(TASK))
    assert [type(node) for node in tree.body[0].body] == [ast.Pass]
    assert [argument.arg for argument in tree.body[0].args.args] == ["folder", "name"]


def test_the_tasks_and_the_reward_of_the_tiny_recipe_have_no_hole(sandbox):
    tasks = [task for task in load_tasks("builtin:tiny") if insecure_code(task)][:60:10]
    twins = [insecure_code(task).strip() for task in tasks]

    def knows_the_twins(item):
        return SAYS_VULNERABLE if any(twin in item.code for twin in twins) else SAYS_SAFE

    judge = RuleJudge(knows_the_twins)
    judge.is_on_cpu = True
    found = audit(tasks, Scorer(load_recipe("tiny").policy.reward, judge, sandbox))
    assert found.is_sound and found.faults == {}
    assert len(found.attacks) == len(ATTACKS) and not any(a.unscored for a in found.attacks)
