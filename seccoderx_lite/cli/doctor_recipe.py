"""`doctor RECIPE`: what of a recipe this machine cannot do, before hours of work."""

import contextlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from seccoderx_lite.core.errors import DataError, SandboxError, SeccoderxError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.records import LANGUAGES, Language
from seccoderx_lite.data.loading import training_tasks
from seccoderx_lite.evaluation.suites.loading import load_suites
from seccoderx_lite.models.backends import chosen_backend
from seccoderx_lite.models.chat_client import key_headers
from seccoderx_lite.models.engine import require_engine_for
from seccoderx_lite.models.memory_fit import fit_message
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.environment import describe_gpu, works_in_four_bits
from seccoderx_lite.run.folder import default_run_folder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.sandbox.languages import HOW_TO_GET, tools_for
from seccoderx_lite.stages.stage_table import stages_of
from seccoderx_lite.stages.start_checks import check_disk, memory_fit_here
from seccoderx_lite.training.trackers import require_trackers


def faults(recipe: Recipe) -> Iterator[str]:
    """Yield a line for each thing that the recipe asks for and this machine cannot do."""
    for check in _CHECKS:
        try:
            yield from check(recipe)
        except SeccoderxError as error:
            yield " ".join(str(error).split())
    for stage in stages_of(recipe):
        try:
            stage.check(recipe)
        except SeccoderxError as error:
            yield f"{stage.name}: {' '.join(str(error).split())}"


def _backend(recipe: Recipe) -> Iterator[str]:
    backend, _ = chosen_backend(recipe.model)
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        yield f"model.backend: unsloth is not installed; {install_command('unsloth')}"
    if recipe.model.quantization == "nf4" and (why := works_in_four_bits()):
        yield f"model.quantization: nf4 fails here: {why}; set model.quantization: none"


def _memory(recipe: Recipe) -> Iterator[str]:
    fit = memory_fit_here(recipe)
    if not fit.fits:
        yield f"memory: the recipe {fit_message(fit)}"
    check_disk(recipe, _existing(default_run_folder(recipe)))


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _sandbox(recipe: Recipe) -> Iterator[str]:
    with open_sandbox(recipe.sandbox) as sandbox:
        works = sandbox.check_languages()
    languages = _languages(recipe)
    for language in LANGUAGES:
        if not (count := languages[language]):
            continue
        state = works.get(language) or _missing_tool(language)
        if state != "works":
            yield f"{count} tasks in {language} would be unscored: {' '.join(state.split())}"


def _languages(recipe: Recipe) -> Counter[str]:
    """How many tasks with tests are in each language; nothing of data that cannot be read."""
    found: Counter[str] = Counter()
    with contextlib.suppress(DataError):
        if recipe.policy:
            tasks = training_tasks(recipe.policy.tasks)
            found.update(task.language for task in tasks if task.tests)
    with contextlib.suppress(DataError):
        suites = load_suites(recipe.evaluate) if recipe.evaluate else []
        tested = [suite for suite in suites if suite.kind in ("tests", "completion", "cweval")]
        found.update(task.language for suite in tested for task in suite.tasks)
    return found


def _missing_tool(language: Language) -> str:
    try:
        tools_for(language)
    except SandboxError as error:
        return str(error)
    return f"it does not work here ({HOW_TO_GET[language]})"


def _engine(recipe: Recipe) -> Iterator[str]:
    if recipe.policy and recipe.policy.grpo.rollout_engine == "vllm":
        require_engine_for(
            recipe.model.base,
            chosen_backend(recipe.model)[0],
            quantised=recipe.model.quantization == "nf4",
            on_cpu=describe_gpu() is None,
        )
    yield from ()


def _trackers(recipe: Recipe) -> Iterator[str]:
    require_trackers(recipe.report_to)
    yield from ()


def _servers(recipe: Recipe) -> Iterator[str]:
    evaluate, judge = recipe.evaluate, recipe.judge
    servers = {
        "judge.endpoint": judge.endpoint if judge else None,
        "evaluate.endpoint": evaluate.endpoint if evaluate else None,
        "evaluate.functionality_judge.endpoint": (
            evaluate.functionality_judge.endpoint
            if evaluate and evaluate.functionality_judge
            else None
        ),
    }
    for section, server in servers.items():
        if server:
            key_headers(server.api_key_env, section)
    yield from ()


def _suites(recipe: Recipe) -> Iterator[str]:
    suites = recipe.evaluate.suites if recipe.evaluate else []
    is_asked = any(source.startswith("cyberseceval:") for source in suites)
    if is_asked and importlib.util.find_spec("codeshield") is None:
        yield f"cyberseceval: CodeShield is not installed; {install_command('codeshield')}"


_CHECKS: tuple[Callable[[Recipe], Iterator[str]], ...] = (
    _backend,
    _memory,
    _sandbox,
    _engine,
    _trackers,
    _servers,
    _suites,
)
