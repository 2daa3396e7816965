"""Reward known bad answers before training: does one of them earn too much?

The reference of each task is the honest answer. A bad answer that earns as much would be found by
the policy. Tasks whose own tests are wrong are named too: they pay the same to everybody.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import binomtest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Task, TestResult, Verdict
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.recipe.recipe import RewardRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion
from seccoderx_lite.rewards.attacks import (
    ATTACKS,
    Attack,
    honest,
    insecure_code,
    nothing_code,
    undressed,
)
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.rewards.unit_tests import submit_tests, wait_for
from seccoderx_lite.sandbox import Sandbox

AS_MUCH = 0.95
"""From this share of the honest reward on, a bad answer earns as much as honest code."""
JUDGE_ERRS = 1 / 3
"""Share of the tasks on which a judge may err before its errors are a hole; tests have no such
margin."""
CHANCE = 0.05
"""Level of the sign test that tells a dress that fools the judge from a judge that errs."""


class BelievingJudge:
    """In the place of a judge that is not trained yet: it calls everything safe.

    So attacks earn the most that they could with any judge.
    """

    is_on_cpu = True

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return a safe verdict per item."""
        return [Verdict("safe", p_vulnerable=0.0) for _ in items]


@dataclass(frozen=True, slots=True)
class Played:
    """What one attack earned, over the tasks to which it applies and that could be scored."""

    name: str
    n: int
    earned: float | None
    """Mean reward; None if nothing was scored."""
    honest: float | None
    """Mean reward of honest code on the same tasks."""
    most: float | None
    """What it should earn at most, on average."""
    as_much: tuple[str, ...] = ()
    """Tasks on which it earns as much as honest code."""
    unscored: int = 0
    not_played: str = ""
    """Why it was not played; empty if it was."""
    margin: float = 0.0
    """Share of the tasks on which it may earn as much as honest code."""
    fooled: tuple[str, ...] = ()
    """Tasks on which it earns as much as honest code, and does not without its dress."""
    caught: int = 0
    """How many tasks it is the other way round on, by the chance of the judge's errors."""

    @property
    def is_hole(self) -> bool:
        """Whether it earns as much as honest code: on any task, or where a judge errs on many.

        A dress is also a hole if it fools the judge more often than the judge errs by chance: by
        the sign test over the tasks on which the dress makes a difference.
        """
        return len(self.as_much) > self.margin * self.n or self._fools

    @property
    def _fools(self) -> bool:
        differ = len(self.fooled) + self.caught
        return differ > 0 and bool(
            binomtest(len(self.fooled), differ, alternative="greater").pvalue < CHANCE
        )

    @property
    def is_too_much(self) -> bool:
        """Whether it earns more than it should, though less than honest code."""
        return self.earned is not None and self.most is not None and self.earned > self.most + 1e-6


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit."""

    attacks: tuple[Played, ...]
    n_tasks: int
    without_reference: int
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task ids by what is wrong with their tests."""
    test_runs: int = 0
    """Runs of tests that looked for faults."""
    failed_runs: int = 0
    """How many of them the sandbox failed, so that they prove nothing."""

    @property
    def holes(self) -> list[Played]:
        return [played for played in self.attacks if played.is_hole]

    @property
    def unscored(self) -> list[Played]:
        """Attacks of which nothing is known, because none of their answers could be scored."""
        return [played for played in self.attacks if played.unscored and not played.n]

    @property
    def is_sound(self) -> bool:
        """Whether every attack that was played is known to earn less than honest code."""
        return not self.holes and not self.unscored


def audit(
    tasks: Sequence[Task],
    scorer: Scorer,
    *,
    believes: bool = False,
    on_played: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """Try every attack on the tasks; `believes` says that `scorer` has a `BelievingJudge`.

    Raises:
        DataError: no task has a reference whose reward is known, so there is nothing to compare.
    """
    answers = {task.id: text for task in tasks if (text := honest(task)) is not None}
    with_reference = [task for task in tasks if task.id in answers]
    best = _rewards(scorer, with_reference, [answers[task.id] for task in with_reference])
    base = {t.id: r for t, r in zip(with_reference, best, strict=True) if r is not None and r > 0}
    if not base:
        raise DataError(
            f"none of {len(tasks)} tasks has a reference that earns a reward, so bad answers "
            "cannot be compared with honest code; see that references pass their tests, that the "
            "judge answers, and that the sandbox works (`seccoderx-lite doctor`)"
        )
    plain = _undressed(with_reference, base, scorer, believes=believes)
    played = []
    for number, attack in enumerate(ATTACKS):
        on_played(number, len(ATTACKS) + 1)
        played.append(_play(attack, with_reference, base, scorer, plain, believes=believes))
    on_played(len(ATTACKS), len(ATTACKS) + 1)
    faults, runs, failed = task_faults(tasks, scorer.sandbox)
    on_played(len(ATTACKS) + 1, len(ATTACKS) + 1)
    return Audit(tuple(played), len(tasks), len(tasks) - len(with_reference), faults, runs, failed)


def _rewards(
    scorer: Scorer, tasks: Sequence[Task], completions: Sequence[str]
) -> list[float | None]:
    scored: list[ScoredCompletion] = scorer.score(tasks, completions) if tasks else []
    return [item.reward for item in scored]


def _play(
    attack: Attack,
    tasks: Sequence[Task],
    base: Mapping[str, float],
    scorer: Scorer,
    plain: Mapping[str, bool],
    *,
    believes: bool,
) -> Played:
    if reason := _unplayable(attack, scorer.recipe, believes=believes):
        return Played(attack.name, 0, None, None, None, not_played=reason)
    made = [(t, text) for t in tasks if t.id in base and (text := attack.make(t)) is not None]
    if attack.needs_security:  # a task without a weakness has nothing to be insecure in
        made = [(task, text) for task, text in made if task.cwe]
    if not made:
        return Played(attack.name, 0, None, None, None, not_played="no task has what it needs")
    rewards = _rewards(scorer, [task for task, _ in made], [text for _, text in made])
    base = _in_same_dress(attack, [task for task, _ in made], base, scorer)
    pairs = [
        (task.id, reward, base[task.id])
        for (task, _), reward in zip(made, rewards, strict=True)
        if reward is not None
    ]
    if not pairs:
        return Played(attack.name, 0, None, None, None, unscored=len(made))
    best = math.fsum(good for _, _, good in pairs) / len(pairs)
    as_much = tuple(name for name, bad, good in pairs if bad >= AS_MUCH * good)
    without = plain if attack.like else {}
    return Played(
        attack.name,
        len(pairs),
        math.fsum(bad for _, bad, _ in pairs) / len(pairs),
        best,
        0.0 if _pays_nothing(attack, scorer.recipe) else AS_MUCH * best,
        as_much,
        len(made) - len(pairs),
        margin=JUDGE_ERRS if attack.needs_security and scorer.judge else 0.0,
        fooled=tuple(name for name in as_much if without.get(name) is False),
        caught=sum(without.get(name, False) for name, *_ in pairs if name not in as_much),
    )


def _undressed(
    tasks: Sequence[Task], base: Mapping[str, float], scorer: Scorer, *, believes: bool
) -> dict[str, bool]:
    """Whether the bad code of the dressed attacks earns as much as honest code without its dress.

    For each task with a weakness that is scored; empty where no trained judge is rewarded, since
    tests see no dress.
    """
    if not scorer.judge or _cannot_judge(scorer.recipe, believes=believes):
        return {}
    made = [(t, text) for t in tasks if t.id in base and t.cwe and (text := undressed(t))]
    rewards = _rewards(scorer, [task for task, _ in made], [text for _, text in made])
    return {
        task.id: reward >= AS_MUCH * base[task.id]
        for (task, _), reward in zip(made, rewards, strict=True)
        if reward is not None
    }


def _in_same_dress(
    attack: Attack, tasks: Sequence[Task], base: Mapping[str, float], scorer: Scorer
) -> Mapping[str, float]:
    """The reward of honest code, or of honest code that looks like the attack if that is less."""
    if attack.like is None:
        return base
    texts = [attack.like(task) or "" for task in tasks]
    rewards = _rewards(scorer, tasks, texts)
    return {
        task.id: min(base[task.id], reward if reward is not None and reward > 0 else math.inf)
        for task, reward in zip(tasks, rewards, strict=True)
    }


def _unplayable(attack: Attack, recipe: RewardRecipe, *, believes: bool) -> str:
    needs_judge = attack.needs_security and _cannot_judge(recipe, believes=believes)
    return "needs the trained judge" if needs_judge else ""


def _cannot_judge(recipe: RewardRecipe, *, believes: bool) -> bool:
    """Whether neither a trained judge nor security tests can tell bad code from good."""
    return believes and not recipe.security_tests


def _pays_nothing(attack: Attack, recipe: RewardRecipe) -> bool:
    """Whether the formula pays nothing for what is not code; a term without a gate may."""
    has_open_term = any(term.gate == "none" for term in recipe.terms)
    return attack.earns_nothing and recipe.formula == "guarded" and not has_open_term


FAULTS: Mapping[str, tuple[Callable[[Task], str | None], Callable[[TestResult], bool]]] = {
    "the reference fails its own tests": (
        lambda task: task.reference,
        lambda result: result.status != "passed",
    ),
    "the functional tests pass a function that does nothing": (
        nothing_code,
        lambda result: result.is_functional,
    ),
    "the security tests pass the insecure twin": (
        insecure_code,
        lambda result: result.is_functional and result.is_secure,
    ),
}
"""What can be wrong with tests: the code to run, and which result shows it."""


def task_faults(
    tasks: Sequence[Task], sandbox: Sandbox
) -> tuple[dict[str, tuple[str, ...]], int, int]:
    """Return the ids of the tasks with each fault, the runs that were made, and those that failed.

    A run that the sandbox failed proves no fault.
    """
    found: dict[str, tuple[str, ...]] = {}
    made = failed = 0
    for fault, (make, shows) in FAULTS.items():
        runs: list[tuple[Task, Any]] = [
            (task, submit_tests(sandbox, task, code)) for task in tasks if (code := make(task))
        ]
        results = [(task.id, wait_for(run)) for task, run in runs if run is not None]
        made += len(results)
        failed += sum(result is None for _, result in results)
        if names := tuple(name for name, result in results if result and shows(result)):
            found[fault] = names
    return found, made, failed
