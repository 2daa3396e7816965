"""The metadata block of a model card, which model hubs read and index."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from yaml import YAMLError

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.hub import is_hub_reachable, may_be_hub_id
from seccoderx_lite.core.scores import CodeMetric, Evaluation
from seccoderx_lite.data.loading import each_source
from seccoderx_lite.models.base import resolve_base
from seccoderx_lite.models.gguf import without_precision
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.recipe.results import Format
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder

Role = Literal["policy", "judge"]

_METRICS: dict[CodeMetric, str] = {
    "functional": "share of functional tests passed",
    "secure": "share of samples that pass all security tests",
    "esr": "Effective Safety Rate",
}


def card_metadata(
    recipe: Recipe, folder: RunFolder, form: Format, role: Role, base: str
) -> ModelCardData:
    """Return the metadata of an export's card; what is not known is left out."""
    kind = without_precision(form)
    licence = base_licence(base)
    results = list(_code_results(folder) if role == "policy" else _judge_results(folder))
    base_on_hub = base if _is_on_hub(base) else None
    return ModelCardData(
        base_model=base_on_hub,
        base_model_relation=(
            None if base_on_hub is None else "adapter" if kind == "adapter" else "finetune"
        ),
        library_name={"adapter": "peft", "merged": "transformers", "gguf": "gguf"}[kind],
        license=licence.license,
        license_name=licence.license_name,
        license_link=licence.license_link,
        datasets=[source for source in _sources(recipe, role) if _is_on_hub(source)] or None,
        pipeline_tag="text-generation",
        tags=["code", "security", "lora", "grpo", "seccoderx-lite"],
        model_name=recipe.name,
        eval_results=results or None,
    )


def base_licence(base: str) -> ModelCardData:
    """Return the licence that the card of a base names; empty where there is no such card."""
    place = Path(resolve_base(base) if base.startswith("builtin:") else base)
    try:
        if place.is_dir():
            card = ModelCard.load(place / "README.md", ignore_metadata_errors=True)
        elif _is_on_hub(base) and is_hub_reachable():
            card = ModelCard.load(base, ignore_metadata_errors=True)
        else:
            return ModelCardData()
    except (OSError, ValueError, YAMLError):  # no card, a card that is not one, or no access to it
        return ModelCardData()
    data = card.data
    return ModelCardData(
        license=data.license, license_name=data.license_name, license_link=data.license_link
    )


def _is_on_hub(name: str) -> bool:
    """Whether a name is a hub id; a hub refuses a card that names a folder as one."""
    return may_be_hub_id(name) and not Path(name).exists()


def _sources(recipe: Recipe, role: Role) -> Iterator[str]:
    """Yield where the training data came from."""
    given: list[str | list[str] | None] = []
    if role == "policy" and (policy := recipe.policy):
        given = [policy.warm_start.data if policy.warm_start else None, policy.tasks]
    elif role == "judge" and (judge := recipe.judge):
        given = [section.data for section in (judge.cold_start, judge.align) if section]
    named = (str(source) for sources in given if sources for source in each_source(sources))
    yield from dict.fromkeys(named)


def _code_results(folder: RunFolder) -> Iterator[EvalResult]:
    try:
        evaluation = files.read_record(folder.path / "evaluation.json", Evaluation)
    except RunFolderError:
        return
    for suite in evaluation.suites:
        scores = evaluation.result("after", suite)
        for metric, name in _METRICS.items():
            if scores and (value := scores.value(metric)) is not None:
                yield _result(suite, metric, name, value)


def _judge_results(folder: RunFolder) -> Iterator[EvalResult]:
    for stage in ("align", "cold_start"):
        if folder.is_done(stage) and (splits := folder.read_summary(stage).get("held_out")):
            for split, scores in splits.items():
                if (accuracy := scores["accuracy"]) is not None:
                    yield _result(split, "accuracy", "accuracy of verdicts", accuracy)
            return


def _result(dataset: str, metric: str, name: str, value: float) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name=dataset,
        metric_type=metric,
        metric_name=name,
        metric_value=round(value, 4),
    )
