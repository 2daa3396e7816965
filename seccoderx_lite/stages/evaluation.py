"""Measure the base, the warm start if any, and the policy on suites that the judge never sees.

Several completions per task are sampled at the recipe's temperature (the main result), and one more
is decoded greedily. How each suite is graded is in `evaluation/suites`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.core.records import Task
from seccoderx_lite.core.scores import Evaluation, Phase
from seccoderx_lite.data.loading import each_source
from seccoderx_lite.evaluation.suites.answers import Answers, SuiteRunner, regrade
from seccoderx_lite.evaluation.suites.grading import Grader
from seccoderx_lite.evaluation.suites.loading import (
    USE_JUDGE,
    Suite,
    SuiteKind,
    load_suites,
    make_graders,
)
from seccoderx_lite.evaluation.suites.summary import summarise
from seccoderx_lite.models.adapter_files import CONFIG_FILE
from seccoderx_lite.models.adapters import Role, attach_adapter, detach_adapters
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.context import too_long
from seccoderx_lite.models.endpoint_generator import EndpointGenerator
from seccoderx_lite.models.engine import start_engine
from seccoderx_lite.models.engine_memory import uses_engine
from seccoderx_lite.models.engine_roles import EngineGenerator
from seccoderx_lite.models.generation import Generator, RoleGenerator
from seccoderx_lite.models.server_context import ServerContext
from seccoderx_lite.recipe.recipe import EvaluateRecipe, ModelRecipe, PolicyRecipe, Recipe
from seccoderx_lite.rewards.task_check import sound_tasks
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.training.rollout_engine import with_chosen_engine

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    folder: RunFolder,
    base: Base | None,
    sandbox: Sandbox,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure the base and, if there is one, the policy adapter on it; write evaluation.json.

    `base` may be None if the recipe measures a model behind a server.
    """
    settings = _settings(recipe)
    temperature = settings.temperature or (recipe.policy.grpo.temperature if recipe.policy else 0.8)
    sound = _sound_suites(load_suites(settings, _trained_on(recipe)), recipe, folder, sandbox)
    suites = _fitting(sound, base, settings)
    graders = _graders(recipe.model, settings, suites, sandbox, base)
    if base:
        recipe = with_chosen_engine(recipe, folder, base)
    generators = _generators(recipe, settings, folder, base)
    runner = SuiteRunner(settings, temperature, folder, generators, graders, progress)
    answers = runner.run(suites)
    if base:
        detach_adapters(base)
    return _write_evaluation(folder, suites, answers, settings.seed)


def grade_again(
    recipe: Recipe, folder: RunFolder, sandbox: Sandbox, progress: Progress = no_progress
) -> Evaluation:
    """Grade the stored answers again without generating any; write evaluation.json."""
    settings = _settings(recipe)
    suites = _sound_suites(load_suites(settings, _trained_on(recipe)), recipe, folder, sandbox)
    graders = _graders(recipe.model, settings, suites, sandbox)
    answers = regrade(folder, suites, graders, progress)
    return _write_evaluation(folder, suites, answers, settings.seed)


def _trained_on(recipe: Recipe) -> set[str]:
    """The sources of data that a stage of the recipe trains on."""
    policy, judge = recipe.policy, recipe.judge
    sections = (judge and judge.cold_start, judge and judge.align, policy and policy.warm_start)
    given = [section.data for section in sections if section]
    given += [policy.tasks] if policy else []
    return {source for sources in given if sources for source in map(str, each_source(sources))}


def _sound_suites(
    suites: Sequence[Suite], recipe: Recipe, folder: RunFolder, sandbox: Sandbox
) -> list[Suite]:
    """Check the tasks of suites with tests as `tasks.check` says."""
    kept = []
    for suite in suites:
        sources = [task.source for task in suite.tasks if isinstance(task.source, Task)]
        if suite.kind == "tests" and sources:
            sound = sound_tasks(
                sources, suite.name, recipe.tasks.check, sandbox, folder.task_checks
            )
            names = {task.id for task in sound}
            tasks = [
                t for t in suite.tasks if not isinstance(t.source, Task) or t.source.id in names
            ]
            kept.append(replace(suite, tasks=tuple(tasks)))
        else:
            kept.append(suite)
    return kept


def _fitting(
    suites: Sequence[Suite], base: Base | None, settings: EvaluateRecipe
) -> Sequence[Suite]:
    """Return the suites without the tasks whose prompts leave the model no room for an answer.

    Raises:
        DataError: none is left of a suite.
    """
    is_long = _length_check(base, settings)
    if is_long is None:
        return suites
    kept = []
    for suite in suites:
        long = is_long([task.prompt for task in suite.tasks])
        tasks = [task for task, skip in zip(suite.tasks, long, strict=True) if not skip]
        if not tasks:
            raise DataError(
                f"evaluate.suites: no prompt of {suite.name} fits into the model's context with "
                f"room for an answer of {settings.max_completion_tokens} tokens; leave the suite "
                "out, or lower evaluate.max_completion_tokens"
            )
        if any(long):
            logger.warning(
                "%s: left out %d of %d tasks, whose prompts leave too little room for an answer of "
                "%d tokens in the model's context",
                suite.name,
                sum(long),
                len(long),
                settings.max_completion_tokens,
            )
        kept.append(replace(suite, tasks=tuple(tasks)))
    return kept


def _length_check(
    base: Base | None, settings: EvaluateRecipe
) -> Callable[[list[str]], list[bool]] | None:
    """Return what tells which prompts are too long; None without a model to ask."""
    limit = settings.max_completion_tokens
    if settings.endpoint:
        context = ServerContext(settings.endpoint)
        return lambda prompts: [context.too_long(prompt, limit) is not None for prompt in prompts]
    if base is None:
        return None
    return lambda prompts: too_long(base.model, base.tokenizer, prompts, limit)


def _settings(recipe: Recipe) -> EvaluateRecipe:
    return recipe.evaluate or EvaluateRecipe(suites=["builtin:tiny"])


def _write_evaluation(
    folder: RunFolder, suites: Sequence[Suite], answers: Answers, seed: int
) -> Evaluation:
    evaluation = summarise(suites, answers, seed)
    folder.write_json("evaluation.json", evaluation.as_json())
    return evaluation


def _generators(
    recipe: Recipe, settings: EvaluateRecipe, folder: RunFolder, base: Base | None
) -> Mapping[Phase, Generator]:
    """What generates in each phase; the adapter stays attached to the base."""
    if settings.endpoint:
        return {"before": EndpointGenerator(settings.endpoint)}
    if base is None:
        raise ModelError("evaluate: no model to measure; set model.base or evaluate.endpoint")
    detach_adapters(base)
    adapter = Path(settings.adapter) if settings.adapter else folder.policy_adapter
    start = None if settings.adapter else _start_adapter(recipe.policy, folder)
    generators: dict[Phase, Generator] = {}
    has_adapter = bool(settings.adapter) or (adapter / CONFIG_FILE).is_file()
    if settings.measure_base or not (has_adapter or start):
        generators["before"] = _of_role("reference", None, recipe, settings, base)
    if start:
        generators["warm_start"] = _of_role("warm_start", start, recipe, settings, base)
    if has_adapter:
        generators["after"] = _of_role("trained", adapter, recipe, settings, base)
    return generators


def _of_role(
    role: Role, adapter: Path | None, recipe: Recipe, settings: EvaluateRecipe, base: Base
) -> Generator:
    """The generator of a role: what samples the rollouts of this run."""
    if adapter:
        attach_adapter(base, adapter, role)
    if not uses_engine(recipe):
        return RoleGenerator(base, role, settings.batch_size)
    engine = start_engine(recipe, base)
    if adapter:
        engine.use_adapter(role, adapter)
    return EngineGenerator(engine, role)


def _start_adapter(policy: PolicyRecipe | None, folder: RunFolder) -> Path | None:
    """The adapter that GRPO starts from; None without one."""
    if policy and policy.adapter:
        return Path(policy.adapter)
    has_start = policy and policy.warm_start and (folder.warm_start_adapter / CONFIG_FILE).is_file()
    return folder.warm_start_adapter if has_start else None


def _graders(
    model: ModelRecipe,
    settings: EvaluateRecipe,
    suites: Sequence[Suite],
    sandbox: Sandbox,
    base: Base | None = None,
) -> Mapping[SuiteKind, Grader]:
    needs_judge = any(suite.kind in USE_JUDGE for suite in suites)
    judge = _functionality_judge(model, settings, base) if needs_judge else None
    tokens = settings.functionality_judge.max_new_tokens if settings.functionality_judge else 0
    return make_graders(suites, sandbox, judge, tokens)


def _functionality_judge(
    model: ModelRecipe, settings: EvaluateRecipe, base: Base | None
) -> Generator | None:
    """The model that scores function, never the judge that rewards training; None without one.

    If it is the base that is measured, that base is reused without an adapter, not loaded twice.
    """
    judge = settings.functionality_judge
    if judge is None:
        return None
    if judge.endpoint:
        return EndpointGenerator(judge.endpoint)
    measured = base if judge.base == model.base else None
    own = measured or load_base(model.model_copy(update={"base": judge.base}), is_other=True)
    return RoleGenerator(own, "reference", settings.batch_size)
