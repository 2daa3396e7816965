"""How many tokens a model can read: its context, and what of it a prompt may fill."""

from collections.abc import Sequence
from typing import Any

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.generation import prompt_ids

_MOST_RESERVED = 4
"""At most a quarter of the context is kept free for an answer whose limit may never be reached."""


def context_of(model: Any) -> int | None:
    """Return the context of a loaded model in tokens; None if its config does not say."""
    config = model.config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def longest_prompt(model: Any, max_new_tokens: int) -> int | None:
    """Return the most tokens of a prompt that leave room for the answer; None for no limit."""
    length = context_of(model)
    return length and length - min(max_new_tokens, length // _MOST_RESERVED)


def too_long(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[bool]:
    """Return for each prompt whether it leaves too little room for the answer."""
    limit = longest_prompt(model, max_new_tokens)
    if limit is None:
        return [False] * len(prompts)
    return [len(ids) > limit for ids in prompt_ids(tokenizer, prompts)]


def within_context(model: Any, tokens: int) -> int:
    """Return a limit of tokens, or the model's context if that is less."""
    return min(tokens, context_of(model) or tokens)


def rollout_prompt_limit(model: Any, max_prompt_tokens: int, answer_tokens: int, key: str) -> int:
    """Return the most tokens of a prompt whose whole answer, which is trained, fits as well.

    Raises:
        ModelError: the answers alone fill the context.
    """
    length = context_of(model)
    if length is None:
        return max_prompt_tokens
    if answer_tokens >= length:
        raise ModelError(
            f"{key}: must leave room for a prompt in the model's context of {length} tokens "
            f"(got {answer_tokens}); lower it"
        )
    return min(max_prompt_tokens, length - answer_tokens)
