"""How probable one continuation is against another, from one forward pass instead of generation.

What many prompts begin with (instructions, the description of a weakness) is computed once and its
keys and values are shared by all of them, see `prefix_cache`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from seccoderx_lite.models.prefix_cache import PrefixCache, padded_left, positions


@torch.inference_mode()
def forced_answer_probabilities(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    shared: Sequence[str],
    choices: tuple[str, str],
    *,
    batch_size: int,
    prefixes: PrefixCache,
) -> list[float]:
    """Return for each text the probability of the first choice against the second, in [0, 1].

    The two are compared at the first token in which they differ, under the active adapter.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        texts: Rendered prompts.
        shared: What each text begins with and others begin with too; "" for nothing.
        choices: The two continuations; neither may be the beginning of the other.
        batch_size: Most texts in one forward pass.
        prefixes: Keeps what was computed of `shared`; told of the weights that act now.
    """
    if not texts:
        return []
    split = _split_all(tokenizer, texts, shared, choices)
    probabilities = [0.0] * len(split)
    on_cpu = next(model.parameters()).device.type == "cpu"
    most = MAX_TOKENS_ON_CPU if on_cpu else None
    for places in _batches([len(item.rest) for item in split], batch_size, most):
        batch = [split[place] for place in places]
        logits = _last_logits(model, tokenizer, batch, prefixes)
        first = torch.tensor([item.tokens[0] for item in batch], device=logits.device)
        second = torch.tensor([item.tokens[1] for item in batch], device=logits.device)
        margin = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
        for place, probability in zip(places, torch.sigmoid(margin[:, 0]).tolist(), strict=True):
            probabilities[place] = probability
    return probabilities


@dataclass(frozen=True, slots=True)
class _Split:
    """The tokens of one text up to where the choices part, and the two tokens that part them."""

    head: tuple[int, ...]
    rest: tuple[int, ...]
    tokens: tuple[int, int]


def _split_all(
    tokenizer: Any, texts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
) -> list[_Split]:
    heads = list(dict.fromkeys(shared))
    tokens_of = dict(zip(heads, _tokens(tokenizer, heads), strict=True))
    first, second = (_tokens(tokenizer, [text + choice for text in texts]) for choice in choices)
    return [
        _split(one, other, tokens_of[head], choices)
        for one, other, head in zip(first, second, shared, strict=True)
    ]


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _split(
    first: Sequence[int], second: Sequence[int], shared: Sequence[int], choices: tuple[str, str]
) -> _Split:
    parting = _common_length(first, second)
    if parting in (len(first), len(second)):
        raise ValueError(f"one of the choices {choices} is the beginning of the other")
    stem = first[:parting]
    # The last token before the text goes on may be another one than at its end.
    length = min(_common_length(shared, stem), len(stem) - 1)
    return _Split(tuple(stem[:length]), tuple(stem[length:]), (first[parting], second[parting]))


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


_LEAST_FILLED = 0.75
"""Texts shorter than this share of the longest of their batch go into the next one."""

MAX_TOKENS_ON_CPU = 1024
"""Most tokens in one forward pass on a CPU: what is computed of more does not stay in its caches
(2 cores, tiny base: 1.36 s for 494 verdicts, 1.58 s with up to 64 texts at once)."""


def _batches(lengths: Sequence[int], size: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Yield the places of texts in batches of like length, so that little of one is padding.

    A batch has `size` texts at most, and so many `tokens` with its padding, if more than one text.

    >>> list(_batches([10, 40, 9, 39, 41], 2))
    [[4, 1], [3], [0, 2]]
    >>> list(_batches([10, 40, 10, 10], 3, tokens=20))
    [[1], [0, 2], [3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place], reverse=True)
    batch: list[int] = []
    for place in order:
        longest = lengths[batch[0]] if batch else 0
        is_full = len(batch) == size or (tokens and (len(batch) + 1) * longest > tokens)
        if batch and (is_full or lengths[place] < _LEAST_FILLED * longest):
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _last_logits(
    model: Any, tokenizer: Any, batch: Sequence[_Split], prefixes: PrefixCache
) -> torch.Tensor:
    """Return the logits after the last token of each text; shape (len(batch), vocabulary)."""
    heads = [item.head for item in batch]
    past = prefixes.past(model, tokenizer, heads) if all(heads) else None
    if past is None:
        ids, mask = padded_left(model, tokenizer, [item.head + item.rest for item in batch])
        output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=False,
                       position_ids=positions(mask))  # fmt: skip
    else:
        cache, head_mask = past
        ids, mask = padded_left(model, tokenizer, [item.rest for item in batch])
        mask = torch.cat([head_mask, mask], dim=1)
        output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, past_key_values=cache,
                       position_ids=positions(mask)[:, head_mask.shape[1] :])  # fmt: skip
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits
