"""A recipe: one YAML file, one run, one strict model.

Its sections are in `model`, `judge`, `policy` and `results`; YAML and the wording of errors in
`reading`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.judge import (
    AlignRecipe,
    CanariesRecipe,
    ColdStartRecipe,
    JudgeRecipe,
)
from seccoderx_lite.recipe.model import (
    EndpointRecipe,
    LoraRecipe,
    ModelRecipe,
    SandboxRecipe,
    TasksRecipe,
)
from seccoderx_lite.recipe.policy import (
    AlarmsRecipe,
    GrpoRecipe,
    HeldOutRecipe,
    PolicyRecipe,
    RewardRecipe,
    TermRecipe,
    WarmStartRecipe,
)
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
from seccoderx_lite.recipe.results import (
    BENCHMARKS,
    EvaluateRecipe,
    ExportRecipe,
    Format,
    FunctionalityJudgeRecipe,
)
from seccoderx_lite.recipe.section import MOST, Mark, Section, marked_keys
from seccoderx_lite.recipe.shipped import find_recipe

__all__ = [
    "AlarmsRecipe",
    "AlignRecipe",
    "CanariesRecipe",
    "ColdStartRecipe",
    "EndpointRecipe",
    "EvaluateRecipe",
    "ExportRecipe",
    "Format",
    "FunctionalityJudgeRecipe",
    "GrpoRecipe",
    "HeldOutRecipe",
    "JudgeRecipe",
    "LoraRecipe",
    "ModelRecipe",
    "PolicyRecipe",
    "Recipe",
    "RewardRecipe",
    "RunName",
    "SandboxRecipe",
    "TasksRecipe",
    "TermRecipe",
    "WarmStartRecipe",
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

AnyRecipe = TypeVar("AnyRecipe", bound=Section)


def _folder_name(value: str) -> str:
    if not value.strip(".") or not all(letter.isalnum() or letter in "-_." for letter in value):
        raise ValueError("must be usable as a folder name: only letters, digits, '-', '_' and '.'")
    return value


RunName = Annotated[str, AfterValidator(_folder_name)]


class Recipe(Section):
    """One run from base model to export; stages without a section are skipped."""

    name: Annotated[RunName, Mark.NO_EFFECT]
    """Name of the run and of its folder."""
    seed: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Seed of training: order of the data, initial adapter weights, sampling."""
    model: ModelRecipe
    """The base model."""
    judge: JudgeRecipe | None = None
    """The judge that rewards the policy."""
    policy: PolicyRecipe | None = None
    """Training of the policy."""
    evaluate: EvaluateRecipe | None = None
    """Evaluation before and after training."""
    export: ExportRecipe | None = None
    """What to export."""
    tasks: TasksRecipe = TasksRecipe()
    """Checks of the tasks of policy.tasks and evaluate.suites."""
    sandbox: SandboxRecipe = SandboxRecipe()
    """Where untrusted code runs."""
    report_to: Annotated[list[Literal["tensorboard", "wandb", "trackio"]], Mark.NO_EFFECT] = Field(
        default_factory=list
    )
    """Trackers that get the training curves, in addition to `metrics.jsonl`."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        judged = data.get("judge") is not None
        rewards_verdict = value_at(data, "policy.reward.judge", True) is not False
        if data.get("policy") is not None and not judged and rewards_verdict:
            yield (
                "judge",
                "is required by policy.reward; add a judge or set policy.reward.judge: false",
            )
        if value_at(data, "model.backend", "auto") == "unsloth":
            yield from _kl_of_unsloth(data)
        if all(data.get(stage) is None for stage in ("judge", "policy", "evaluate", "export")):
            yield "", "has nothing to do; add a section judge, policy, evaluate or export"


def _kl_of_unsloth(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the KL terms that unsloth would compute against the base instead of the start."""
    if kl := value_at(data, "judge.align.kl", 0.0):
        yield (
            "judge.align.kl",
            "must be 0 with model.backend unsloth, whose KL term would compare the judge with "
            f"the bare base instead of its cold start (got {kl})",
        )
    has_start = any(value_at(data, f"policy.{key}") for key in ("warm_start", "adapter"))
    if has_start and (kl := value_at(data, "policy.grpo.kl", GrpoRecipe().kl)):
        yield (
            "policy.grpo.kl",
            "must be 0 with model.backend unsloth and a warm start, because its KL term would "
            f"compare the policy with the bare base instead of its warm start (got {kl})",
        )


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a YAML file, with overrides such as "policy.grpo.kl=0.02" applied.

    Relative paths are resolved if they exist: those in the file against its folder, those in an
    override against the working folder. Anything else stays as written.

    Raises:
        RecipeError: the file cannot be read or is not valid; one message lists all errors.
    """
    return load_as(Recipe, path, overrides)


def load_as(model: type[AnyRecipe], path: Path | str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Like `load_recipe`, for another model than `Recipe`."""
    path = find_recipe(path)
    document = read_document(path)
    _check_kind(model, document, path)
    document = with_paths_from(path.parent, document, model)
    return check_as(model, with_overrides(document, overrides, model), str(path))


def _check_kind(model: type[Section], document: Mapping[str, Any], path: Path) -> None:
    """Refuse a recipe for `synth` where one for `train` is needed, and the other way round."""
    is_synth = bool({"seeds", "generator"} & document.keys())
    if is_synth != (model is not Recipe) and (is_synth or "model" in document):
        own, other = ("train", "synth") if is_synth else ("synth", "train")
        raise RecipeError(
            f"{path} is a recipe for {other}, not for {own}; run: seccoderx-lite {other} {path}"
        )


def with_overrides(
    document: dict[str, Any], overrides: Sequence[str], model: type[Section] = Recipe
) -> dict[str, Any]:
    """Return a recipe's document with `a.b=value` overrides applied.

    Paths in an override are relative to the working folder.

    Raises:
        RecipeError: an override is malformed.
    """
    for override in overrides:
        parts, value = parse_override(override)
        alone = with_paths_from(Path.cwd(), with_value({}, parts, value), model)
        document = with_value(document, parts, value_at(alone, ".".join(parts)))
    return document


def check_recipe(document: Mapping[str, Any], title: str) -> Recipe:
    """Return the recipe in plain data, which the title names in an error message.

    Raises:
        RecipeError: the data is not a valid recipe; one message lists all errors.
    """
    return check_as(Recipe, document, title)


def check_as(model: type[AnyRecipe], document: Mapping[str, Any], title: str) -> AnyRecipe:
    """Like `check_recipe`, for another model than `Recipe`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [*faults_of(error, model), *_contradictions(model, document)]
        raise invalid(title, faults) from error


def dump_recipe(recipe: Section) -> str:
    """Return the recipe as YAML with all defaults; loading that gives an equal recipe."""
    return to_yaml(recipe.model_dump(mode="json"))


def recipe_fingerprint(recipe: Section) -> str:
    """Return 16 hex digits, equal for recipes that give the same result."""
    text = json.dumps(deciding_fields(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deciding_fields(recipe: Section) -> dict[str, Any]:
    """Return dotted key and value of every field that affects the result of a run."""
    without_effect = set(marked_keys(type(recipe), Mark.NO_EFFECT))
    flat = dict(_leaves(recipe.model_dump(mode="json")))
    return {key: value for key, value in flat.items() if key not in without_effect}


def differing_keys(recipe: Section, other: Section) -> list[str]:
    """Return the dotted keys of the fields that make two recipes' results differ."""
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
    """Find contradictions in plain data, because pydantic checks none after another error."""
    if not isinstance(data, Mapping):
        return
    for key, rule in model.contradictions(data):
        yield Fault(f"{prefix}{key}".rstrip("."), rule)
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section and issubclass(section, Section):
            yield from _contradictions(section, data.get(name), f"{prefix}{name}.")


def with_paths_from(
    folder: Path, document: dict[str, Any], model: type[Section] = Recipe
) -> dict[str, Any]:
    """Return the document with those relative paths resolved that exist in a folder."""
    for key in marked_keys(model, Mark.PATH):
        value = value_at(document, key)
        if isinstance(value, str):
            document = with_value(document, key.split("."), _resolved(folder, value))
        elif isinstance(value, list):
            entries = [_resolved(folder, e) if isinstance(e, str) else e for e in value]
            document = with_value(document, key.split("."), entries)
    return _with_functions_from(folder, document)


def _with_functions_from(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Resolve the files in `FILE.py:NAME` of reward terms like other paths."""
    terms = value_at(document, _TERMS)
    if not isinstance(terms, list):
        return document
    resolved = []
    for term in terms:
        function = term.get("function") if isinstance(term, Mapping) else None
        if isinstance(function, str) and ".py:" in function:
            file, _, name = function.rpartition(":")
            term = {**term, "function": f"{_resolved(folder, file)}:{name}"}
        resolved.append(term)
    changed: dict[str, Any] = with_value(document, _TERMS.split("."), resolved)
    return changed


_TERMS = "policy.reward.terms"


def _resolved(folder: Path, value: str) -> str:
    if not value or value.startswith("builtin:"):
        return value
    kind, separator, place = value.partition(":")
    if kind in BENCHMARKS and separator:
        return f"{kind}:{_resolved(folder, place)}"
    path = os.path.join(folder, os.path.expanduser(value))  # unlike Path's, these never raise
    return os.path.realpath(path) if os.path.exists(path) else value
