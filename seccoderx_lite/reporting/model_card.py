"""The model card of an export: what it is, how it was made, and what was measured."""

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.project import linked_name
from seccoderx_lite.core.scores import PHASES, Evaluation
from seccoderx_lite.models.gguf import gguf_precision, is_gguf
from seccoderx_lite.recipe.recipe import Recipe, dump_recipe
from seccoderx_lite.recipe.results import Format
from seccoderx_lite.recipe.section import listed
from seccoderx_lite.reporting.card_metadata import Role, card_metadata
from seccoderx_lite.reporting.text import describe_change, share
from seccoderx_lite.reporting.usage import usage
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder


def model_card(recipe: Recipe, folder: RunFolder, form: Format, role: Role = "policy") -> str:
    """Return the card as Markdown with the metadata block that model hubs read."""
    base = recipe.model.base
    if role == "judge" and recipe.judge and recipe.judge.base:
        base = recipe.judge.base
    kind = "LoRA adapter" if form == "adapter" else "LoRA adapter merged into the base"
    if is_gguf(form):
        kind += f", GGUF in {gguf_precision(form)}"
    return "\n".join(
        [
            "---",
            card_metadata(recipe, folder, form, role, base).to_yaml(),
            "---",
            f"# {recipe.name}",
            "",
            f"{_made(base, role)} ({kind}).",
            "",
            usage(form, "path/to/this/folder", role),
            _trained_on(recipe, role) + (_kept(folder) if role == "policy" else ""),
            "",
            "## Measured",
            "",
            *(_measured(folder) if role == "policy" else _measured_judge(folder)),
            "",
            "## Recipe",
            "",
            "```yaml",
            dump_recipe(recipe).rstrip(),
            "```",
            "",
        ]
    )


def _made(base: str, role: str) -> str:
    aim = "detect vulnerable code" if role == "judge" else "write secure code that works"
    verb = "trained" if role == "judge" else "aligned"
    return f"`{base}` {verb} by {linked_name()} to {aim}"


def _trained_on(recipe: Recipe, role: str) -> str:
    if role == "policy":
        policy = recipe.policy
        start = ""
        if policy and policy.warm_start:
            start = "a supervised warm start and "
        elif policy and policy.adapter:
            start = f"more training of the adapter `{policy.adapter}`: "
        return f"Trained by {start}GRPO on the tasks `{policy.sources if policy else 'none'}`."
    judge = recipe.judge
    stages = [
        f"{name} on `{listed(section.data)}`"
        for name, section in (
            ("a supervised cold start", judge and judge.cold_start),
            ("GRPO", judge and judge.align),
        )
        if section
    ]
    return f"Trained by {' and '.join(stages) or 'another run'}."


def _kept(folder: RunFolder) -> str:
    policy = folder.recipe.policy
    if not (policy and policy.keep == "best" and folder.is_done("policy")):
        return ""
    summary = folder.read_summary("policy")
    return (
        f" This is the policy of step {summary['kept_step']} of {summary['last_step']}, which had "
        "the best ESR on held-out tasks among those whose functional rate had not dropped."
    )


def _measured_judge(folder: RunFolder) -> list[str]:
    for stage in ("align", "cold_start"):
        if folder.is_done(stage) and (splits := folder.read_summary(stage).get("held_out")):
            return ["| held-out code | accuracy | unclear | n |", "|---|---|---|---|"] + [
                f"| {split} | {share(of['accuracy'])} | {share(of['unclear_share'])} "
                f"| {of['n']:.0f} |"
                for split, of in splits.items()
            ]
    return ["Nothing was measured in this run."]


def _measured(folder: RunFolder) -> list[str]:
    try:
        evaluation = files.read_record(folder.path / "evaluation.json", Evaluation)
    except RunFolderError:
        return ["Nothing was measured in this run."]
    rows = ["| suite | | functional | secure | ESR | tasks |", "|---|---|---|---|---|---|"]
    for phase in PHASES:
        for suite in evaluation.suites:
            if scores := evaluation.result(phase, suite):
                rows.append(
                    f"| {suite} | {phase} | {share(scores.functional)} | {share(scores.secure)} "
                    f"| {share(scores.esr, scores.interval_95.get('esr'))} | {scores.n} |"
                )
    return [
        *rows,
        "",
        "Measured by running the tests of held-out tasks, without the judge that rewarded the "
        "training. Sampled at the temperature of training. Intervals are 95% bootstrap intervals "
        "over tasks.",
        *_fallen(evaluation),
    ]


def _fallen(evaluation: Evaluation) -> list[str]:
    """What got worse, so that a mean over a suite hides nothing."""
    if not evaluation.worse:
        return []
    return [
        "",
        "### What got worse",
        "",
        "Groups of tasks whose difference has a 95% interval below 0; p is corrected for the "
        f"{len(evaluation.group_changes)} comparisons made.",
        "",
        *(f"- {change.suite}: {describe_change(change)}" for change in evaluation.worse),
    ]
