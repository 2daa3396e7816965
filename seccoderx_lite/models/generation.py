"""The `Generator` protocol, and batched generation with one role of the loaded base.

Importing this module does not import torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.models.adapters import Role
    from seccoderx_lite.models.base import Base
    from seccoderx_lite.models.prefix_cache import PrefixCache

Answer = TypeVar("Answer")


class Generator(Protocol):
    """Completes prompts; None stands for a prompt whose generation failed."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion per prompt, in order; temperature 0 is greedy."""

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

    `options` are passed to the model's `generate`.
    """
    import torch

    from seccoderx_lite.models.prefix_cache import padded_left

    texts = [render_chat(tokenizer, prompt) for prompt in prompts]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
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
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **_sampling(temperature),
                **options,
            )
        new_ids = output[:, batch.shape[1] :]
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
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.roles import acting_as

        tokenizer = self._base.tokenizer
        with (
            acting_as(self._role, self._base.model, tokenizer) as model,
            generating(self._base) as options,
        ):
            texts = generate_texts(
                model,
                tokenizer,
                prompts,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                batch_size=self._batch_size,
                **options,
            )
        return list(texts)

    def answer_probabilities(
        self, prompts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
    ) -> list[float | None]:
        """Return the probabilities from one forward pass; see `forced_answer`."""
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.forced_answer import forced_answer_probabilities
        from seccoderx_lite.models.prefix_cache import PrefixCache, weights_key
        from seccoderx_lite.models.roles import acting_as

        self.prefix_cache = self.prefix_cache or PrefixCache()
        tokenizer = self._base.tokenizer
        texts = [render_chat(tokenizer, prompt) for prompt in prompts]
        rendered_prefixes = [
            text.partition(prefix)[0] + prefix if prefix and prefix in text else ""
            for text, prefix in zip(texts, prefixes, strict=True)
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
        return list(probabilities)

    @property
    def is_on_cpu(self) -> bool:
        return self._base.device.type == "cpu"

    def identity(self) -> str:
        """Return the base's name and precision, and a digest of the role's adapter."""
        from seccoderx_lite.models.adapters import adapter_digest

        base = self._base
        digest = adapter_digest(base.model, self._role) if self._role != "reference" else "bare"
        precision = "nf4" if getattr(base.model, "is_loaded_in_4bit", False) else base.model.dtype
        return f"{base.name} {precision} {digest}"
