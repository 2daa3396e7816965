"""How probable one continuation is against another, from one forward pass instead of generation.

What many prompts begin with (instructions, the description of a weakness) is computed once and its
keys and values are shared by all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def choice_probabilities(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    shared: Sequence[str],
    choices: tuple[str, str],
    *,
    batch_size: int,
) -> list[float]:
    """Return for each text the probability of the first choice against the second, in [0, 1].

    The two are compared at the first token in which they differ, under the active adapter.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        texts: Rendered prompts.
        shared: What each text begins with and others begin with too; "" for nothing.
        choices: The two continuations; neither may be the beginning of the other.
        batch_size: Texts in one forward pass.
    """
    if not texts:
        return []
    heads = {
        head: tokenizer(head, add_special_tokens=False)["input_ids"] if head else []
        for head in dict.fromkeys(shared)
    }
    split = [
        _split(tokenizer, text, heads[head], choices)
        for text, head in zip(texts, shared, strict=True)
    ]
    order = sorted(range(len(split)), key=lambda index: len(split[index].rest), reverse=True)
    probabilities = [0.0] * len(split)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = [split[index] for index in chosen]
        logits = _last_logits(model, tokenizer, batch)
        first = torch.tensor([item.tokens[0] for item in batch], device=logits.device)
        second = torch.tensor([item.tokens[1] for item in batch], device=logits.device)
        margin = logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])
        for index, probability in zip(chosen, torch.sigmoid(margin[:, 0]).tolist(), strict=True):
            probabilities[index] = probability
    return probabilities


@dataclass(frozen=True, slots=True)
class _Split:
    """The tokens of one text up to where the choices part, and the two tokens that part them."""

    head: tuple[int, ...]
    rest: tuple[int, ...]
    tokens: tuple[int, int]


def _split(tokenizer: Any, text: str, shared: Sequence[int], choices: tuple[str, str]) -> _Split:
    first, second = (
        tokenizer(text + choice, add_special_tokens=False)["input_ids"] for choice in choices
    )
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


def _last_logits(model: Any, tokenizer: Any, batch: Sequence[_Split]) -> torch.Tensor:
    """Return the logits after the last token of each text; shape (len(batch), vocabulary)."""
    heads = list(dict.fromkeys(item.head for item in batch))
    past = _key_values(model, tokenizer, heads) if all(heads) and len(heads) < len(batch) else None
    if past is None:
        whole = [item.head + item.rest for item in batch]
        ids, mask = _padded(model, tokenizer, whole)
        output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=False,
                       position_ids=_positions(mask))  # fmt: skip
    else:
        layers, head_mask = past
        rows = torch.tensor([heads.index(item.head) for item in batch], device=head_mask.device)
        cache = DynamicCache()
        for number, layer in enumerate(layers):
            cache.update(layer[0][rows], layer[1][rows], number)
        ids, mask = _padded(model, tokenizer, [item.rest for item in batch])
        mask = torch.cat([head_mask[rows], mask], dim=1)
        output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, past_key_values=cache,
                       position_ids=_positions(mask)[:, head_mask.shape[1] :])  # fmt: skip
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def _key_values(
    model: Any, tokenizer: Any, heads: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor] | None:
    """Return each layer's keys and values of the heads, and the heads' mask.

    None for models whose cache is of another kind.
    """
    ids, mask = _padded(model, tokenizer, heads)
    output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=True,
                   position_ids=_positions(mask))  # fmt: skip
    layers = getattr(output.past_key_values, "layers", [])
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return [(layer.keys, layer.values) for layer in layers], mask


def _padded(
    model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    batch = tokenizer.pad(
        {"input_ids": [list(ids) for ids in sequences]}, padding_side="left", return_tensors="pt"
    ).to(next(model.parameters()).device)
    return batch["input_ids"], batch["attention_mask"]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
