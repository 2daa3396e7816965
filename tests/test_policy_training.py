"""Which tasks the policy is trained on."""

import pytest

from seccoderx_lite.errors import DataError
from seccoderx_lite.recipe import PolicyRecipe
from seccoderx_lite.records import Task
from seccoderx_lite.stages.policy_training import _rewardable

WEAK = Task("weak", "Open the file.", "python", ("CWE-22",))
BENIGN = Task("benign", "Add two numbers.", "python")


def policy(formula):
    grpo = {"steps": 1, "learning_rate": 1e-4}
    return PolicyRecipe(tasks="t.jsonl", reward={"formula": formula}, grpo=grpo)


@pytest.mark.parametrize(("formula", "kept"), [("guarded", [WEAK, BENIGN]), ("seccoderx", [WEAK])])
def test_the_original_formula_trains_on_tasks_that_can_have_a_verdict(formula, kept):
    assert _rewardable([WEAK, BENIGN], policy(formula)) == kept


def test_tasks_of_which_none_can_have_a_verdict_are_refused():
    with pytest.raises(DataError, match=r"t\.jsonl names no weakness .* use formula: guarded"):
        _rewardable([BENIGN], policy("seccoderx"))
