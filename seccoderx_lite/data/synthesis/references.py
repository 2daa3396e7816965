"""The stage `references`: the greedy completion of the policy base for each task."""

from collections.abc import Sequence

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.context import StageFiles, Synthesis
from seccoderx_lite.data.synthesis.stage_files import Line, count_passed, passed


def write_references(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    def work(position: int, part: list[Line]) -> list[Line]:
        prompts = [task["prompt"] for task in part if _fits(synthesis, task["prompt"])]
        completions = dict(zip(prompts, complete(synthesis, prompts, 0.0), strict=True))
        return [_with_reference(task, completions.get(task["prompt"])) for task in part]

    total = count_passed(synthesis.folder, stage.source)
    chunk = synthesis.recipe.references.batch_size * 4
    return synthesis.process(stage, passed(synthesis.folder, stage.source), total, work, chunk)


def complete(synthesis: Synthesis, prompts: Sequence[str], temperature: float) -> list[str]:
    """Return one completion of the policy base per prompt."""
    from seccoderx_lite.models.generation import RoleGenerator

    assert synthesis.recipe.model is not None
    settings = synthesis.recipe.references
    base = synthesis.base(synthesis.recipe.model)
    texts = RoleGenerator(base, "reference", settings.batch_size).generate(
        prompts, max_new_tokens=settings.max_new_tokens, temperature=temperature
    )
    return [text or "" for text in texts]


def _fits(synthesis: Synthesis, prompt: str) -> bool:
    from seccoderx_lite.models.generation import prompt_ids

    model = synthesis.recipe.model
    assert model is not None
    tokenizer = synthesis.base(model).tokenizer
    return len(prompt_ids(tokenizer, [prompt])[0]) <= model.max_prompt_tokens


def _with_reference(task: Line, completion: str | None) -> Line:
    if completion is None:
        return {**task, "dropped": "prompt is longer than model.max_prompt_tokens"}
    code = extract_code(completion, task["language"])
    if not code or not code.strip():
        return {**task, "dropped": "no code in the reference completion"}
    return {**task, "completion": completion, "reference": code}
