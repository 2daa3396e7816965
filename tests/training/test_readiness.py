"""What is seen of the policy before it trains."""

import pytest
from helpers.small_runs import small_recipe

from seccoderx_lite.core.records import Task
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.training import readiness
from seccoderx_lite.training.readiness import Readiness, measure_readiness, report_readiness

TESTS = {"kind": "calls", "entry_point": "next", "functionality": [{"args": [1], "expect": 2}]}
WORKS = "```python\ndef next(n):\n    return n + 1\n```"


class Answers:
    """Gives every task its answer, and draws random numbers as sampling does."""

    def __init__(self, *arguments):
        pass

    def generate(self, prompts, *, max_new_tokens, temperature):
        import torch

        torch.rand(3)
        return [ANSWERS[prompt] for prompt in prompts]


ANSWERS = {
    "works": WORKS,
    "fails": WORKS.replace("+", "-"),
    "prose": "I cannot do that.",
    "cut": "```python\ndef next(n):\n    return",
}


def test_function_code_and_truncation_are_counted(monkeypatch):
    import torch

    monkeypatch.setattr(readiness, "RoleGenerator", Answers)
    recipe = small_recipe(max_completion_tokens=60)
    tasks = [Task(name, name, "python", tests=TESTS) for name in ANSWERS]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with Sandbox("limits-only", 1) as sandbox:
        found = measure_readiness(load_base(recipe.model), tasks, recipe.policy, sandbox, seed=0)
    assert found == Readiness(tasks=4, functional=0.25, with_code=0.5, truncated=0.25, unscored=0)
    assert torch.equal(torch.rand(1), expected)  # training draws the same numbers afterwards


@pytest.mark.parametrize(
    ("functional", "truncated", "warning"),
    [
        (0.0, 0.5, "Add policy.warm_start, .*or raise policy.grpo.max_completion_tokens"),
        (0.0, 0.0, "Add policy.warm_start, use a stronger base or easier tasks$"),
        (0.4, 0.5, None),
        (None, 0.5, None),
    ],
)
def test_a_policy_that_can_do_nothing_is_warned_about(functional, truncated, warning, caplog):
    import re

    caplog.set_level("INFO")
    report_readiness(Readiness(32, functional, 0.5, truncated, 0))
    assert "one completion for each of 32 tasks" in caplog.messages[0]
    assert bool(re.search(warning or "GRPO learns", caplog.messages[-1])) is bool(warning)


def test_the_check_can_be_turned_off():
    document = small_recipe().model_dump(mode="json")
    document["policy"]["check_tasks"] = 0
    assert check_recipe(document, "x").policy.check_tasks == 0
