"""The judge of a run: its own adapter, another base, or a server."""

from pathlib import Path

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.judge.unsure_band import unsure_band
from seccoderx_lite.models.adapters import Role, attach_adapter
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.recipe.recipe import JudgeRecipe, ModelRecipe, Recipe
from seccoderx_lite.run.folder import RunFolder


def judge_of(whole: Recipe, folder: RunFolder, base: Base) -> tuple[Judge | None, Path | None]:
    """Return a run's judge, and its adapter where it shares the policy's base.

    Raises:
        ModelError: no judge has been trained yet.
    """
    recipe, policy = whole.judge, whole.policy
    if recipe is None or (policy and not policy.reward.judge):
        return None, None
    if recipe.endpoint:
        return Judge.at_endpoint(recipe), None
    adapter = Path(recipe.adapter) if recipe.adapter else folder.judge_adapter
    has_adapter = recipe.adapter is not None or adapter.is_dir()
    if recipe.base:
        own = second_base(whole.model, recipe, adapter if has_adapter else None)
        role: Role = "judge" if has_adapter else "reference"
        return Judge.on(own, recipe, role, unsure_band(adapter)), None
    if not has_adapter:
        raise ModelError(
            "judge: there is no trained judge adapter in the run folder; "
            "run the stages cold_start or align first, or set judge.adapter"
        )
    return Judge.on(base, recipe, unsure=unsure_band(adapter)), adapter


def second_base(model: ModelRecipe, judge: JudgeRecipe, adapter: Path | None) -> Base:
    """Load the judge's own base beside the policy's; without an adapter the base itself judges."""
    other = load_base(model.model_copy(update={"base": judge.base}))
    if adapter:
        attach_adapter(other, adapter, "judge")
    return other
