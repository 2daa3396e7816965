"""The reward of a recipe as the function that EasyR1 and verl call, for training on Ray.

EasyR1 (`worker.reward.reward_function=<path of this file>:compute_score`, batch mode) calls
`compute_score(reward_inputs)` with one mapping a rollout: `response`, `response_length`,
`ground_truth`, and under `metadata` the other columns of the data set. verl's batch reward manager
(`custom_reward_function.path`, `reward_manager: batch`) calls
`compute_score(data_sources=..., solution_strs=..., ground_truths=..., extra_infos=...)`; there the
columns are the `extra_info` of a row. Both pass keyword arguments of their config on: `recipe` is
the path of a recipe, whose `policy.reward`, `judge` and `sandbox` are used.

The judge must be an endpoint (`judge.endpoint`): here the trainer owns the GPUs. A rollout that
could not be scored through our own fault gets the mean of the others of its batch, since neither
trainer knows "unscored"; `unscored` counts them.
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

    For EasyR1 one mapping a rollout: `overall` (the reward), every part of it that was measured,
    and `unscored` (0 or 1). For verl's batch manager, which takes numbers only, the rewards.

    Raises:
        RecipeError: the recipe has no `policy`, or a judge that is no endpoint.
        DataError: the columns of a rollout are no task.
        JudgeError: nothing of the batch could be scored.
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
            f"none of {len(rows)} rollouts could be scored; look whether the judge's server "
            "answers and the sandbox works (`seccoderx-lite doctor`)"
        )
    instead = sum(rewards) / len(rewards)
    return [
        {
            "overall": instead if item.reward is None else item.reward,
            **{name: value for name, value in item.parts.items()
               if value is not None and name != "reward"},
            "unscored": float(item.reward is None),
        }
        for item in scored
    ]  # fmt: skip


def _task(columns: Mapping[str, Json], number: int) -> Task:
    """The task a row of columns is; its prompt, which a reward does not need, is taken out."""
    is_own_layout = "language" in columns
    missing = {"id": str(number), "prompt": "-"} if is_own_layout else {"problem": "-"}
    return task_of({**missing, **columns}, number)


@cache
def scorer_of(recipe_file: str) -> Scorer:
    """The scorer of a recipe, with its sandbox and judge, made once in the life of a worker."""
    recipe = load_recipe(recipe_file)
    reward = _reward_of(recipe)
    sandbox = open_sandbox(recipe.sandbox)
    atexit.register(sandbox.close)
    judge = Judge.at_endpoint(recipe.judge) if recipe.judge and reward.judge else None
    return Scorer(reward, judge, sandbox)


def _reward_of(recipe: Recipe) -> RewardRecipe:
    if recipe.policy is None:
        raise RecipeError(f"{recipe.name}: has no section policy, which says what is rewarded")
    reward = recipe.policy.reward
    if reward.judge and (recipe.judge is None or recipe.judge.endpoint is None):
        raise RecipeError(
            f"{recipe.name}: judge.endpoint is required here, since the trainer owns the GPUs; "
            "serve the judge (for example with vLLM) and give its url, or set "
            "policy.reward.judge: false"
        )
    return reward
