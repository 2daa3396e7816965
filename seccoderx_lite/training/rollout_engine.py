"""Which engine samples the rollouts of a run: measured once, then kept in the run folder."""

from seccoderx_lite.models.base import Base
from seccoderx_lite.models.engine_choice import RolloutEngine, faster_engine, with_engine
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder

_KEY = "rollout_engine"


def with_chosen_engine(recipe: Recipe, folder: RunFolder, base: Base) -> Recipe:
    """Return the recipe with an engine in place of `rollout_engine: auto`.

    A resumed run and its evaluation use the engine that the run began with. The base must have no
    adapter.

    Raises:
        RunFolderError: the file of the choice is damaged.
    """
    if recipe.policy is None or recipe.policy.grpo.rollout_engine != "auto":
        return recipe
    name: RolloutEngine
    if folder.rollout_engine.exists():
        stored = files.read_object(folder.rollout_engine).get(_KEY)
        name = "vllm" if stored == "vllm" else "generate"
    else:
        name = faster_engine(recipe, base)
        files.write_json(folder.rollout_engine, {_KEY: name})
    return with_engine(recipe, name)
