"""Probability of one forced answer against another, from one forward pass instead of generation.

Prefixes that many prompts share (instructions, the description of a weakness) are computed once;
see `prefix_cache`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from seccoderx_lite.models.generation import following_ids, token_ids
from seccoderx_lite.models.prefix_cache import PrefixCache, padded_left, positions


@torch.inference_mode()
def forced_answer_probabilities(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    prefixes: Sequence[str],
    answers: tuple[str, str],
    *,
    batch_size: int,
    prefix_cache: PrefixCache,
) -> list[float]:
    """Return per text the probability of the first answer against the second, in [0, 1].

    The two are compared at the first token in which they differ, under the active adapter.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        texts: Rendered prompts.
        prefixes: The beginning of each text that other texts share; "" for none.
        answers: The two continuations; neither may be a prefix of the other.
        batch_size: Most texts per forward pass.
        prefix_cache: Keys and values of prefixes under the current weights.

    Raises:
        ValueError: one answer is a prefix of the other.
    """
    if not texts:
        return []
    split = _split_all(tokenizer, texts, prefixes, answers)
    probabilities = [0.0] * len(split)
    on_cpu = next(model.parameters()).device.type == "cpu"
    max_tokens = MAX_TOKENS_ON_CPU if on_cpu else None
    for places in _batches([len(item.rest) for item in split], batch_size, max_tokens):
        batch = [split[place] for place in places]
        logits = _last_logits(model, tokenizer, batch, prefix_cache)
        first = torch.tensor([item.tokens[0] for item in batch], device=logits.device)
        second = torch.tensor([item.tokens[1] for item in batch], device=logits.device)
        margin = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
        for place, probability in zip(places, torch.sigmoid(margin[:, 0]).tolist(), strict=True):
            probabilities[place] = probability
    return probabilities


@dataclass(frozen=True, slots=True)
class _Split:
    """One text as tokens, up to the place where the answers differ, and their tokens there."""

    prefix: tuple[int, ...]
    rest: tuple[int, ...]
    tokens: tuple[int, int]


def split_at_answers(
    tokenizer: Any, texts: Sequence[str], answers: tuple[str, str]
) -> list[tuple[list[int], tuple[int, int]]]:
    """Return per text its tokens up to where the answers differ, and their tokens there.

    Raises:
        ValueError: one answer is a prefix of the other.
    """
    split = _split_all(tokenizer, texts, [""] * len(texts), answers)
    return [([*item.prefix, *item.rest], item.tokens) for item in split]


def _split_all(
    tokenizer: Any, texts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
) -> list[_Split]:
    distinct = list(dict.fromkeys(prefixes))
    tokens_of = dict(zip(distinct, token_ids(tokenizer, distinct), strict=True))
    first, second = (
        [head + tail for head, tail in following_ids(tokenizer, texts, [answer] * len(texts))]
        for answer in answers
    )
    return [
        _split(one, other, tokens_of[prefix], answers)
        for one, other, prefix in zip(first, second, prefixes, strict=True)
    ]


def _split(
    first: Sequence[int], second: Sequence[int], prefix: Sequence[int], answers: tuple[str, str]
) -> _Split:
    parting = _common_length(first, second)
    if parting in (len(first), len(second)):
        raise ValueError(f"the answers {answers}: one must not be the beginning of the other")
    stem = first[:parting]
    # Inside the whole text, the prefix's last token may be merged with what follows. One token must
    # remain to be computed, because its logits are needed.
    length = min(_common_length(prefix, stem), len(stem) - 1)
    return _Split(tuple(stem[:length]), tuple(stem[length:]), (first[parting], second[parting]))


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


_LEAST_FILLED = 0.75
"""A text shorter than this share of the longest in its batch starts the next batch."""

MAX_TOKENS_ON_CPU = 1024
"""Most tokens per forward pass on a CPU; the results of more do not fit its caches
(2 cores, tiny base: 1.36 s for 494 verdicts, 1.58 s with up to 64 texts at once)."""


def _batches(
    lengths: Sequence[int], batch_size: int, max_tokens: int | None = None
) -> Iterator[list[int]]:
    """Yield indices of texts in batches of similar length, to keep padding low.

    A batch has at most `batch_size` texts and, unless it is a single text, `max_tokens` tokens with
    padding.

    >>> list(_batches([10, 40, 9, 39, 41], 2))
    [[4, 1], [3], [0, 2]]
    >>> list(_batches([10, 40, 10, 10], 3, max_tokens=20))
    [[1], [0, 2], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place], reverse=True)
    batch: list[int] = []
    for place in order:
        longest = lengths[batch[0]] if batch else 0
        is_full = len(batch) == batch_size or (
            max_tokens and (len(batch) + 1) * longest > max_tokens
        )
        if batch and (is_full or lengths[place] < _LEAST_FILLED * longest):
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _last_logits(
    model: Any, tokenizer: Any, batch: Sequence[_Split], prefix_cache: PrefixCache
) -> torch.Tensor:
    """Return the logits after the last token of each text; shape (len(batch), vocabulary)."""
    prefixes = [item.prefix for item in batch]
    past = prefix_cache.past_key_values(model, tokenizer, prefixes) if all(prefixes) else None
    if past is None:
        ids, mask = padded_left(model, tokenizer, [item.prefix + item.rest for item in batch])
        cached: dict[str, Any] = {"position_ids": positions(mask), "use_cache": False}
    else:
        cache, prefix_mask = past
        ids, mask = padded_left(model, tokenizer, [item.rest for item in batch])
        mask = torch.cat([prefix_mask, mask], dim=1)
        new = slice(prefix_mask.shape[1], None)
        cached = {"position_ids": positions(mask)[:, new], "past_key_values": cache}
    output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, **cached)
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits
