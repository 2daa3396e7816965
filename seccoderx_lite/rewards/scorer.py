"""Evidence first, reward second: run tests and ask the judge once for a batch, then score each.

Tests run in the sandbox while the judge answers; where it computes on the same cores, only then:
the two would hold each other up. Equal completions of a task share one verdict
and one test run. What could not be had through our own fault (sandbox, judge) leaves the
completion unscored.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from seccoderx_lite.core.code_blocks import CodeBlock, extract_block
from seccoderx_lite.core.records import ScoredCompletion, Task, TestResult, Verdict
from seccoderx_lite.judge.judge import CodeToJudge, Judge
from seccoderx_lite.recipe.recipe import RewardRecipe
from seccoderx_lite.rewards.composite import reward_parts
from seccoderx_lite.rewards.shape import has_real_code
from seccoderx_lite.rewards.unit_tests import submit_tests, wait_for
from seccoderx_lite.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores batches of completions; `judge` is None where the reward uses none."""

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

        `on_judged` is called when all verdicts are there and only tests are waited for.
        """
        unique = {
            (task.id, text): (task, text) for task, text in zip(tasks, completions, strict=True)
        }
        runs: dict[tuple[str, str], Future[TestResult] | None] = {}

        def start_tests() -> None:
            for key, (task, text) in unique.items():
                runs[key] = submit_tests(self.sandbox, task, text)

        judge_first = self.judge is not None and self.judge.is_on_cpu
        if not judge_first:
            start_tests()
        verdicts = self._judge(unique)
        on_judged()
        if judge_first:
            start_tests()
        scored = {
            key: self.reward(task, text, verdicts.get(key), wait_for(runs[key]))
            for key, (task, text) in unique.items()
        }
        return [scored[task.id, text] for task, text in zip(tasks, completions, strict=True)]

    def reward(
        self, task: Task, completion: str, verdict: Verdict | None, tests: TestResult | None
    ) -> ScoredCompletion:
        """Return a completion with its reward and every part of it."""
        rewards_tests = self.recipe.functional_tests
        parts = reward_parts(
            completion,
            task if rewards_tests else replace(task, tests=None),
            verdict,
            self.recipe.formula,
            tests=tests if rewards_tests else None,
            use_judge=self.recipe.judge,
            use_graded_verdict=self.recipe.graded_verdict,
            use_security_tests=self.recipe.security_tests,
        )
        return ScoredCompletion(completion, parts["reward"], parts, verdict, tests)

    def _judge(
        self, unique: dict[tuple[str, str], tuple[Task, str]]
    ) -> dict[tuple[str, str], Verdict]:
        if self.judge is None:
            return {}
        items = {}
        for key, (task, text) in unique.items():
            # Where `guarded` pays nothing for this code at all, no verdict is needed.
            can_earn = self.recipe.formula == "seccoderx" or has_real_code(
                text, task.language, task.reference
            )
            if task.cwe and can_earn:
                items[key] = code_to_judge(task, text, extract_block(text))
        verdicts = self.judge.verdicts(list(items.values()))
        return dict(zip(items, verdicts, strict=True))


def code_to_judge(task: Task, completion: str, block: CodeBlock | None) -> CodeToJudge:
    """Return what the judge reads of a completion: its code block, or all of it without one."""
    return CodeToJudge(block.code if block else completion, task.language, task.cwe)
