"""The reward of a recipe as the function that EasyR1 and verl call, for training on Ray.

EasyR1 (`worker.reward.reward_function=<path of this file>:compute_score`, batch mode) calls
`compute_score(reward_inputs)` with one mapping per rollout: `response`, `response_length`,
`ground_truth`, and the other columns of the data set under `metadata`. verl's batch reward manager
(`custom_reward_function.path`, `reward_manager: batch`) calls
`compute_score(data_sources=..., solution_strs=..., ground_truths=..., extra_infos=...)`; there
`extra_infos` has the columns. Both pass on keyword arguments of their config: `recipe` is the path
of a recipe, whose `policy.reward`, `judge` and `sandbox` are used.

The judge must be a server (`judge.endpoint`), because the trainer uses the GPUs. Neither trainer
supports unscored rollouts: a rollout gets the mean reward of its batch if judge or sandbox failed,
and `unscored` is 1 for it.
"""

import atexit
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from seccoderx_lite.core.errors import JudgeError, RecipeError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import task_of
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.recipe.recipe import Recipe, RewardRecipe, load_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run.open_sandbox import open_sandbox

Scores = list[dict[str, float]]


def compute_score(
    reward_inputs: Sequence[Mapping[str, Json]] | None = None,
    *,
    recipe: str,
    data_sources: Sequence[Json] = (),
    solution_strs: Sequence[str] = (),
    ground_truths: Sequence[Json] = (),
    extra_infos: Sequence[Mapping[str, Json]] = (),
) -> Scores | list[float]:
    """Return the scores of a batch, in order.

    For EasyR1 one mapping per rollout: `overall` (the reward), every measured part of it, and
    `unscored` (0 or 1). For verl's batch manager, which only accepts numbers, the rewards.

    Raises:
        RecipeError: the recipe has no `policy`, or its judge is not an endpoint.
        DataError: the columns of a rollout do not make a task.
        JudgeError: no rollout of the batch could be scored.
    """
    if reward_inputs is None:
        rows = [
            {"response": text, "metadata": info}
            for text, info in zip(solution_strs, extra_infos, strict=True)
        ]
        return [score["overall"] for score in _scores(rows, recipe)]
    return _scores(reward_inputs, recipe)


def _scores(rows: Sequence[Mapping[str, Json]], recipe: str) -> Scores:
    scorer = scorer_of(str(Path(recipe).resolve()))
    tasks = [_task(row["metadata"], number) for number, row in enumerate(rows, start=1)]
    scored = scorer.score(tasks, [row["response"] for row in rows])
    rewards = [item.reward for item in scored if item.reward is not None]
    if not rewards:
        raise JudgeError(
            f"none of {len(rows)} rollouts could be scored; check that the judge's server answers "
            "and that the sandbox works (`seccoderx-lite doctor`)"
        )
    mean_reward = sum(rewards) / len(rewards)
    return [_score(item, mean_reward) for item in scored]


def _score(item: ScoredCompletion, mean_reward: float) -> dict[str, float]:
    parts = {name: value for name, value in item.parts.items() if value is not None}
    reward = parts.pop("reward", mean_reward)
    return {"overall": reward, **parts, "unscored": float(item.reward is None)}


def _task(columns: Mapping[str, Json], number: int) -> Task:
    """The task of a row. The data loader removes the prompt, which the reward does not need."""
    is_own_layout = "language" in columns
    missing = {"id": str(number), "prompt": "-"} if is_own_layout else {"problem": "-"}
    return task_of({**missing, **columns}, number)


@cache
def scorer_of(recipe_file: str) -> Scorer:
    """The scorer of a recipe with its sandbox and judge; made once per worker process."""
    recipe = load_recipe(recipe_file)
    reward = _reward_of(recipe)
    sandbox = open_sandbox(recipe.sandbox)
    atexit.register(sandbox.close)
    judge = Judge.at_endpoint(recipe.judge) if recipe.judge and reward.judge else None
    return Scorer(reward, judge, sandbox)


def _reward_of(recipe: Recipe) -> RewardRecipe:
    if recipe.policy is None:
        raise RecipeError(
            f"{recipe.name}: has no policy section; add one, its policy.reward defines the reward"
        )
    reward = recipe.policy.reward
    if reward.judge and (recipe.judge is None or recipe.judge.endpoint is None):
        raise RecipeError(
            f"{recipe.name}: judge.endpoint is required here, because the trainer uses the GPUs; "
            "serve the judge (for example with vLLM) and set judge.endpoint.url, or set "
            "policy.reward.judge: false"
        )
    return reward
