"""Evidence first, reward second: verdicts and test results for a whole batch, then its rewards.

Tests run in the sandbox while the judge answers. A judge on the CPU answers first, because the two
would compete for the same cores. Identical completions of a task share one verdict and one test
run. A completion is unscored if the sandbox or the judge failed.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from seccoderx_lite.core.records import Task, TestResult, Verdict
from seccoderx_lite.judge.judge import CodeToJudge, Judge
from seccoderx_lite.recipe.recipe import RewardRecipe
from seccoderx_lite.rewards.answers import ParsedAnswer, ScoredCompletion, parse_answer
from seccoderx_lite.rewards.reward_formula import GuardedTerms, parts_of
from seccoderx_lite.rewards.terms import Evidence, Term, loaded_terms
from seccoderx_lite.rewards.unit_tests import submit_tests, wait_for
from seccoderx_lite.sandbox import Sandbox

_Key = tuple[str, str]
"""Task id and completion."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores batches of completions; `judge` is None where the reward does not use one."""

    recipe: RewardRecipe
    judge: Judge | None
    sandbox: Sandbox

    def score(
        self,
        tasks: Sequence[Task],
        completions: Sequence[str],
        on_judged: Callable[[], None] = lambda: None,
    ) -> list[ScoredCompletion]:
        """Return one scored completion each, in order.

        `on_judged` is called when all verdicts are known and only tests are still running.
        """
        keys = [(task.id, text) for task, text in zip(tasks, completions, strict=True)]
        task_of = dict(zip(keys, tasks, strict=True))
        answers = {key: parse_answer(key[1], task) for key, task in task_of.items()}
        runs: dict[_Key, Future[TestResult] | None] = {}

        def start_tests() -> None:
            for key, answer in answers.items():
                runs[key] = submit_tests(self.sandbox, task_of[key], answer.code)

        judge_first = self.judge is not None and self.judge.is_on_cpu
        if not judge_first:
            start_tests()
        verdicts = self._judge(task_of, answers)
        on_judged()
        if judge_first:
            start_tests()
        scored = {
            key: self.reward(task_of[key], answer, verdicts.get(key), wait_for(runs[key]))
            for key, answer in answers.items()
        }
        for term in loaded_terms(self.recipe.terms):
            scored = _with_term(term, task_of, scored)
        return [scored[key] for key in keys]

    def reward(
        self, task: Task, answer: ParsedAnswer, verdict: Verdict | None, tests: TestResult | None
    ) -> ScoredCompletion:
        """Return a completion with its reward and every part of it, without `terms`."""
        recipe = self.recipe
        parts = parts_of(
            answer,
            task if recipe.functional_tests else replace(task, tests=None),
            verdict,
            tests if recipe.functional_tests else None,
            recipe.formula,
            GuardedTerms(recipe.judge, recipe.graded_verdict, recipe.security_tests),
        )
        return ScoredCompletion(answer, parts["reward"], parts, verdict, tests)

    def _judge(
        self, task_of: Mapping[_Key, Task], answers: Mapping[_Key, ParsedAnswer]
    ) -> dict[_Key, Verdict]:
        if self.judge is None:
            return {}
        # `guarded` pays nothing for code that is not real, whatever the verdict.
        items = {
            key: code_to_judge(task_of[key], answer)
            for key, answer in answers.items()
            if task_of[key].cwe and (self.recipe.formula == "seccoderx" or answer.is_real_code)
        }
        verdicts = self.judge.verdicts(list(items.values()))
        return dict(zip(items, verdicts, strict=True))


def _with_term(
    term: Term, task_of: Mapping[_Key, Task], scored: Mapping[_Key, ScoredCompletion]
) -> dict[_Key, ScoredCompletion]:
    """Add a term to the reward of the completions for which its gate is open."""
    open_to = [key for key, item in scored.items() if term.is_open(item.parts)]
    values = term.values(
        [key[1] for key in open_to],
        [task_of[key] for key in open_to],
        [_evidence(scored[key]) for key in open_to],
    )
    found = dict(zip(open_to, values, strict=True))
    return {
        key: _plus(item, term, found[key])
        if key in found
        else _plus(item, term, 0.0, is_open=False)
        for key, item in scored.items()
    }


def _evidence(item: ScoredCompletion) -> Evidence:
    return Evidence(item.answer.code, item.parts, item.verdict, item.tests)


def _plus(
    item: ScoredCompletion, term: Term, value: float | None, *, is_open: bool = True
) -> ScoredCompletion:
    lacks = item.reward is None or value is None
    reward = None if lacks else (item.reward or 0.0) + term.recipe.weight * (value or 0.0)
    failed = float(is_open and value is None)
    parts = {**item.parts, term.name: value if is_open else None, f"{term.name}_failed": failed}
    return replace(item, reward=reward, parts={**parts, "reward": reward})


def code_to_judge(task: Task, answer: ParsedAnswer) -> CodeToJudge:
    """Return what the judge reads of a completion: its code, or all of it without any."""
    return CodeToJudge(answer.code or answer.completion, task.language, task.cwe)
