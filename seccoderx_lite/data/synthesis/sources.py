"""Where the generator's replies come from: a local model, a rule, or a server (`endpoint`)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.draws import draw_seed
from seccoderx_lite.data.synthesis.endpoint import ChatEndpoint
from seccoderx_lite.data.synthesis.replies import Refused, Reply, ReplyCache
from seccoderx_lite.recipe.synth import TEMPLATES, GeneratorRecipe, SynthRecipe

if TYPE_CHECKING:  # this imports torch
    from seccoderx_lite.models.base import Base

OnReply = Callable[[int, Reply | Refused], None]


class ReplySource(Protocol):
    def ask_all(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        """Call `on_reply` with the number of each prompt and its reply, as replies arrive."""
        ...


class LocalModel:
    """A model in memory, without adapters."""

    def __init__(self, base: "Base", recipe: GeneratorRecipe, seed: int) -> None:
        self._base = base
        self._recipe = recipe
        self._seed = seed

    def ask_all(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        """Answer batch by batch; the seed depends on the batch, not on what came before."""
        import torch

        from seccoderx_lite.models.generation import RoleGenerator

        size = self._recipe.batch_size
        generator = RoleGenerator(self._base, "reference", size)
        for start in range(0, len(prompts), size):
            batch = list(prompts[start : start + size])
            torch.manual_seed(draw_seed(self._seed, *batch))
            texts = generator.generate(
                batch,
                max_new_tokens=self._recipe.max_new_tokens,
                temperature=self._recipe.temperature,
            )
            for number, (prompt, text) in enumerate(zip(batch, texts, strict=True), start):
                on_reply(number, self._reply(prompt, text))

    def _reply(self, prompt: str, text: str | None) -> Reply | Refused:
        tokens = self._tokens(prompt)
        if text is None:
            return Refused(
                f"the prompt, {tokens} tokens, leaves the model no room for a reply of "
                f"{self._recipe.max_new_tokens} tokens; lower generator.max_new_tokens or "
                "seeds.max_code_chars"
            )
        return Reply(text, tokens, self._tokens(text))

    def _tokens(self, text: str) -> int:
        return len(self._base.tokenizer(text)["input_ids"])


class RuleSource:
    """Replies that are a function of the prompt alone."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer

    def ask_all(self, prompts: Sequence[str], on_reply: OnReply) -> None:
        for number, prompt in enumerate(prompts):
            on_reply(number, Reply(self._answer(prompt)))


def open_source(recipe: SynthRecipe, cache: ReplyCache, base: Callable[[], "Base"]) -> ReplySource:
    """Return the source that a recipe names; no server is contacted yet.

    Args:
        recipe: names the generator.
        cache: has the cost of earlier replies, and stores that of replies without text.
        base: loads the local model; called only if the generator is one.
    """
    from seccoderx_lite.data.builtin.rule_generator import answer

    generator = recipe.generator
    if generator.endpoint:
        return ChatEndpoint(generator, cache.usage().cost, cache.keep_cost)
    if generator.model == TEMPLATES:
        return RuleSource(answer)
    return LocalModel(base(), generator, recipe.seed)


def source_identity(recipe: SynthRecipe) -> list[Json]:
    """Return what decides a reply besides its prompt: part of the reply's cache key."""
    generator = recipe.generator
    about = [generator.endpoint, generator.model, generator.temperature, generator.max_new_tokens]
    if generator.endpoint:
        # An empty `request` adds nothing, so that replies from before that field still count.
        return [*about, generator.json_mode, *([generator.request] if generator.request else [])]
    return [*about, generator.quantization, recipe.seed]
