"""One self-contained HTML page per run: what was measured, how training went, and the recipe.

Also one page that compares runs. Both are made from the files of the run folders alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from markupsafe import Markup

from seccoderx_lite.core.errors import RunFolderError, SeccoderxError, reason_of
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import PHASES, CodeMetric, Difference, Evaluation, SuiteResult
from seccoderx_lite.evaluation.metrics import SampleScore, TaskScores, mcnemar
from seccoderx_lite.evaluation.suites.answers import ANSWERS, GREEDY, read_answers
from seccoderx_lite.evaluation.suites.summary import paired_differences
from seccoderx_lite.recipe.recipe import deciding_fields, dump_recipe
from seccoderx_lite.reporting.completions import PairCollector, rollout_section, shortened
from seccoderx_lite.reporting.page import Section, page, preformatted, render
from seccoderx_lite.reporting.results import TONES, result_sections
from seccoderx_lite.reporting.text import METRICS, p_value
from seccoderx_lite.reporting.training_curves import comparison_section, cost, training_sections
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder

COMPARISON_METHOD = (
    "After alignment if there is a policy, else the base. Second lines are differences from the "
    "first run, paired over the tasks that both measured; 95% bootstrap intervals, McNemar\u2019s "
    "exact test on strict func-sec of one completion per task."
)


NOT_EVALUATED = Section(
    "result",
    "Result",
    Markup("<p>This run measured nothing on held-out tasks.</p>"),
    "Add a section evaluate to the recipe, or run seccoderx-lite eval code on its adapter.",
)


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run on one suite, with how it differs from the first run."""

    name: str
    scores: SuiteResult
    changes: Mapping[CodeMetric, Difference]
    mcnemar: str


def run(folder: RunFolder) -> Path:
    """Write report.html from the files of the run folder and return its path.

    Raises:
        RunFolderError: a record of the run is damaged.
    """
    try:
        text = _text(folder)
    except (LookupError, AttributeError, TypeError, ValueError, TemplateError) as error:
        if isinstance(error, SeccoderxError):
            raise
        raise RunFolderError(
            f"{folder.path}: a record in metrics.jsonl, completions.jsonl, answers.jsonl or "
            f"evaluation.json is damaged ({reason_of(error)}); restore the file, or run the stage "
            "that writes it again with train --stage"
        ) from error
    return folder.write_text("report.html", text)


def _text(folder: RunFolder) -> str:
    recipe = folder.recipe
    metrics = list(folder.read_records("metrics.jsonl"))
    kept = [shortened(row) for row in folder.read_records("completions.jsonl")]
    pairs = PairCollector()
    for row in folder.read_records(ANSWERS):
        pairs.add(row)
    grpo = recipe.policy.grpo if recipe.policy else None
    sampled = grpo.group_size * grpo.prompts_per_step if grpo else None
    environment = _environment(folder)
    shown = preformatted(json.dumps(environment, indent=2)) if environment else Markup()
    sections = [
        *(list(result_sections(_evaluation(folder))) or [NOT_EVALUATED]),
        *training_sections(metrics, kept, sampled),
        pairs.section(),
        rollout_section(kept),
        Section("recipe", "Recipe", preformatted(dump_recipe(recipe))),
        Section("environment", "Environment", shown),
    ]
    facts = [recipe.model.base, f"seed {recipe.seed}", *_kept(folder), *cost(metrics, environment)]
    return page(recipe.name, facts, sections)


def _kept(folder: RunFolder) -> Iterator[str]:
    """Yield which policy the results are of, where it need not be the last one."""
    policy = folder.recipe.policy
    if policy and policy.keep == "best" and folder.is_done("policy"):
        summary = folder.read_summary("policy")
        yield f"policy of step {summary['kept_step']} of {summary['last_step']}"


def write_comparison(folders: Sequence[RunFolder], file: Path) -> Path:
    """Write one page that compares runs with the first of them, and return its path."""
    runs = dict(zip(_names(folders), folders, strict=True))
    metrics = {name: list(folder.read_records("metrics.jsonl")) for name, folder in runs.items()}
    sections = [
        Section("result", "Result", _comparison_table(runs), COMPARISON_METHOD),
        comparison_section(metrics),
        Section("recipe", "What differs in the recipes", _recipe_table(runs)),
    ]
    recipes = {name: folder.recipe for name, folder in runs.items()}
    facts = [
        f"{name}: recipe {own.name}, {own.model.base}, seed {own.seed}"
        for name, own in recipes.items()
    ]
    text = page("Comparison of runs", facts, sections)
    return files.write_text(file, text).resolve()


def _evaluation(folder: RunFolder) -> Evaluation:
    try:
        return files.read_record(folder.path / "evaluation.json", Evaluation)
    except RunFolderError:
        return Evaluation()


def _environment(folder: RunFolder) -> dict[str, Json]:
    try:
        return files.read_object(folder.path / "environment.json")
    except RunFolderError:
        return {}


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """Names of runs; numbered where two are the same."""
    names: list[str] = []
    for folder in folders:
        name = folder.path.name
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _comparison_table(runs: Mapping[str, RunFolder]) -> Markup:
    tasks = {name: _task_scores(folder) for name, folder in runs.items()}
    results = {name: _last_phase(folder) for name, folder in runs.items()}
    first = next(iter(runs))
    suites: dict[str, list[ComparedRun]] = {}
    for suite in dict.fromkeys(suite for own in results.values() for suite in own):
        suites[suite] = [
            ComparedRun(
                name,
                own[suite],
                *_changes(name != first, tasks[first].get(suite, {}), tasks[name].get(suite, {})),
            )
            for name, own in results.items()
            if suite in own
        ]
    return (
        render("comparison", suites=suites, metrics=METRICS[:3], tones=TONES)
        if suites
        else Markup()
    )


def _last_phase(folder: RunFolder) -> Mapping[str, SuiteResult]:
    evaluation = _evaluation(folder)
    return evaluation.last


def _task_scores(folder: RunFolder) -> dict[str, dict[str, TaskScores]]:
    """The sampled scores of the last phase, by suite and task."""
    answers = read_answers(folder)
    last = max((key[0] for key in answers), key=[*map(str, PHASES)].index, default="before")
    samples: dict[tuple[str, str], list[SampleScore | None]] = {}
    for phase, suite, task, sample in sorted(answers):
        if phase == last and sample != GREEDY:
            score = answers[phase, suite, task, sample].score
            samples.setdefault((suite, task), []).append(score)
    by_suite: dict[str, dict[str, TaskScores]] = {}
    for (suite, task), scores in samples.items():
        by_suite.setdefault(suite, {})[task] = TaskScores(task, (), tuple(scores))
    return by_suite


def _changes(
    is_compared: bool, first: Mapping[str, TaskScores], other: Mapping[str, TaskScores]
) -> tuple[Mapping[CodeMetric, Difference], str]:
    """The paired differences from the first run, and McNemar's test, where there are any."""
    if not is_compared:
        return {}, ""
    common = sorted(first.keys() & other.keys())
    before, after = ([own[task] for task in common] for own in (first, other))
    differences = paired_differences(before, after, seed=0)
    if "esr" not in differences:
        return differences, ""
    test = mcnemar(list(map(_passes, before)), list(map(_passes, after)))
    return differences, f", McNemar {p_value(test.p)}"


def _passes(task: TaskScores) -> bool | None:
    """Strict func-sec of the first sample."""
    value = task.samples[0].func_sec if task.samples[0] else None
    return None if value is None else value == 1.0


def _recipe_table(runs: Mapping[str, RunFolder]) -> Markup:
    fields = {name: deciding_fields(folder.recipe) for name, folder in runs.items()}
    rows = [
        (key, [own.get(key, "-") for own in fields.values()])
        for key in dict.fromkeys(key for own in fields.values() for key in own)
        if len({repr(own.get(key)) for own in fields.values()}) > 1
    ]
    return render("recipe_differences", runs=list(runs), rows=rows) if rows else Markup()
