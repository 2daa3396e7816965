"""Synthesis: vulnerable code in, tasks that invite the same weakness out.

    seeds --> scenarios --> tasks --> filter [--> quality] [--> references] [--> tests] --> flatten

Every arrow is a JSON-lines file of the run folder with one line for each record that went in. A
killed run goes on at the chunk it was in, and its result is the same as that of a run which
nothing interrupted. Replies of the generator are kept beside the run folder, in
`<run folder>.replies.sqlite`, so that nothing is asked twice, also after `--fresh`.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.languages import language_of
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis import proof, seeds
from seccoderx_lite.data.synthesis.asking import Asker, Outcome, seed_of, source_for
from seccoderx_lite.data.synthesis.card import render_card
from seccoderx_lite.data.synthesis.dataset import DATASET, SECCODERX, flatten
from seccoderx_lite.data.synthesis.filtering import FILTERED, Filter, read_counts
from seccoderx_lite.data.synthesis.lines import Record, count_lines, passed, walk, with_seed
from seccoderx_lite.data.synthesis.prompts import (
    CallTests,
    ProgramTests,
    quality_request,
    scenarios_request,
    task_request,
    tests_request,
)
from seccoderx_lite.data.synthesis.replies import Replies
from seccoderx_lite.models.chat_client import key_headers
from seccoderx_lite.recipe.recipe import ModelRecipe
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.environment import describe_environment
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.sandbox import Sandbox

if TYPE_CHECKING:  # this imports torch
    from seccoderx_lite.models.base import Base

Progress = Callable[[str, int, int, Mapping[str, Json]], None]

SCENARIOS, DRAFTS, QUALITY = "scenarios.jsonl", "drafts.jsonl", "quality.jsonl"
REFERENCES, TESTS = "references.jsonl", "tests.jsonl"
ASKED_TOGETHER = 16
"""Requests a chunk has for each one in flight: the last of a chunk leave few hands idle."""
TESTED_TOGETHER = 32


def no_progress(stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
    """Show nothing."""


def run(
    recipe: SynthRecipe,
    run_folder: Path | str | None = None,
    *,
    fresh: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Run a synthesis, resuming what was begun, and return the folder of the data set.

    Raises:
        SeccoderxError: whatever a stage raises; what was done until then is kept.
    """
    target = Path(run_folder) if run_folder else Path("runs") / recipe.name
    with ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(recipe.sandbox)) if recipe.tests else None
        environment = describe_environment(sandbox) if sandbox else None
        folder = stack.enter_context(RunFolder.open(target, recipe, fresh, environment))
        replies = stack.enter_context(
            Replies(folder.path.with_name(f"{folder.path.name}.replies.sqlite"))
        )
        return _Synthesis(recipe, folder, replies, sandbox, progress).run()


@dataclass
class _Synthesis:
    """What the stages share; models are loaded when a stage first needs them."""

    recipe: SynthRecipe
    folder: RunFolder[SynthRecipe]
    replies: Replies
    sandbox: Sandbox | None
    progress: Progress
    _bases: dict[tuple[str, str], "Base"] = field(default_factory=dict, init=False)
    _asker: Asker | None = field(default=None, init=False)

    def run(self) -> Path:
        """Run what is not finished."""
        recipe = self.recipe
        if not self.folder.is_done("flatten"):
            _check_settings(recipe)
        last = QUALITY if recipe.filter.min_quality else FILTERED
        self._stage("seeds", lambda: seeds.gather(recipe, self.folder))
        self._stage("scenarios", self._scenarios)
        self._stage("tasks", self._tasks)
        self._stage("filter", self._filter)
        if recipe.filter.min_quality:
            self._stage("quality", self._quality)
        if recipe.model:
            before, last = last, REFERENCES
            self._stage("references", lambda: self._references(before))
        if recipe.tests:
            source, last = last, TESTS
            self._stage("tests", lambda: self._tests(source))
        self._stage("flatten", lambda: self._flatten(last))
        return self.folder.path / DATASET

    def _stage(self, name: str, work: Callable[[], dict[str, Json]]) -> None:
        if not self.folder.is_done(name):
            self.progress(name, 0, 1, {})
            self.folder.mark_done(name, work())
        self.progress(name, 1, 1, {"done": True, **self.folder.read_summary(name)})

    def _walk(
        self,
        stage: str,
        file: str,
        items: Iterator[Any],
        total: int,
        work: Callable[[int, list[Any]], list[Record]],
        chunk: int,
    ) -> dict[str, Json]:
        def tell(done: int) -> None:
            usage = self.replies.totals()
            self.progress(stage, done, total, {"cost": usage["cost"]} if usage["cost"] else {})

        walk(self.folder, file, items, work, chunk, tell)
        kept = count_lines(self.folder, file)
        return {"records": total, "passed": kept, "dropped": total - kept}

    @property
    def asker(self) -> Asker:
        """Asks the recipe's generator."""
        if self._asker is None:
            generator = self.recipe.generator
            local = ModelRecipe(base=generator.model, quantization=generator.quantization)
            source = source_for(
                generator, self.replies, lambda: self._base(local), self.recipe.seed
            )
            self._asker = Asker(source, self.replies, _identity(self.recipe))
        return self._asker

    def _base(self, model: ModelRecipe) -> "Base":
        from seccoderx_lite.models.base import load_base

        key = model.base, model.quantization
        if key not in self._bases:
            self._bases[key] = load_base(model)
        return self._bases[key]

    @property
    def _chunk(self) -> int:
        generator = self.recipe.generator
        at_once = generator.concurrency if generator.endpoint else generator.batch_size
        return at_once * ASKED_TOGETHER

    def _scenarios(self) -> dict[str, Json]:
        settings = self.recipe.scenarios
        per_cwe = self.folder.read_summary("seeds")["per_cwe"]

        def count(seed: Record) -> int:
            is_common = per_cwe[seed["cwe"]] >= settings.common_from
            return settings.per_common_seed if is_common else settings.per_seed

        def work(position: int, part: list[Record]) -> list[Record]:
            requests = [scenarios_request(seed, count(seed)) for seed in part]
            records: list[Record] = []
            for seed, outcome in zip(part, self.asker.ask_all(requests), strict=True):
                made = outcome.drop()
                if outcome.answer:
                    distinct = list(dict.fromkeys(outcome.answer.scenarios))
                    made = {"scenarios": distinct[: count(seed)]}
                records.append({"id": seed["id"], "seed": seed["id"], **made})
            return records

        total = self.folder.read_summary("seeds")["seeds"]
        items = self.folder.read_jsonl(seeds.SEEDS)
        return self._walk("scenarios", SCENARIOS, items, total, work, self._chunk)

    def _tasks(self) -> dict[str, Json]:
        settings = self.recipe.tasks

        def items() -> Iterator[tuple[Record, int, str]]:
            for seed, record in with_seed(self.folder, passed(self.folder, SCENARIOS)):
                for number, scenario in enumerate(record["scenarios"]):
                    yield seed, number, scenario

        def language(seed: Record, number: int) -> str:
            order = list(settings.languages)
            random.Random(seed_of(self.recipe.seed, seed["id"], "languages")).shuffle(order)
            return order[number % len(order)]

        def work(position: int, part: list[tuple[Record, int, str]]) -> list[Record]:
            told = ", ".join(settings.languages)
            requests = [
                task_request(seed, scenario, language(seed, number), told, settings.max_lines)
                for seed, number, scenario in part
            ]
            records: list[Record] = []
            for item, outcome in zip(part, self.asker.ask_all(requests), strict=True):
                seed, number, scenario = item
                made = outcome.drop()
                if answer := outcome.answer:
                    named = answer.implementation_language
                    made = {
                        "prompt": answer.coding_task_prompt.strip(),
                        "design_plan": answer.design_plan,
                        "language": language_of(named) or named,
                    }
                about: Record = {
                    "id": f"{seed['id']}-{number + 1}", "seed": seed["id"], "cwe": seed["cwe"],
                    "scenario_id": number + 1, "scenario": scenario,
                    "sampled_language": language(seed, number),
                }  # fmt: skip
                records.append({**about, **made})
            return records

        total = sum(len(r["scenarios"]) for r in passed(self.folder, SCENARIOS))
        return self._walk("tasks", DRAFTS, items(), total, work, self._chunk)

    def _filter(self) -> dict[str, Json]:
        work = Filter(self.recipe, self.folder)
        total = count_lines(self.folder, DRAFTS)
        told = self._walk("filter", FILTERED, passed(self.folder, DRAFTS), total, work, 256)
        work.close()
        return told

    def _quality(self) -> dict[str, Json]:
        least = self.recipe.filter.min_quality or 0
        max_lines = self.recipe.tasks.max_lines

        def work(position: int, part: list[Record]) -> list[Record]:
            requests = [quality_request(task, max_lines) for task in part]
            records: list[Record] = []
            for task, outcome in zip(part, self.asker.ask_all(requests), strict=True):
                made = outcome.drop()
                if answer := outcome.answer:
                    made = {"mark": answer.mark}
                    if answer.mark < least:
                        made |= {"dropped": "quality is too low", "detail": answer.reason}
                records.append({**task, **made})
            return records

        total = count_lines(self.folder, FILTERED)
        items = passed(self.folder, FILTERED)
        return self._walk("quality", QUALITY, items, total, work, self._chunk)

    def _completions(self, tasks: Sequence[str], temperature: float) -> list[str]:
        from seccoderx_lite.models.generation import RoleGenerator

        assert self.recipe.model is not None
        settings = self.recipe.references
        generator = RoleGenerator(self._base(self.recipe.model), "reference", settings.batch_size)
        texts = generator.generate(
            tasks, max_new_tokens=settings.max_new_tokens, temperature=temperature
        )
        return [text or "" for text in texts]

    def _references(self, source: str) -> dict[str, Json]:
        def work(position: int, part: list[Record]) -> list[Record]:
            fitting = [task["prompt"] for task in part if self._fits(task["prompt"])]
            completions = dict(zip(fitting, self._completions(fitting, 0.0), strict=True))
            return [_with_reference(task, completions.get(task["prompt"])) for task in part]

        total = count_lines(self.folder, source)
        chunk = self.recipe.references.batch_size * 4
        items = passed(self.folder, source)
        return self._walk("references", REFERENCES, items, total, work, chunk)

    def _fits(self, prompt: str) -> bool:
        from seccoderx_lite.models.generation import render_chat

        assert self.recipe.model is not None
        tokenizer = self._base(self.recipe.model).tokenizer
        text = render_chat(tokenizer, prompt)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return len(ids) <= self.recipe.model.max_prompt_tokens

    def _tests(self, source: str) -> dict[str, Json]:
        def work(position: int, part: list[Record]) -> list[Record]:
            outcomes: list[Outcome[Any]] = self.asker.ask_all([tests_request(t) for t in part])
            sampled = self._candidates(position, part)
            assert self.sandbox is not None
            runs = [
                proof.submit(
                    self.sandbox,
                    outcome.answer.as_tests(),
                    _candidates_for(task, outcome.answer, codes),
                    task["language"],
                )
                if outcome.answer
                else []
                for task, outcome, codes in zip(part, outcomes, sampled, strict=True)
            ]
            return [
                _with_tests(task, outcome, proof.prove(started))
                for task, outcome, started in zip(part, outcomes, runs, strict=True)
            ]

        total = count_lines(self.folder, source)
        items = passed(self.folder, source)
        told = self._walk("tests", TESTS, items, total, work, TESTED_TOGETHER)
        proved = sum("tests" in record for record in self.folder.read_jsonl(TESTS))
        return {**told, "proved": proved}

    def _candidates(self, position: int, part: list[Record]) -> list[list[str]]:
        """Sample completions of the policy base; the draws depend on the chunk alone."""
        settings = self.recipe.tests
        if settings is None or not settings.candidates or self.recipe.model is None:
            return [[] for _ in part]
        import torch

        torch.manual_seed(seed_of(self.recipe.seed, "candidates", position))
        count = settings.candidates
        prompts = [task["prompt"] for task in part for _ in range(count)]
        texts = self._completions(prompts, settings.temperature)
        codes = [extract_code(text) or "" for text in texts]
        return [codes[n * count : (n + 1) * count] for n in range(len(part))]

    def _flatten(self, last: str) -> dict[str, Json]:
        names = {
            "scenarios": SCENARIOS, "tasks": DRAFTS, "filter": FILTERED, "quality": QUALITY,
            "references": REFERENCES,
        }  # fmt: skip
        summary = flatten(self.recipe, self.folder, last, names)
        told = {
            "seeds": self.folder.read_summary("seeds"),
            "flatten": summary,
            "usage": self.replies.totals(),
        }
        card = render_card(self.recipe, told, has_split_files=False)
        self.folder.write_text(f"{DATASET}/README.md", card)
        if "seccoderx" in self.recipe.layouts:
            card = render_card(self.recipe, told, has_split_files=True)
            self.folder.write_text(f"{SECCODERX}/README.md", card)
        return {**summary, "usage": told["usage"]}


def _check_settings(recipe: SynthRecipe) -> None:
    """Find out now what would otherwise end the run after hours of asking."""
    if recipe.filter.counts:
        read_counts(recipe.filter.counts)
    if recipe.generator.endpoint:
        key_headers(recipe.generator.api_key_env, "generator")
    if recipe.model:
        from seccoderx_lite.models.shapes import model_shape

        model_shape(recipe.model.base)


def _identity(recipe: SynthRecipe) -> list[Json]:
    """What tells a generator from one that might reply otherwise."""
    generator = recipe.generator
    about = [generator.endpoint, generator.model, generator.temperature, generator.max_new_tokens]
    if generator.endpoint:
        # Without further fields as if there were none to give, so that earlier replies still count.
        return [*about, generator.json_mode, *([generator.request] if generator.request else [])]
    return [*about, generator.quantization, recipe.seed]


def _with_reference(task: Record, completion: str | None) -> Record:
    if completion is None:
        return {**task, "dropped": "prompt is longer than model.max_prompt_tokens"}
    code = extract_code(completion)
    if not code or not code.strip():
        return {**task, "dropped": "no code in the reference completion"}
    return {**task, "completion": completion, "reference": code}


def _candidates_for(
    task: Record, answer: CallTests | ProgramTests, sampled: Sequence[str]
) -> list[str]:
    own = [answer.secure_solution, answer.insecure_solution]
    return [task.get("reference") or "", *own, *sampled]


def _with_tests(task: Record, outcome: Outcome[Any], result: proof.Proof) -> Record:
    if outcome.answer is None:
        return {**task, "tests_left_out": outcome.reason, "detail": outcome.detail}
    if result.fault:
        reason, _, detail = result.fault.partition(": ")
        return {**task, "tests_left_out": reason, "detail": detail}
    about = {"candidates_passed": result.passed, "candidates_refuted": result.refuted}
    return {**task, "tests": outcome.answer.as_tests(), **about}
