"""The stages of a synthesis and their order: vulnerable code in, tasks with the same weakness out.

    seeds --> scenarios --> tasks --> filter [--> quality] [--> references] [--> tests] --> flatten

Every arrow is a JSON-lines file of the run folder with one line per item. A killed run resumes at
the chunk it was in, and its result equals that of an uninterrupted run. The generator's replies are
cached next to the run folder, in `<run folder>.replies.sqlite`, so that no prompt is sent twice,
even after `--fresh`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis import drafting, seeds
from seccoderx_lite.data.synthesis.context import StageFiles, Synthesis
from seccoderx_lite.data.synthesis.dataset import DATASET, write_dataset
from seccoderx_lite.data.synthesis.filtering import FILTERED, filter_drafts, read_counts
from seccoderx_lite.data.synthesis.references import write_references
from seccoderx_lite.data.synthesis.replies import ReplyCache
from seccoderx_lite.data.synthesis.security_tests import write_tests
from seccoderx_lite.models.chat_client import key_headers
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run import stopping
from seccoderx_lite.run.environment import describe_environment
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.run.progress import Progress, default_progress, note


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage between seeds and flatten; it reads the file of the stage before."""

    name: str
    file: str
    run: Callable[[Synthesis, StageFiles], dict[str, Json]]
    is_wanted: Callable[[SynthRecipe], bool] = lambda recipe: True


_STAGES = (
    _Stage("scenarios", "scenarios.jsonl", drafting.write_scenarios),
    _Stage("tasks", "drafts.jsonl", drafting.write_tasks),
    _Stage("filter", FILTERED, filter_drafts),
    _Stage(
        "quality", "quality.jsonl", drafting.write_marks, lambda r: r.filter.min_quality is not None
    ),
    _Stage("references", "references.jsonl", write_references, lambda r: r.model is not None),
    _Stage("tests", "tests.jsonl", write_tests, lambda r: r.tests is not None),
)


def run(
    recipe: SynthRecipe,
    run_folder: Path | str | None = None,
    *,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run or resume a synthesis and return the folder of the data set.

    Raises:
        SeccoderxError: a stage failed; what was done before is kept.
    """
    target = Path(run_folder) if run_folder else Path("runs") / recipe.name
    progress = progress or default_progress()
    with ExitStack() as stack:
        stack.enter_context(stopping.safe_points())
        sandbox = stack.enter_context(open_sandbox(recipe.sandbox)) if recipe.tests else None
        environment = describe_environment(sandbox) if sandbox else None
        folder = stack.enter_context(RunFolder.open(target, recipe, fresh, environment))
        cache = ReplyCache(folder.path.with_name(f"{folder.path.name}.replies.sqlite"))
        stack.enter_context(cache)
        _run_stages(Synthesis(recipe, folder, cache, sandbox, progress))
        return folder.path / DATASET


def _run_stages(synthesis: Synthesis) -> None:
    recipe, folder = synthesis.recipe, synthesis.folder
    if not folder.is_done("flatten"):
        _check_settings(recipe)
    _run_stage(synthesis, "seeds", lambda: seeds.gather(recipe, folder))
    source, files = seeds.SEEDS, {}
    for stage in _STAGES:
        if stage.is_wanted(recipe):
            names = StageFiles(stage.name, source, stage.file)
            _run_stage(synthesis, stage.name, partial(stage.run, synthesis, names))
            source = files[stage.name] = stage.file
    _run_stage(synthesis, "flatten", lambda: write_dataset(synthesis, source, files))


def _run_stage(synthesis: Synthesis, name: str, work: Callable[[], dict[str, Json]]) -> None:
    folder, progress = synthesis.folder, synthesis.progress
    if not folder.is_done(name):
        stopping.check(f"before the stage {name}")
        note(progress, name, "starting")
        folder.mark_done(name, work())
    progress(name, 1, 1, {"done": True, **folder.read_summary(name)})


def _check_settings(recipe: SynthRecipe) -> None:
    """Check what later stages need, before hours of requests."""
    if recipe.filter.counts:
        read_counts(recipe.filter.counts)
    if recipe.generator.endpoint:
        key_headers(recipe.generator.api_key_env, "generator")
    if recipe.model:
        from seccoderx_lite.models.shapes import model_shape

        model_shape(recipe.model.base)
