"""The model card of an export: what it is, how it was made, and what was measured."""

from typing import Literal

from seccoderx_lite.errors import RunFolderError
from seccoderx_lite.recipe import Recipe, dump_recipe
from seccoderx_lite.records import Json
from seccoderx_lite.run_folder import RunFolder

USE = {
    "adapter": (
        "from peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")'
    ),
    "merged": (
        "from transformers import AutoModelForCausalLM\n\n"
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")'
    ),
}


def model_card(recipe: Recipe, folder: RunFolder, form: Literal["adapter", "merged"]) -> str:
    """Return the card as Markdown with the metadata block that model hubs read."""
    base = recipe.model.base
    library = "peft" if form == "adapter" else "transformers"
    tasks = recipe.policy.tasks if recipe.policy else "none"
    return "\n".join(
        [
            "---",
            f"base_model: {base}",
            f"library_name: {library}",
            "tags: [code, security, lora, grpo, seccoderx-lite]",
            "---",
            f"# {recipe.name}",
            "",
            f"`{base}` aligned by seccoderx-lite to write code that works and resists attacks "
            f"({'LoRA adapter' if form == 'adapter' else 'LoRA adapter merged into the base'}).",
            "",
            "```python",
            USE[form],
            "```",
            "",
            f"Trained by GRPO on the tasks `{tasks}`.",
            "",
            "## Measured",
            "",
            *_measured(folder),
            "",
            "Tests were executed on held-out tasks; the judge that rewarded the training was not "
            "asked. Sampled at the temperature of training. Intervals are 95% bootstrap intervals "
            "over tasks.",
            "",
            "## Recipe",
            "",
            "```yaml",
            dump_recipe(recipe).rstrip(),
            "```",
            "",
        ]
    )


def _measured(folder: RunFolder) -> list[str]:
    try:
        evaluation = folder.read_json("evaluation.json")
    except RunFolderError:
        return ["Nothing was measured in this run."]
    rows = ["| suite | | functional | secure | ESR | tasks |", "|---|---|---|---|---|---|"]
    for phase in ("before", "after"):
        for suite, scores in evaluation.get(phase, {}).items():
            rows.append(
                f"| {suite} | {phase} | {_share(scores['functional'])} "
                f"| {_share(scores['secure'])} "
                f"| {_share(scores['esr'], scores['interval_95'].get('esr'))} | {scores['n']} |"
            )
    return rows


def _share(value: Json, interval: Json = None) -> str:
    if value is None:
        return "-"
    text = f"{value:.3f}"
    return text if interval is None else f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]"
