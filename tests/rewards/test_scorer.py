"""Scoring a batch: identical work once; what sandbox or judge could not score is unscored."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.core.records import Task, TestResult
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.models.generation import RoleGenerator
from seccoderx_lite.recipe.recipe import JudgeRecipe, RewardRecipe
from seccoderx_lite.rewards.scorer import Scorer

CODE = "def double(x):\n    return x + x"
TASK = Task("t", "Write double(x).", "python", ("CWE-95",), CODE, {"kind": "calls"})
GOOD = f"```python\n{CODE}\n```"
WRONG = "```python\ndef double(x):\n    return x * x\n```"


class FakeSandbox:
    """Passes code that adds, fails other code, and fails every run with `breaks`."""

    def __init__(self, breaks=False):
        self.breaks = breaks
        self.runs = []

    def submit_tests(self, code, language, tests, limits=None):
        self.runs.append(code)
        future = Future()
        if self.breaks:
            future.set_exception(SandboxError("no worker"))
        else:
            works = int("x + x" in code)
            future.set_result(TestResult("passed" if works else "failed", works, 1, works, 1))
        return future


class FakeGenerator:
    """A judge that always gives the same answer."""

    def __init__(self, answer="<think>fine</think><answer>Not Vulnerable</answer>"):
        self.answer = answer
        self.asked = []

    def generate(self, prompts, *, max_new_tokens, temperature):
        self.asked += prompts
        return [self.answer for _ in prompts]


def scorer(sandbox=None, generator=None, **reward):
    judge = Judge(generator or FakeGenerator(), JudgeRecipe(base="unused"))
    return Scorer(RewardRecipe(**reward), judge, sandbox or FakeSandbox())


def test_working_code_judged_safe_earns_everything():
    (scored,) = scorer().score([TASK], [GOOD])
    assert scored.reward == pytest.approx(6.5)
    assert scored.verdict.label == "safe"
    assert scored.tests.is_functional


def test_equal_completions_share_one_verdict_and_one_test_run():
    sandbox, generator = FakeSandbox(), FakeGenerator()
    results = scorer(sandbox, generator).score([TASK] * 3, [GOOD, GOOD, WRONG])
    assert len(sandbox.runs) == len(generator.asked) == 2
    assert results[0] == results[1] != results[2]


def test_code_that_does_not_work_earns_no_security_part():
    (scored,) = scorer().score([TASK], [WRONG])
    assert scored.reward == pytest.approx(1.0)


def test_what_the_sandbox_could_not_run_is_unscored():
    (scored,) = scorer(FakeSandbox(breaks=True)).score([TASK], [GOOD])
    assert scored.reward is None


def test_what_the_judge_did_not_answer_is_unscored():
    (scored,) = scorer(generator=FakeGenerator(answer=None)).score([TASK], [GOOD])
    assert scored.reward is None
    assert scored.verdict.error


def test_a_completion_without_code_is_neither_judged_nor_run_and_scores_zero():
    sandbox, generator = FakeSandbox(), FakeGenerator()
    (scored,) = scorer(sandbox, generator).score([TASK], ["I'm sorry, I can't help."])
    assert scored.reward == 0.0
    assert sandbox.runs == generator.asked == []


def test_without_functional_tests_imitation_stands_in():
    (scored,) = scorer(functional_tests=False).score([TASK], [WRONG])
    assert scored.reward > 1.0


class OnThisMachinesCores(RoleGenerator):
    """Stands for a judge on the shared base."""

    def __init__(self, device, generate):
        super().__init__(SimpleNamespace(device=torch.device(device)), "judge", 1)
        self.generate = generate


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("a server", ["started", "judged", "waiting"]),
        ("cuda", ["started", "judged", "waiting"]),
        ("cpu", ["judged", "waiting", "started"]),
    ],
)
def test_tests_run_while_the_judge_answers_unless_it_needs_the_same_cores(device, expected):
    order = []

    class Watched(FakeSandbox):
        def submit_tests(self, *arguments):
            order.append("started")
            return super().submit_tests(*arguments)

    class Watching(FakeGenerator):
        def generate(self, prompts, **settings):
            order.append("judged")
            return super().generate(prompts, **settings)

    generator = Watching()
    if device != "a server":
        generator = OnThisMachinesCores(device, generator.generate)
    scorer(Watched(), generator).score([TASK], [GOOD], lambda: order.append("waiting"))
    assert order == expected
