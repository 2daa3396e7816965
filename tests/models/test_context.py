"""Prompts that do not fit into a model's context are left out and counted, in every stage."""

import logging
from dataclasses import replace

import pytest
import torch
from helpers.small_models import small_model, tiny_config

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.core.records import LabelledCode
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.evaluation.suites.grading import SuiteTask
from seccoderx_lite.evaluation.suites.loading import Suite
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.context import context_of, longest_prompt
from seccoderx_lite.models.generation import RoleGenerator, generate_texts, prompt_ids
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.stages import evaluation, judge_training, policy_training

CONTEXT = 256
LONG = "Do it. " * 300


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = small_model(tmp_path_factory.mktemp("m") / "m", max_position_embeddings=CONTEXT)
    return load_base(recipe_of(folder).model)


def recipe_of(folder="builtin:tiny", align=None, **grpo):
    document = {
        "name": "x",
        "model": {"base": str(folder), "quantization": "none"},
        "judge": {"align": {"data": "builtin:tiny", "max_completion_tokens": 16, **(align or {})}},
        "policy": {
            "tasks": "builtin:tiny",
            "grpo": {"max_completion_tokens": 40, **grpo},
        },
        "evaluate": {"suites": ["builtin:tiny"], "max_completion_tokens": 16},
    }
    return check_recipe(document, "x")


def test_the_room_for_a_prompt_is_the_context_without_the_answer_or_a_quarter(base):
    assert context_of(base.model) == CONTEXT
    assert longest_prompt(base.model, 16) == CONTEXT - 16
    assert longest_prompt(base.model, 4000) == CONTEXT - CONTEXT // 4


def test_a_prompt_longer_than_the_context_is_not_asked_and_counted(base, caplog):
    generator = RoleGenerator(base, "reference", 4)
    with caplog.at_level(logging.WARNING):
        texts = generator.generate([LONG, "Add."], max_new_tokens=4, temperature=0)
    assert [text is None for text in texts] == [True, False]
    assert "1 of 2 prompts are longer than 252 tokens" in caplog.text
    found = generator.answer_probabilities(["Add.", LONG], ["", ""], ("yes", "no"))
    assert [p is None for p in found] == [False, True]


class Endless(torch.nn.Module):
    """Writes the letter a as often as it is allowed to."""

    def __init__(self, letter):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = tiny_config(max_position_embeddings=CONTEXT)
        self.letter = letter

    def generate(self, input_ids, max_new_tokens, **rest):
        new = torch.full((len(input_ids), max_new_tokens), self.letter)
        return torch.cat([input_ids, new], dim=1)


def test_a_completion_ends_with_the_context(base):
    prompts = ["Add.", "Add. " * 9]
    model = Endless(base.tokenizer("a", add_special_tokens=False)["input_ids"][0])
    texts = generate_texts(
        model, base.tokenizer, prompts, max_new_tokens=4000, temperature=0, batch_size=2
    )
    asked = map(len, prompt_ids(base.tokenizer, prompts))
    assert [len(text) for text in texts] == [CONTEXT - length for length in asked]


def labelled(code):
    return LabelledCode(code, "python", ("CWE-89",), True)


def test_align_leaves_out_code_that_is_too_long_and_counts_it():
    base = load_base(recipe_of().model)
    rows = [labelled("x = 1\n"), labelled("x = 1\n" * 23_000)]  # 140 kB
    kept, dropped = judge_training._align_rows(rows, recipe_of(), base)
    assert (len(kept), dropped) == (1, 1)
    with pytest.raises(DataError, match=r"judge\.align\.data: none of 1 prompts fits into 1008"):
        judge_training._align_rows(rows[1:], recipe_of(), base)
    with pytest.raises(ModelError, match=r"judge\.align\.max_completion_tokens.*1024.*got 2000"):
        recipe = recipe_of(align={"max_completion_tokens": 2000})
        judge_training._align_rows(rows, recipe, base)


def test_rollouts_leave_out_tasks_whose_answer_would_not_fit(base):
    tasks = load_tasks("builtin:tiny")[:2]
    tasks = [tasks[0], replace(tasks[1], prompt=LONG)]
    assert policy_training._fitting(tasks, base, recipe_of()) == (tasks[:1], 1)
    with pytest.raises(DataError, match=r"none of 1 prompts fits into 216 tokens"):
        policy_training._fitting(tasks[1:], base, recipe_of())


def test_evaluation_leaves_out_tasks_that_do_not_fit(base, caplog):
    suite = Suite(
        "s", tuple(SuiteTask(str(n), text, "python", ()) for n, text in enumerate(["Add.", LONG]))
    )
    settings = recipe_of().evaluate
    with caplog.at_level(logging.WARNING):
        kept = evaluation._fitting([suite], base, settings)
    assert [task.id for task in kept[0].tasks] == ["0"]
    assert "left out 1 of 2 tasks" in caplog.text
    with pytest.raises(DataError, match="no prompt of s fits into the model's context"):
        evaluation._fitting([replace(suite, tasks=suite.tasks[1:])], base, settings)
