"""What uses an engine: TRL for rollouts of the policy, and a `Generator` for any other role."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.engine import Engine
from seccoderx_lite.models.forced_answer import split_at_answers
from seccoderx_lite.models.generation import RoleGenerator, prompt_ids, render_chat

if TYPE_CHECKING:
    from seccoderx_lite.models.adapters import Role


class EngineRollouts:
    """The two methods that TRL's GRPO trainer calls on its vLLM engine.

    Every completion has a seed made of the run's seed, the step and its place, so a resumed run
    samples what an unbroken one does.
    """

    def __init__(
        self,
        engine: Engine,
        model: Any,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        step: Callable[[], int],
        on_sampled: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._model = model
        self._temperature = temperature
        self._max_new_tokens = max_new_tokens
        self._seed = seed
        self._step = step
        self._on_sampled = on_sampled

    def sync_weights(self) -> None:
        """Give the engine the trained adapter as it is now."""
        self._engine.sync(self._model)

    def generate(
        self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None
    ) -> tuple[list[list[int]], list[list[int]], list[list[list[float]]], list[list[list[int]]]]:
        """Return prompts, completions, and per token the log-probability and id of the sampled one.

        Prompts repeat: each is completed once per place, `num_generations` times in all.
        """
        first = (self._seed * 1_000_003 + self._step()) * 65_536
        settings = [
            {
                "temperature": self._temperature,
                "max_tokens": min(self._max_new_tokens, self._engine.max_tokens - len(ids)),
                "logprobs": 0,
                "seed": (first + place) % 2**62,
                "ignore_eos": True,
                "stop_token_ids": [self._engine.base.tokenizer.eos_token_id],  # as TRL's generate
            }
            for place, ids in enumerate(prompts)
        ]
        outputs = self._engine.complete("trained", prompts, settings)
        if any(output is None for output in outputs):
            raise ModelError(
                f"rollouts: a prompt has more tokens than the engine holds "
                f"({self._engine.max_tokens}); lower model.max_prompt_tokens"
            )
        completions = [list(output.token_ids) for output in outputs]
        logprobs = [
            [[entry[token].logprob] for entry, token in zip(output.logprobs, ids, strict=True)]
            for output, ids in zip(outputs, completions, strict=True)
        ]
        self._on_sampled()
        return prompts, completions, logprobs, [[[token] for token in ids] for ids in completions]


def greedy_logprobs(
    engine: Engine, role: "Role", prompt: Sequence[int], tokens: int = 8
) -> tuple[list[int], torch.Tensor]:
    """Return greedy token ids of a role, and the engine's log-probabilities of them; shape (T,).

    At temperature 1: processed log-probabilities of a greedy choice would all be 0.
    """
    chosen: list[int] = []
    logprobs: list[float] = []
    for _ in range(tokens):
        settings = {"temperature": 1.0, "max_tokens": 1, "logprobs": 1}
        (output,) = engine.complete(role, [[*prompt, *chosen]], [settings])
        token, entry = max(output.logprobs[0].items(), key=lambda item: item[1].logprob)
        chosen.append(token)
        logprobs.append(entry.logprob)
    return chosen, torch.tensor(logprobs)


class EngineGenerator(RoleGenerator):
    """A generator that uses the engine of a base instead of the base itself."""

    def __init__(self, engine: Engine, role: "Role") -> None:
        super().__init__(engine.base, role, batch_size=1)
        self._engine = engine

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion per prompt; None for a prompt that is too long."""
        ids = prompt_ids(self._base.tokenizer, prompts)
        first = int(torch.randint(2**31, ()).item()) if temperature else None
        settings = [
            {
                "temperature": temperature,
                "max_tokens": max(1, min(max_new_tokens, self._engine.max_tokens - len(row))),
                "stop_token_ids": self._ends(),
                "seed": None if first is None else first + place,
            }
            for place, row in enumerate(ids)
        ]
        outputs = self._engine.complete(self._role, ids, settings)
        return [
            output and self._base.tokenizer.decode(list(output.token_ids), skip_special_tokens=True)
            for output in outputs
        ]

    def answer_probabilities(
        self, prompts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
    ) -> list[float | None]:
        """Return probabilities from one token, sampled between the first tokens that differ.

        Nothing else is allowed, so its log-probabilities are those of one answer against the other.
        """
        texts = [render_chat(self._base.tokenizer, prompt) for prompt in prompts]
        split = split_at_answers(self._base.tokenizer, texts, answers)
        settings = [
            {
                "temperature": 1.0,
                "max_tokens": 1,
                "logprobs": 2,
                "allowed_token_ids": list(tokens),
            }
            for _, tokens in split
        ]
        outputs = self._engine.complete(self._role, [stem for stem, _ in split], settings)
        return [
            output and _probability(output.logprobs[0], tokens[0])
            for output, (_, tokens) in zip(outputs, split, strict=True)
        ]

    def _ends(self) -> list[int]:
        """The tokens that end an answer, as for the model's own generation."""
        ends = self._base.model.generation_config.eos_token_id
        return [self._base.tokenizer.eos_token_id] if ends is None else _as_list(ends)


def _as_list(ends: int | list[int]) -> list[int]:
    return [ends] if isinstance(ends, int) else list(ends)


def _probability(entries: Any, token: int) -> float:
    return float(torch.tensor(entries[token].logprob).exp()) if token in entries else 0.0
