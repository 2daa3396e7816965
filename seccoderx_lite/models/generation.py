"""The `Generator` protocol, and batched generation with one role of the loaded base.

Importing this module does not import torch.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.models.adapters import Role
    from seccoderx_lite.models.base import Base
    from seccoderx_lite.models.prefix_cache import PrefixCache

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class TextGenerator(Protocol):
    """Completes prompts; None for a prompt whose generation failed."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion per prompt, in order; temperature 0 is greedy."""


class Generator(TextGenerator, Protocol):
    """Completes prompts, and compares two answers to each."""

    def answer_probabilities(
        self, prompts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
    ) -> list[float | None]:
        """Return per prompt the probability of the first of two answers, the second being 1 - p.

        Args:
            prompts: complete prompts.
            prefixes: the beginning of each prompt that other prompts share; "" for none.
            answers: the two answers.
        """

    def identity(self) -> str:
        """Return a cache key: equal keys mean equal answers."""


def render_chat(tokenizer: Any, prompt: str) -> str:
    """Return a prompt as one user turn in the model's chat template, ready for the answer."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    return text


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens that a model is asked with, for each prompt.

    Templates write special tokens themselves, so the tokenizer must not add its own.
    """
    texts = [render_chat(tokenizer, prompt) for prompt in prompts]
    return token_ids(tokenizer, texts)


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of rendered texts."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return ids


def following_ids(
    tokenizer: Any, heads: Sequence[str], tails: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of rendered prompts, and those of what follows each of them.

    The prompt has the tokens that the model is asked with: where a token of the whole text would
    span the boundary, the tail is tokenised alone.
    """
    asked = token_ids(tokenizer, heads)
    whole = token_ids(tokenizer, [head + tail for head, tail in zip(heads, tails, strict=True)])
    return [
        (head, ids[len(head) :] if ids[: len(head)] == head else token_ids(tokenizer, [tail])[0])
        for head, ids, tail in zip(asked, whole, tails, strict=True)
    ]


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    **options: Any,
) -> list[str]:
    """Return one completion per prompt from the active adapter, in order.

    A completion ends at the end of the model's context. `options` are passed to the model's
    `generate`.
    """
    import torch

    from seccoderx_lite.models.context import context_of
    from seccoderx_lite.models.prefix_cache import padded_left

    ids = prompt_ids(tokenizer, prompts)
    context = context_of(model)
    room = [min(max_new_tokens, context - len(each)) if context else max_new_tokens for each in ids]
    # Prompts of similar length share a batch, to keep padding low.
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
    completions = [""] * len(ids)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch, mask = padded_left(model, tokenizer, [ids[index] for index in chosen])
        with torch.no_grad():
            output = model.generate(
                input_ids=batch,
                attention_mask=mask,
                max_new_tokens=max(1, *(room[index] for index in chosen)),
                pad_token_id=tokenizer.pad_token_id,
                **_sampling(temperature),
                **options,
            )
        new_ids = [
            row[batch.shape[1] :][: room[index]] for index, row in zip(chosen, output, strict=True)
        ]
        decoded = tokenizer.batch_decode(new_ids, skip_special_tokens=True)
        for index, text in zip(chosen, decoded, strict=True):
            completions[index] = text
    return completions


def _sampling(temperature: float) -> dict[str, Any]:
    # The default would be the model's generation config (1.1 in Qwen2.5-Coder), unused in training.
    plain = {"repetition_penalty": 1.0}
    if temperature > 0:
        return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, **plain}
    return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None, **plain}


class PlainGenerator:
    """Generates with a model as it is: its active adapter, or none."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        return list(
            generate_texts(
                self._model,
                self._tokenizer,
                prompts,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                batch_size=self._batch_size,
            )
        )


_ANSWER_TOKENS = 16
"""More than the answers that are compared have."""


class RoleGenerator:
    """A generator that uses one role of the shared base."""

    def __init__(self, base: "Base", role: "Role", batch_size: int) -> None:
        self._base = base
        self._role = role
        self._batch_size = batch_size
        self.prefix_cache: PrefixCache | None = None

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion per prompt; None for one that leaves no room in the context."""
        from seccoderx_lite.models.adapter_switch import acting_as
        from seccoderx_lite.models.decoding import generating

        tokenizer = self._base.tokenizer
        places = self._readable(prompts, max_new_tokens)
        with (
            acting_as(self._role, self._base.model, tokenizer) as model,
            generating(self._base) as options,
        ):
            texts = generate_texts(
                model,
                tokenizer,
                [prompts[place] for place in places],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                batch_size=self._batch_size,
                **options,
            )
        found = dict(zip(places, texts, strict=True))
        return [found.get(place) for place in range(len(prompts))]

    def answer_probabilities(
        self, prompts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
    ) -> list[float | None]:
        """Return the probabilities from one forward pass; see `forced_answer`.

        None for a prompt that leaves no room in the context.
        """
        from seccoderx_lite.models.adapter_switch import acting_as
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.forced_answer import forced_answer_probabilities
        from seccoderx_lite.models.prefix_cache import PrefixCache, weights_key

        self.prefix_cache = self.prefix_cache or PrefixCache()
        tokenizer = self._base.tokenizer
        places = self._readable(prompts, _ANSWER_TOKENS)
        texts = [render_chat(tokenizer, prompts[place]) for place in places]
        rendered_prefixes = [
            text.partition(prefix)[0] + prefix if prefix and prefix in text else ""
            for text, prefix in zip(texts, (prefixes[place] for place in places), strict=True)
        ]
        with acting_as(self._role, self._base.model, tokenizer) as model, generating(self._base):
            self.prefix_cache.use_weights(weights_key(model, self._role))
            probabilities = forced_answer_probabilities(
                model,
                tokenizer,
                texts,
                rendered_prefixes,
                answers,
                batch_size=self._batch_size,
                prefix_cache=self.prefix_cache,
            )
        found = dict(zip(places, probabilities, strict=True))
        return [found.get(place) for place in range(len(prompts))]

    def _readable(self, prompts: Sequence[str], max_new_tokens: int) -> list[int]:
        """Return the places of the prompts that fit into the model's context; count the others."""
        from seccoderx_lite.models.context import longest_prompt, too_long

        base = self._base
        is_long = too_long(base.model, base.tokenizer, prompts, max_new_tokens)
        if any(is_long):
            logger.warning(
                "%s: %d of %d prompts are longer than %s tokens, which its context leaves, and "
                "are not asked",
                base.name,
                sum(is_long),
                len(prompts),
                longest_prompt(base.model, max_new_tokens),
            )
        return [place for place, long in enumerate(is_long) if not long]

    @property
    def is_on_cpu(self) -> bool:
        return self._base.device.type == "cpu"

    def identity(self) -> str:
        """Return the base's name and precision, and a digest of the role's adapter."""
        from seccoderx_lite.models.adapters import adapter_digest

        base = self._base
        digest = adapter_digest(base.model, self._role) if self._role != "reference" else "bare"
        precision = "nf4" if getattr(base.model, "is_loaded_in_4bit", False) else base.model.dtype
        return " ".join(filter(None, [base.name, base.arguments, str(precision), digest]))
