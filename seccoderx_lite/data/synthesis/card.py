"""The card of a synthesised data set: where it comes from, what it contains, what was dropped."""

from collections.abc import Mapping
from dataclasses import dataclass

from seccoderx_lite.core import cwe
from seccoderx_lite.core.project import linked_name
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.replies import Usage
from seccoderx_lite.recipe.synth import TEMPLATES, SynthRecipe

_BY_RULE = (
    "Rules made them from the templates that ship with the toolkit: held-out tasks are mostly "
    "variants of training tasks."
)
_BY_MODEL = "A model wrote them: read a sample before you rely on them."


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """The tasks of a data set in numbers."""

    tasks: int
    with_tests: int
    per_split: Mapping[str, int]
    per_cwe: Mapping[str, int]
    per_language: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]]
    """For each stage the number of drops per reason."""
    tests_left_out: Mapping[str, int]
    """Tasks without tests, per reason."""


def render_card(
    recipe: SynthRecipe,
    seeds: Mapping[str, Json],
    counts: TaskCounts,
    usage: Usage,
    *,
    has_split_files: bool,
) -> str:
    """Return README.md, with the front matter that `datasets` reads.

    Args:
        recipe: the recipe of the synthesis.
        seeds: summary of the stage `seeds`.
        counts: the tasks in numbers.
        usage: what the generator's replies took.
        has_split_files: whether each split has a file, or `tasks.jsonl` a column `split`.
    """
    parts = [
        _front_matter(counts, has_split_files),
        f"# {recipe.name}",
        f"Coding tasks that invite a weakness without naming it, made by {linked_name()} `synth` "
        "from vulnerable code. They are for training and evaluating models that write secure "
        f"code. {_BY_RULE if recipe.generator.model == TEMPLATES else _BY_MODEL}",
        "\n".join(_facts(recipe, seeds, counts, usage))
        + ("" if has_split_files else "; the column `split` names it: train only on `train`"),
        _table("Split", counts.per_split),
        _table(
            "Weakness", {f"{id_} {cwe.get(id_).short_name}": n for id_, n in counts.per_cwe.items()}
        ),
        _table("Language", counts.per_language),
        _table(
            "Dropped",
            {
                f"{stage}: {reason}": count
                for stage, reasons in {"seeds": seeds["dropped"], **counts.dropped}.items()
                for reason, count in reasons.items()
            },
        ),
        _table("Tests left out", counts.tests_left_out),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(counts: TaskCounts, has_split_files: bool) -> str:
    files = " tasks.jsonl"
    if has_split_files:
        names = counts.per_split
        files = "".join(f"\n  - split: {name}\n    path: {name}.jsonl" for name in names)
    return f"---\nconfigs:\n- config_name: default\n  data_files:{files}\n---"


def _facts(
    recipe: SynthRecipe, seeds: Mapping[str, Json], counts: TaskCounts, usage: Usage
) -> list[str]:
    generator = recipe.generator
    server = f" at `{generator.endpoint}`" if generator.endpoint else ""
    cost = f", cost {usage.cost:.4f}" if usage.cost else ""
    reference = f"the greedy completion of `{recipe.model.base}`" if recipe.model else "none"
    return [
        f"- seeds: {seeds['seeds']} pieces of code from `{recipe.seeds.data}`; its licences apply",
        f"- generator: `{generator.model}`{server} ({usage.replies} replies, "
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out{cost})",
        f"- reference: {reference}",
        f"- tests: {counts.with_tests} of {counts.tasks} tasks have tests, each checked on a "
        "secure and an insecure solution",
        "- splits: seeds of one origin, or with nearly the same code, share one",
    ]


def _table(title: str, rows: Mapping[str, int]) -> str:
    if not rows:
        return ""
    lines = [f"| {title} | count |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {count} |" for key, count in rows.items())])
