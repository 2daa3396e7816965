"""The judge of a run: an adapter on the policy's base, a second base, or a server."""

from pathlib import Path

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.judge.unsure_band import unsure_band
from seccoderx_lite.models.adapters import Role, attach_adapter
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.recipe.recipe import JudgeRecipe, ModelRecipe, Recipe
from seccoderx_lite.run.folder import RunFolder


def judge_of(recipe: Recipe, folder: RunFolder, base: Base) -> tuple[Judge | None, Path | None]:
    """Return a run's judge, and its adapter if it shares the policy's base.

    The judge is None if the recipe has none or does not reward its verdicts.

    Raises:
        ModelError: the judge of this run is not trained yet.
    """
    judge, policy = recipe.judge, recipe.policy
    if judge is None or (policy and not policy.reward.judge):
        return None, None
    if judge.endpoint:
        return Judge.at_endpoint(judge), None
    adapter = Path(judge.adapter) if judge.adapter else folder.judge_adapter
    has_adapter = judge.adapter is not None or adapter.is_dir()
    if judge.base:
        own = second_base(recipe.model, judge, adapter if has_adapter else None)
        role: Role = "judge" if has_adapter else "reference"
        return Judge.on(own, judge, role, unsure_band(adapter)), None
    if not has_adapter:
        raise ModelError(
            f"judge: there is no trained judge adapter in {adapter}; run the stage cold_start or "
            "align first, or set judge.adapter"
        )
    return Judge.on(base, judge, unsure=unsure_band(adapter)), adapter


def second_base(model: ModelRecipe, judge: JudgeRecipe, adapter: Path | None) -> Base:
    """Load the judge's own base in addition to the policy's, with the judge's adapter if any."""
    other = load_base(model.model_copy(update={"base": judge.base}), is_other=True)
    if adapter:
        attach_adapter(other, adapter, "judge")
    return other
