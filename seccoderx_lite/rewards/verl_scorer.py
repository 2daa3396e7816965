"""Scores rollouts for `verl`, with one scorer per recipe and process.

Apart from `verl.py`, which trainers load as a file: Ray then sends its functions by value, and a
lock or an open sandbox cannot be sent.
"""

import atexit
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from seccoderx_lite.core.errors import JudgeError, RecipeError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import task_of
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.recipe.recipe import Recipe, RewardRecipe, load_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion
from seccoderx_lite.rewards.gathering import Gatherer
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.run.open_sandbox import open_sandbox

Scores = list[dict[str, float]]


_RECENT = 64
_lock = threading.Lock()


def gatherer_of(recipe: str) -> Gatherer[Mapping[str, Json], dict[str, float]]:
    with _lock:  # `cache` alone would let two threads make one each
        return _new_gatherer(str(Path(recipe).resolve()))


@cache
def _new_gatherer(recipe_file: str) -> Gatherer[Mapping[str, Json], dict[str, float]]:
    recent: deque[float] = deque(maxlen=_RECENT)

    def score_all(rows: list[Mapping[str, Json]]) -> list[dict[str, float]]:
        scored = _scored(rows, recipe_file)
        recent.extend(item.reward for item in scored if item.reward is not None)
        mean_reward = _mean_reward(list(recent), len(rows))
        return [
            {
                "score": mean_reward if item.reward is None else item.reward,
                "unscored": float(item.reward is None),
            }
            for item in scored
        ]

    return Gatherer(score_all)


def all_scores(rows: Sequence[Mapping[str, Json]], recipe: str) -> Scores:
    scored = _scored(rows, recipe)
    rewards = [item.reward for item in scored if item.reward is not None]
    mean_reward = _mean_reward(rewards, len(rows))
    return [_score(item, mean_reward) for item in scored]


def _scored(rows: Sequence[Mapping[str, Json]], recipe: str) -> list[ScoredCompletion]:
    scorer = scorer_of(str(Path(recipe).resolve()))
    tasks = [_task(row["metadata"], number) for number, row in enumerate(rows, start=1)]
    return scorer.score(tasks, [row["response"] for row in rows])


def _mean_reward(rewards: Sequence[float], rows: int) -> float:
    if not rewards:
        raise JudgeError(
            f"none of {rows} rollouts could be scored; check that the judge's server answers "
            "and that the sandbox works (`seccoderx-lite doctor`)"
        )
    return sum(rewards) / len(rewards)


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
