"""Text in, text out: batched generation on the loaded base, or from an OpenAI-compatible server."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.models.adapters import Role
    from seccoderx_lite.models.base import Base
    from seccoderx_lite.models.prefix_cache import PrefixCache

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Generator(Protocol):
    """Anything that completes prompts; None stands for a prompt whose generation failed."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order; temperature 0 is greedy."""
        ...

    def answer_probabilities(
        self, prompts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
    ) -> list[float | None]:
        """Return for each prompt the probability of the first answer against the second.

        `shared` is what each prompt begins with and others begin with too.
        """
        ...

    def identity(self) -> str:
        """Return what tells this generator from one that could answer otherwise."""
        ...


def render_chat(tokenizer: Any, prompt: str) -> str:
    """Return a prompt as one user turn of the model's chat, ready for the assistant's answer."""
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
    on_batch: Callable[[int], None] | None = None,
    **how: Any,
) -> list[str]:
    """Return one completion a prompt from the active adapter, in the order of the prompts.

    Prompts are sorted by length into batches, so that little of a batch is padding. `on_batch` is
    told how many prompts each finished batch had; `how` goes to the model's `generate`.
    """
    import torch

    from seccoderx_lite.models.prefix_cache import padded_left

    texts = [render_chat(tokenizer, prompt) for prompt in prompts]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
    sampling: dict[str, Any] = {
        "do_sample": False,
        "temperature": None,
        "top_k": None,
        "top_p": None,
    }
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    # Else that of the model's generation config (1.1 in Qwen2.5-Coder), which training never sees.
    sampling["repetition_penalty"] = 1.0
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
                **sampling,
                **how,
            )
        new_ids = output[:, batch.shape[1] :]
        decoded = tokenizer.batch_decode(new_ids, skip_special_tokens=True)
        for index, text in zip(chosen, decoded, strict=True):
            completions[index] = text
        if on_batch:
            on_batch(len(chosen))
    return completions


class RoleGenerator:
    """A generator that answers as one role of the shared base."""

    def __init__(self, base: "Base", role: "Role", batch_size: int) -> None:
        self._base = base
        self._role = role
        self._batch_size = batch_size
        self._prefixes: PrefixCache | None = None

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order."""
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.roles import acting_as

        with (
            acting_as(self._role, self._base.model, self._base.tokenizer) as model,
            generating(self._base) as how,
        ):
            return list(
                generate_texts(
                    model,
                    self._base.tokenizer,
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    batch_size=self._batch_size,
                    **how,
                )
            )

    def answer_probabilities(
        self, prompts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
    ) -> list[float | None]:
        """Return the probabilities from one forward pass; see `forced_answer`."""
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.forced_answer import forced_answer_probabilities
        from seccoderx_lite.models.prefix_cache import PrefixCache, weights_of
        from seccoderx_lite.models.roles import acting_as

        self._prefixes = self._prefixes or PrefixCache()
        tokenizer = self._base.tokenizer
        texts = [render_chat(tokenizer, prompt) for prompt in prompts]
        heads = [text.partition(head)[0] + head if head and head in text else ""
                 for text, head in zip(texts, shared, strict=True)]  # fmt: skip
        with acting_as(self._role, self._base.model, tokenizer) as model, generating(self._base):
            self._prefixes.under(weights_of(model, self._role))
            return list(
                forced_answer_probabilities(
                    model,
                    tokenizer,
                    texts,
                    heads,
                    choices,
                    batch_size=self._batch_size,
                    prefixes=self._prefixes,
                )
            )

    @property
    def is_on_cpu(self) -> bool:
        """Whether the base is."""
        return self._base.device.type == "cpu"

    def identity(self) -> str:
        """Return the base's name and precision, and a digest of the role's adapter."""
        from seccoderx_lite.models.adapters import adapter_digest

        base = self._base
        digest = adapter_digest(base.model, self._role) if self._role != "reference" else "bare"
        precision = "nf4" if getattr(base.model, "is_loaded_in_4bit", False) else base.model.dtype
        return f"{base.name} {precision} {digest}"
