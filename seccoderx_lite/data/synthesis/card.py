"""The card of a synthesised data set: where it comes from, what is in it, what was dropped."""

from collections.abc import Mapping

from seccoderx_lite.core import cwe
from seccoderx_lite.core.records import Json
from seccoderx_lite.recipe.synth import TEMPLATES, SynthRecipe

_AUTHORS = {
    True: "They were drawn by rule from the templates that ship with the toolkit: held-out tasks "
    "are mostly other forms of jobs that are trained on.",
    False: "A model wrote them: read a sample before you rely on them.",
}


def render_card(
    recipe: SynthRecipe, summaries: Mapping[str, Mapping[str, Json]], *, has_split_files: bool
) -> str:
    """Return README.md with the front matter that `datasets` reads, from the stages' summaries.

    Args:
        recipe: what was asked for.
        summaries: what the stages tell, by name.
        has_split_files: whether each split has a file, or `tasks.jsonl` a column `split`.
    """
    flat, seeds = summaries["flatten"], summaries["seeds"]
    usage = summaries.get("usage", {})
    reference = (
        f"the greedy answer of `{recipe.model.base}`" if recipe.model else "none was written"
    )
    parts = [
        f"---\nconfigs:\n- config_name: default\n  data_files:{_files(flat, has_split_files)}\n---",
        f"# {recipe.name}",
        "Coding tasks that invite a weakness without naming it, made by `seccoderx-lite synth` "
        "from vulnerable code. They are for training and measuring models that write secure "
        f"code. {_AUTHORS[recipe.generator.model == TEMPLATES]}",
        f"- seeds: {seeds['seeds']} pieces of code from `{recipe.seeds.data}`, "
        "whose licences hold\n"
        f"- generator: `{recipe.generator.model}`"
        + (f" at `{recipe.generator.endpoint}`" if recipe.generator.endpoint else "")
        + _usage(usage)
        + f"\n- reference: {reference}\n"
        f"- tests: {flat['with_tests']} of {flat['tasks']} tasks have tests that proved "
        "themselves\n- splits: seeds of one origin, or with nearly the same code, share one"
        + ("" if has_split_files else "; the column `split` says which: train on `train` alone"),
        _table("Split", flat["per_split"]),
        _table(
            "Weakness",
            {f"{id_} {cwe.get(id_).short_name}": n for id_, n in flat["per_cwe"].items()},
        ),
        _table("Language", flat["per_language"]),
    ]
    dropped = {"seeds": seeds["dropped"], **flat["dropped"]}
    rows = {
        f"{stage}: {reason}": count
        for stage, reasons in dropped.items()
        for reason, count in reasons.items()
    }
    parts.append(_table("Dropped", rows))
    parts.append(_table("Tests left out", flat["tests_left_out"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(flat: Mapping[str, Json], has_split_files: bool) -> str:
    if not has_split_files:
        return " tasks.jsonl"
    return "".join(f"\n  - split: {name}\n    path: {name}.jsonl" for name in flat["per_split"])


def _usage(usage: Mapping[str, Json]) -> str:
    if not usage:
        return ""
    cost = f", cost {usage['cost']:.4f}" if usage["cost"] else ""
    return (
        f" ({usage['replies']} replies, {usage['input_tokens']} tokens in, "
        f"{usage['output_tokens']} out{cost})"
    )


def _table(title: str, rows: Mapping[str, Json]) -> str:
    if not rows:
        return ""
    lines = [f"| {title} | count |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {count} |" for key, count in rows.items())])
