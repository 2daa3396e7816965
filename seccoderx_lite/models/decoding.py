"""Generating a batch without work for nothing.

Rollouts of one group begin with the same prompt, and some completions end long before others. Here
equal prompts are read once, and a completion that has ended leaves the batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.logits_process import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.float_copies import float_copies
from seccoderx_lite.models.prefix_cache import positions

if TYPE_CHECKING:
    from seccoderx_lite.models.base import Base


@contextmanager
def generating(base: "Base") -> Iterator[dict[str, Any]]:
    """Let a base generate in the way of its recipe; gives what to tell `generate` besides.

    On a CPU from float copies of the weights, see `float_copies`.
    """
    if not base.fast_generation:
        yield {}
        return
    with float_copies(base.model):
        yield {"custom_generate": decode, "use_cache": True} if _decodes(base) else {}


def _decodes(base: "Base") -> bool:
    """Say whether `decode` can stand for what a model itself does; unsloth has its own way."""
    model = getattr(base.model, "get_base_model", lambda: base.model)()
    is_plain = (
        type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    )
    return (
        base.backend == "transformers" and is_plain and _has_rows(DynamicCache(config=model.config))
    )


def _has_rows(cache: Any) -> bool:
    """Say whether a cache keeps the keys and values of every token and row where the model is."""
    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in kinds for layer in cache.layers) and not cache.offloading


_OF_THE_FIRST_BATCH = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
"""Processors that remember the rows they saw first, of which some leave."""


def decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Sample, or take the likeliest token, until every row has ended; for `custom_generate`.

    Every row has its random numbers from the start: what it says does not hang on when others end.
    Without sampling none are drawn, so that a verdict which is remembered, and not asked for again,
    changes nothing.

    Args:
        model: A causal language model.
        input_ids: Prompts, padded left; shape (rows, tokens).
        logits_processor: Makes scores of logits.
        stopping_criteria: Says which rows have ended.
        generation_config: Says whether to sample, and how to pad.
        model_kwargs: Attention mask and an empty cache.

    Returns:
        Prompts and completions, padded right; shape (rows, tokens).

    Raises:
        ModelError: what is asked for cannot be done in this way (beams, another kind of cache,
            processors that remember rows), the model does not use its cache, or its logits are no
            numbers.
    """
    _check(generation_config, logits_processor)
    cache, mask = model_kwargs["past_key_values"], model_kwargs["attention_mask"]
    begin, end = input_ids.shape[1], stopping_criteria.max_length
    logits = _read(model, input_ids, mask, cache)
    sequences = input_ids.new_full((len(input_ids), end), generation_config.pad_token_id)
    sequences[:, :begin] = input_ids
    if generation_config.do_sample:
        size = (end - begin, len(input_ids))
        chances = torch.rand(size, dtype=torch.float64, device=input_ids.device)
    rows = torch.arange(len(input_ids), device=input_ids.device)
    for length in range(begin, end):
        scores = logits_processor(sequences[rows, :length], logits)
        if generation_config.do_sample:
            tokens = draw(scores, chances[length - begin, rows])
        else:
            tokens = scores.argmax(dim=-1)
        sequences[rows, length] = tokens
        going = ~stopping_criteria(sequences[rows, : length + 1], scores)
        if not going.any():
            return sequences[:, : length + 1]
        if not going.all():
            rows, mask, tokens = rows[going], mask[going], tokens[going]
            cache.batch_select_indices(going.nonzero()[:, 0])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits = _next_logits(model, tokens[:, None], mask, cache)
    return sequences


def _check(generation_config: Any, logits_processor: Any) -> None:
    mode = generation_config.get_generation_mode()
    if mode not in (GenerationMode.SAMPLE, GenerationMode.GREEDY_SEARCH):
        raise ModelError(
            f"model.fast_generation: samples or takes the likeliest token, it cannot do "
            f"{mode.value.replace('_', ' ')}; set it to false"
        )
    for processor in logits_processor:
        if isinstance(processor, _OF_THE_FIRST_BATCH):
            raise ModelError(
                f"model.fast_generation: completions that have ended leave the batch, which "
                f"{type(processor).__name__} does not expect; set it to false"
            )


def draw(scores: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Return of each row the token in whose share of the probability its chance falls.

    Args:
        scores: Logits, those of impossible tokens -inf; shape (rows, vocabulary).
        chances: Uniform in [0, 1), in float64; shape (rows,).

    Raises:
        ModelError: a score is NaN or infinite, or all tokens of a row are impossible.

    >>> draw(torch.tensor([[0.0, -torch.inf, 0.0]] * 2), torch.tensor([0.49, 0.51])).tolist()
    [0, 2]
    """
    shares = torch.softmax(scores, dim=-1).double().cumsum_(dim=-1)
    points = chances.double() * shares[:, -1]
    if not points.isfinite().all():
        raise ModelError(
            "sampling: the model's logits are not all numbers, so there is nothing to draw from; "
            "its weights have diverged, or it overflows in 16 bits: try a lower learning_rate, or "
            "a GPU with bfloat16"
        )
    return torch.searchsorted(shares, points[:, None], right=True)[:, 0]


def _read(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Fill the cache with the prompts; return the logits after each, shape (rows, vocabulary)."""
    if not _has_rows(cache):
        raise ModelError(
            f"model.fast_generation: needs keys and values of every token and row, not a "
            f"{type(cache).__name__} of other layers; set it to false, or leave "
            "cache_implementation as it is"
        )
    distinct, row_of = torch.stack([input_ids, mask], dim=1).unique(dim=0, return_inverse=True)
    logits = _next_logits(model, distinct[:, 0], distinct[:, 1], cache)
    if cache.get_seq_length() != input_ids.shape[1]:
        raise ModelError(
            "model.fast_generation: the model kept no keys and values of its prompts, as with "
            "gradient checkpointing; set it to false"
        )
    cache.batch_select_indices(row_of)
    return logits[row_of]


def _next_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask)[:, -ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits
