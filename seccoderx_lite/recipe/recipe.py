"""A recipe: one YAML file, one run, one strict model.

Its sections are in `recipe_sections`; reading YAML and wording faults is in `recipe_reading`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from seccoderx_lite.recipe.reading import (
    Fault,
    faults_of,
    invalid,
    parse_override,
    read_document,
    section_of,
    to_yaml,
    value_at,
    with_value,
)
from seccoderx_lite.recipe.sections import (
    AlarmsRecipe,
    AlignRecipe,
    CanariesRecipe,
    ColdStartRecipe,
    EndpointRecipe,
    EvaluateRecipe,
    ExportRecipe,
    FunctionalityJudgeRecipe,
    GrpoRecipe,
    JudgeRecipe,
    LoraRecipe,
    ModelRecipe,
    PolicyRecipe,
    RewardRecipe,
    SandboxRecipe,
    Section,
)

__all__ = [
    "AlarmsRecipe",
    "AlignRecipe",
    "CanariesRecipe",
    "ColdStartRecipe",
    "EndpointRecipe",
    "EvaluateRecipe",
    "ExportRecipe",
    "FunctionalityJudgeRecipe",
    "GrpoRecipe",
    "JudgeRecipe",
    "LoraRecipe",
    "ModelRecipe",
    "PolicyRecipe",
    "Recipe",
    "RewardRecipe",
    "RunName",
    "SandboxRecipe",
    "check_as",
    "check_recipe",
    "deciding_fields",
    "differing_keys",
    "dump_recipe",
    "load_as",
    "load_recipe",
    "recipe_fingerprint",
    "with_paths_from",
]

_LOCATIONS = (
    "model.base",
    "judge.base",
    "judge.adapter",
    "judge.cold_start.data",
    "judge.align.data",
    "judge.canaries.data",
    "policy.tasks",
    "evaluate.suites",
    "seeds.data",
    "generator.model",
    "filter.counts",
    "evaluate.adapter",
    "evaluate.functionality_judge.base",
)
"""Keys whose value may be a path; a relative one is looked for beside the recipe."""

_INDIFFERENT = (
    "name",
    "report_to",
    "model.fast_generation",
    "sandbox.workers",
    "judge.endpoint.api_key_env",
    "judge.endpoint.timeout_s",
    "judge.endpoint.concurrency",
    "judge.endpoint.attempts",
    "judge.endpoint.backoff_s",
    "judge.cold_start.save_every",
    "judge.align.save_every",
    "policy.grpo.save_every",
    "generator.api_key_env",
    "generator.timeout_s",
    "generator.concurrency",
    "generator.attempts",
    "generator.backoff_s",
    "generator.max_cost",
    "evaluate.endpoint.api_key_env",
    "evaluate.endpoint.timeout_s",
    "evaluate.endpoint.concurrency",
    "evaluate.endpoint.attempts",
    "evaluate.endpoint.backoff_s",
    "evaluate.functionality_judge.endpoint.api_key_env",
    "evaluate.functionality_judge.endpoint.timeout_s",
    "evaluate.functionality_judge.endpoint.concurrency",
    "evaluate.functionality_judge.endpoint.attempts",
    "evaluate.functionality_judge.endpoint.backoff_s",
)
"""Keys that change how a run is named, watched or paced, but not what comes out of it."""

AnyRecipe = TypeVar("AnyRecipe", bound=Section)


def _folder_name(value: str) -> str:
    if not value.strip(".") or not all(letter.isalnum() or letter in "-_." for letter in value):
        raise ValueError("must be usable as a folder name: letters, digits, '-', '_' and '.' only")
    return value


RunName = Annotated[str, AfterValidator(_folder_name)]


class Recipe(Section):
    """One run from base model to export; an absent section is a stage that is not run."""

    name: RunName
    """Name of the run and of its folder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of training: order of the data, first adapter weights, sampling."""
    model: ModelRecipe
    """The base model."""
    judge: JudgeRecipe | None = None
    """The judge that rewards the policy."""
    policy: PolicyRecipe | None = None
    """Alignment of the policy."""
    evaluate: EvaluateRecipe | None = None
    """Measuring before and after."""
    export: ExportRecipe | None = None
    """What to hand over."""
    sandbox: SandboxRecipe = SandboxRecipe()
    """Where untrusted code runs."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    """Where training curves go besides `metrics.jsonl`."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield disagreements between sections."""
        judged = data.get("judge") is not None
        rewards_verdict = value_at(data, "policy.reward.judge", True) is not False
        if data.get("policy") is not None and not judged and rewards_verdict:
            yield "judge", "is required by policy.reward; set policy.reward.judge to false without"
        kl = value_at(data, "judge.align.kl", 0.0)
        if value_at(data, "model.backend", "auto") == "unsloth" and kl:
            yield (
                "judge.align.kl",
                "must be 0 with model.backend unsloth, which would hold the judge to the bare base "
                f"instead of to its cold start (got {kl})",
            )
        if all(data.get(stage) is None for stage in ("judge", "policy", "evaluate", "export")):
            yield "", "has nothing to do; give a section judge, policy, evaluate or export"


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a YAML file, with overrides such as "policy.grpo.kl=0.02" applied.

    A relative path in the file is taken as relative to the file where that exists, one in an
    override as relative to the working folder; anything else stays as written.

    Raises:
        RecipeError: the file cannot be read, or breaks rules; all faults are in one message.
    """
    return load_as(Recipe, path, overrides)


def load_as(model: type[AnyRecipe], path: Path | str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Return the recipe in a YAML file as another model than `Recipe`; else like `load_recipe`.

    Raises:
        RecipeError: the file cannot be read, or breaks rules; all faults are in one message.
    """
    path = Path(path)
    document = with_paths_from(path.parent, read_document(path))
    return check_as(model, with_overrides(document, overrides), str(path))


def with_overrides(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's document with `a.b=value` overrides applied.

    Paths in an override are relative to the working folder.

    Raises:
        RecipeError: an override is malformed.
    """
    for override in overrides:
        parts, value = parse_override(override)
        alone = with_paths_from(Path.cwd(), with_value({}, parts, value))
        document = with_value(document, parts, value_at(alone, ".".join(parts)))
    return document


def check_recipe(document: Mapping[str, Any], title: str) -> Recipe:
    """Return the recipe that plain data describe; the title names the data in the message.

    Raises:
        RecipeError: the data break rules; all faults are in one message.
    """
    return check_as(Recipe, document, title)


def check_as(model: type[AnyRecipe], document: Mapping[str, Any], title: str) -> AnyRecipe:
    """Return plain data as another model than `Recipe`; else like `check_recipe`.

    Raises:
        RecipeError: the data break rules; all faults are in one message.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [*faults_of(error, model), *_contradictions(model, document)]
        raise invalid(title, faults) from error


def dump_recipe(recipe: Section) -> str:
    """Return the recipe as YAML with every default written out; loading it gives it back."""
    return to_yaml(recipe.model_dump(mode="json"))


def recipe_fingerprint(recipe: Section) -> str:
    """Return 16 hex digits that are equal for two recipes that lead to the same result."""
    text = json.dumps(deciding_fields(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deciding_fields(recipe: Section) -> dict[str, Any]:
    """Return dotted key and value of every field that decides what comes out of a run."""
    flat = dict(_leaves(recipe.model_dump(mode="json")))
    return {key: value for key, value in flat.items() if key not in _INDIFFERENT}


def differing_keys(recipe: Section, other: Section) -> list[str]:
    """Return the dotted keys in which two recipes differ so that their results do."""
    mine, theirs = deciding_fields(recipe), deciding_fields(other)
    absent = object()
    return [key for key in {**mine, **theirs} if mine.get(key, absent) != theirs.get(key, absent)]


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _contradictions(model: type[Section], data: Any, prefix: str = "") -> Iterator[Fault]:
    """Contradictions in plain data, found even where pydantic stops at an earlier fault."""
    if not isinstance(data, Mapping):
        return
    for key, rule in model.contradictions(data):
        yield Fault(f"{prefix}{key}".rstrip("."), rule)
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section and issubclass(section, Section):
            yield from _contradictions(section, data.get(name), f"{prefix}{name}.")


def with_paths_from(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its relative paths resolved against a folder that has them."""
    for key in _LOCATIONS:
        value = value_at(document, key)
        if isinstance(value, str):
            document = with_value(document, key.split("."), _resolved(folder, value))
        elif isinstance(value, list):
            entries = [_resolved(folder, e) if isinstance(e, str) else e for e in value]
            document = with_value(document, key.split("."), entries)
    return document


def _resolved(folder: Path, value: str) -> str:
    if not value or value.startswith("builtin:"):
        return value
    kind, separator, place = value.partition(":")
    if kind in ("cweval", "cyberseceval") and separator:
        return f"{kind}:{_resolved(folder, place)}"
    path = os.path.join(folder, os.path.expanduser(value))  # unlike Path's, these never raise
    return os.path.realpath(path) if os.path.exists(path) else value
