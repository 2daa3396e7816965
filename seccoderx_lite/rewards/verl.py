"""The reward of a recipe as the function that EasyR1 and verl call, for training on Ray.

EasyR1 (`worker.reward.reward_function=<path of this file>:compute_score`, batch mode) calls
`compute_score(reward_inputs)` with one mapping per rollout: `response`, `response_length`,
`ground_truth`, and the other columns of the data set under `metadata`. verl
(`reward.custom_reward_function.path` and `.name`) calls it for one rollout at a time, from several
threads or processes: `compute_score(data_source=..., solution_str=..., ground_truth=...,
extra_info=...)`, where `extra_info` has the columns. Its former batch manager passes lists
(`data_sources=..., solution_strs=..., ground_truths=..., extra_infos=...`). All pass on keyword
arguments of their config: `recipe` is the path of a recipe, whose `policy.reward`, `judge` and
`sandbox` are used.

The judge must be a server (`judge.endpoint`), because the trainer uses the GPUs. Neither trainer
supports unscored rollouts: a rollout gets the mean reward of its batch if judge or sandbox failed,
and `unscored` is 1 for it. For verl that is the mean of the last rollouts of its process.
"""

from collections.abc import Mapping, Sequence

from seccoderx_lite.core.records import Json
from seccoderx_lite.rewards.verl_scorer import Scores, all_scores, gatherer_of


def compute_score(
    reward_inputs: Sequence[Mapping[str, Json]] | None = None,
    *,
    recipe: str,
    data_sources: Sequence[Json] = (),
    solution_strs: Sequence[str] = (),
    ground_truths: Sequence[Json] = (),
    extra_infos: Sequence[Mapping[str, Json]] = (),
    data_source: Json = None,
    solution_str: str | None = None,
    ground_truth: Json = None,
    extra_info: Mapping[str, Json] | None = None,
) -> Scores | list[float] | dict[str, float]:
    """Return the scores of a batch, in order, or of one rollout.

    For EasyR1 one mapping per rollout: `overall` (the reward), every measured part of it, and
    `unscored` (0 or 1). For one rollout of verl `score` and `unscored`, because verl needs the same
    keys for all. For verl's batch manager, which only accepts numbers, the rewards.

    Raises:
        RecipeError: the recipe has no `policy`, or its judge is not an endpoint.
        DataError: the columns of a rollout do not make a task.
        JudgeError: no rollout of the batch could be scored.
    """
    if solution_str is not None:
        return gatherer_of(recipe).score({"response": solution_str, "metadata": extra_info or {}})
    if reward_inputs is None:
        rows = [
            {"response": text, "metadata": info}
            for text, info in zip(solution_strs, extra_infos, strict=True)
        ]
        return [score["overall"] for score in all_scores(rows, recipe)]
    return all_scores(reward_inputs, recipe)
