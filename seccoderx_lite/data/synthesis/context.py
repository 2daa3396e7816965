"""What the stages of one synthesis share: recipe, folder, generator, models and sandbox."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.generator import TaskGenerator
from seccoderx_lite.data.synthesis.replies import ReplyCache
from seccoderx_lite.data.synthesis.sources import open_source, source_identity
from seccoderx_lite.data.synthesis.stage_files import Item, Line, count_passed, process_in_chunks
from seccoderx_lite.recipe.recipe import ModelRecipe
from seccoderx_lite.recipe.synth import SynthRecipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress
from seccoderx_lite.sandbox import Sandbox

if TYPE_CHECKING:  # this imports torch
    from seccoderx_lite.models.base import Base

_REQUESTS_PER_SLOT = 16
"""Requests in a chunk per request in flight, so that few slots idle at the end of a chunk."""


@dataclass(frozen=True, slots=True)
class StageFiles:
    """A stage's name, the file it reads, and the file it writes."""

    name: str
    source: str
    target: str


@dataclass
class Synthesis:
    """One synthesis; models are loaded when a stage first needs them."""

    recipe: SynthRecipe
    folder: RunFolder[SynthRecipe]
    replies: ReplyCache
    sandbox: Sandbox | None
    progress: Progress
    _bases: dict[tuple[str, str], "Base"] = field(default_factory=dict, init=False)

    @cached_property
    def generator(self) -> TaskGenerator:
        recipe = self.recipe.generator
        local = ModelRecipe(base=recipe.model, quantization=recipe.quantization)
        source = open_source(self.recipe, self.replies, lambda: self.base(local))
        return TaskGenerator(source, self.replies, source_identity(self.recipe))

    def base(self, model: ModelRecipe) -> "Base":
        """Return a base model, loaded once even if it is generator and policy base."""
        from seccoderx_lite.models.base import load_base

        key = model.base, model.quantization
        if key not in self._bases:
            self._bases[key] = load_base(model)
        return self._bases[key]

    @property
    def generator_chunk(self) -> int:
        """Items per chunk of a stage that asks the generator."""
        generator = self.recipe.generator
        at_once = generator.concurrency if generator.endpoint else generator.batch_size
        return at_once * _REQUESTS_PER_SLOT

    def process(
        self,
        stage: StageFiles,
        items: Iterable[Item],
        total: int,
        work: Callable[[int, list[Item]], list[Line]],
        chunk: int,
    ) -> dict[str, Json]:
        """Write the stage's file with `process_in_chunks`; return how many lines passed."""

        def report(done: int) -> None:
            cost = self.replies.usage().cost
            self.progress(stage.name, done, total, {"cost": cost} if cost else {})

        process_in_chunks(self.folder, stage.target, items, work, chunk, report)
        kept = count_passed(self.folder, stage.target)
        return {"records": total, "passed": kept, "dropped": total - kept}
