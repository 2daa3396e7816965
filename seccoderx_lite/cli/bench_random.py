"""What `bench --random SHAPE` needs in place of a trained judge, real tasks and real answers.

Random weights write no code, which would leave judge and tests without work. So the step samples
and trains on what the model writes, at full length, but judges and tests solutions of the tasks:
each reference, made as long as the longest completion and different from every other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import in_split, load_tasks
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run import files

TASKS = "builtin:tiny"
"""The tasks of a step with random weights; they need no download."""
_MOST_TASKS = 64


def random_recipe(recipe: Recipe, shape: str, folder: Path) -> Recipe:
    """Return the recipe with random weights in a shape, for policy and judge on one base.

    The shape's config is written to a folder, so that every run reads it there.

    A cascade never reasons: the probabilities of random weights are all near 0.5, whereas a
    trained judge is unsure about a few percent.
    """
    from seccoderx_lite.models.base import resolve_base
    from seccoderx_lite.models.random_weights import PREFIX, config_of

    config_of(resolve_base(shape)).save_pretrained(folder)
    document = recipe.model_dump(mode="json")
    document["model"]["base"] = f"{PREFIX}{folder}"
    document["policy"]["tasks"] = TASKS
    if judge := document["judge"]:
        judge |= {"base": None, "endpoint": None, "unsure": [0.0, 1e-9], "canaries": {"data": None}}
        judge |= {"cold_start": None, "align": None, "adapter": judge["adapter"] or "random"}
    return check_recipe(document, "bench --random")


def with_longest_tasks(recipe: Recipe, tokenizer: Any, context: int, file: Path) -> Recipe:
    """Write tasks with the longest prompts and references a recipe allows; return it with them.

    Prompts have `model.max_prompt_tokens`, references `policy.grpo.max_completion_tokens`, less
    where the model's context ends.
    """
    from seccoderx_lite.models.generation import render_chat

    assert recipe.policy is not None
    longest = recipe.policy.grpo.max_completion_tokens
    limit = min(recipe.model.max_prompt_tokens, context - longest)

    def prompt_tokens(prompt: str) -> int:
        return len(tokenizer(render_chat(tokenizer, prompt))["input_ids"])

    def code_tokens(code: str) -> int:
        return len(tokenizer(code)["input_ids"])

    rows: list[dict[str, Json]] = []
    for task in in_split(load_tasks(TASKS), "train"):
        if task.tests and task.cwe and task.reference and len(rows) < _MOST_TASKS:
            prompt = _lengthened(task.prompt, _sentence, prompt_tokens, limit)
            code = _lengthened(task.reference, _assignment, code_tokens, longest)
            rows.append(_row(replace(task, prompt=prompt, reference=code)))
    files.write_jsonl(file, rows)
    document = recipe.model_dump(mode="json")
    document["policy"]["tasks"] = str(file)
    document["model"]["max_prompt_tokens"] = limit
    return check_recipe(document, "bench --random")


def _sentence(number: int) -> str:
    return f" Note {number}: read the text above again."


def _assignment(number: int) -> str:
    return f"\nunused_{number} = {number}"


def _lengthened(
    text: str, piece: Callable[[int], str], tokens_of: Callable[[str], int], limit: int
) -> str:
    """Return a text with as many pieces added as stay within a limit of tokens."""
    low, high = 0, limit
    while low < high:  # every piece has at least one token
        middle = (low + high + 1) // 2
        fits = tokens_of(text + "".join(map(piece, range(middle)))) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return text + "".join(map(piece, range(low)))


def _row(task: Task) -> dict[str, Json]:
    fields = ("id", "prompt", "language", "reference", "tests")
    row = {name: getattr(task, name) for name in fields}
    return {**row, "cwe": list(task.cwe), "split": "train"}


def scoring_references(scorer: type[Scorer]) -> type[Scorer]:
    """Return a scorer that scores solutions of the tasks in place of the completions."""

    class ReferenceScorer(scorer):  # type: ignore[misc,valid-type]
        def score(
            self,
            tasks: Sequence[Task],
            completions: Sequence[str],
            on_judged: Callable[[], None] = lambda: None,
        ) -> list[ScoredCompletion]:
            solutions = [
                f"```{task.language}\n{task.reference}\nrollout = {number}\n```"
                for number, task in enumerate(tasks)
            ]
            return scorer.score(self, tasks, solutions, on_judged)

    return ReferenceScorer
