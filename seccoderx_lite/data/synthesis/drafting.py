"""The stages that ask the generator: application settings, tasks, and marks for the tasks."""

import random
from collections.abc import Iterator

from seccoderx_lite.core.languages import language_of
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.context import StageFiles, Synthesis
from seccoderx_lite.data.synthesis.draws import draw_seed
from seccoderx_lite.data.synthesis.generator import ParsedReply
from seccoderx_lite.data.synthesis.prompts import (
    TaskDraft,
    quality_request,
    scenarios_request,
    task_request,
)
from seccoderx_lite.data.synthesis.seeds import Seed, read_seeds, with_seed
from seccoderx_lite.data.synthesis.stage_files import Line, count_passed, passed
from seccoderx_lite.recipe.synth import SynthRecipe


def write_scenarios(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    settings = synthesis.recipe.scenarios
    summary = synthesis.folder.read_summary("seeds")

    def count(seed: Seed) -> int:
        is_common = summary["per_cwe"][seed.cwe] >= settings.common_from
        return settings.per_common_seed if is_common else settings.per_seed

    def work(position: int, part: list[Seed]) -> list[Line]:
        replies = synthesis.generator.ask_all([scenarios_request(s, count(s)) for s in part])
        lines: list[Line] = []
        for seed, reply in zip(part, replies, strict=True):
            made = reply.as_drop()
            if reply.answer:
                distinct = list(dict.fromkeys(reply.answer.scenarios))
                made = {"scenarios": distinct[: count(seed)]}
            lines.append({"id": seed.id, "seed": seed.id, **made})
        return lines

    seeds = read_seeds(synthesis.folder)
    return synthesis.process(stage, seeds, summary["seeds"], work, synthesis.generator_chunk)


def write_tasks(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    recipe, folder = synthesis.recipe, synthesis.folder
    languages = ", ".join(recipe.tasks.languages)

    def items() -> Iterator[tuple[Seed, int, str]]:
        for seed, line in with_seed(folder, passed(folder, stage.source)):
            for number, scenario in enumerate(line["scenarios"]):
                yield seed, number, scenario

    def work(position: int, part: list[tuple[Seed, int, str]]) -> list[Line]:
        requests = [
            task_request(
                seed, scenario, _language(recipe, seed, number), languages, recipe.tasks.max_lines
            )
            for seed, number, scenario in part
        ]
        replies = synthesis.generator.ask_all(requests)
        return [
            {
                "id": f"{seed.id}-{number + 1}",
                "seed": seed.id,
                "cwe": seed.cwe,
                "scenario_id": number + 1,
                "scenario": scenario,
                "sampled_language": _language(recipe, seed, number),
                **_drafted(reply),
            }
            for (seed, number, scenario), reply in zip(part, replies, strict=True)
        ]

    total = sum(len(line["scenarios"]) for line in passed(folder, stage.source))
    return synthesis.process(stage, items(), total, work, synthesis.generator_chunk)


def _language(recipe: SynthRecipe, seed: Seed, number: int) -> str:
    """Return the language of a seed's task: each seed goes through all of them in its own order."""
    order = list(recipe.tasks.languages)
    random.Random(draw_seed(recipe.seed, seed.id, "languages")).shuffle(order)
    return order[number % len(order)]


def _drafted(reply: ParsedReply[TaskDraft]) -> Line:
    if reply.answer is None:
        return reply.as_drop()
    named = reply.answer.implementation_language
    return {
        "prompt": reply.answer.coding_task_prompt.strip(),
        "design_plan": reply.answer.design_plan,
        "language": language_of(named) or named,
    }


def write_marks(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    """Have the generator mark each task; drop those with a mark below `filter.min_quality`."""
    least = synthesis.recipe.filter.min_quality or 0
    max_lines = synthesis.recipe.tasks.max_lines

    def work(position: int, part: list[Line]) -> list[Line]:
        replies = synthesis.generator.ask_all([quality_request(task, max_lines) for task in part])
        lines: list[Line] = []
        for task, reply in zip(part, replies, strict=True):
            made = reply.as_drop()
            if answer := reply.answer:
                made = {"mark": answer.mark}
                if answer.mark < least:
                    made |= {"dropped": "quality is too low", "detail": answer.reason}
            lines.append({**task, **made})
        return lines

    total = count_passed(synthesis.folder, stage.source)
    tasks = passed(synthesis.folder, stage.source)
    return synthesis.process(stage, tasks, total, work, synthesis.generator_chunk)
