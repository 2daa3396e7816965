"""Batched generation without redundant work.

The rollouts of one group share a prompt, and some completions end long before others. Here equal
prompts are computed once, and a finished completion leaves the batch.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

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
from seccoderx_lite.models.fixed_steps import FixedSteps, can_be_fixed
from seccoderx_lite.models.float_copies import float_copies
from seccoderx_lite.models.prefix_cache import positions

if TYPE_CHECKING:
    from seccoderx_lite.models.base import Base


logger = logging.getLogger(__name__)

_TRIAL_ROWS, _TRIAL_PROMPT, _TRIAL_TOKENS = 8, 64, 18
"""The batch with which the faster way to decode is found."""


@contextmanager
def generating(base: "Base") -> Iterator[dict[str, Any]]:
    """Prepare a base to generate as its recipe says; yields keyword arguments for `generate`.

    On a CPU, layers compute with copies of the weights meanwhile; see `float_copies`.
    """
    if not base.fast_generation:
        yield {}
        return
    with float_copies(base.model):
        if not _decodes(base):
            yield {}
            return
        if base.decoding == "auto":
            base.decoding = "plain"  # while the measurement generates
            base.decoding = choose_decoding(base)
        way = decode_in_graphs if base.decoding == "graph" else decode
        yield {"custom_generate": way, "use_cache": True}


def choose_decoding(base: "Base") -> Literal["plain", "graph"]:
    """The faster way to decode on this machine, measured on a GPU with a few random tokens."""
    if base.device.type != "cuda":
        return "plain"
    with torch.random.fork_rng(devices=[base.device]):
        plain, graph = (_ms_per_token(base, way) for way in (decode, decode_in_graphs))
    found: Literal["plain", "graph"] = "graph" if graph < plain else "plain"
    logger.info(
        "model.decoding: %s (measured: %.1f ms per token plain, %.1f ms as a graph)",
        found,
        plain,
        graph,
    )
    return found


def exact_length(ids: torch.Tensor, tokens: int) -> dict[str, Any]:
    """Return arguments of `generate` for measurements: prompts, and so many new tokens in each row.

    `ids` are prompts of equal length, of shape (rows, tokens).
    """
    mask = torch.ones_like(ids)
    limits = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0}
    return {"input_ids": ids, "attention_mask": mask, **limits}


def _ms_per_token(base: "Base", way: Any) -> float:
    """Milliseconds per token of a batch; the difference of two lengths leaves out the prompt."""
    size = (_TRIAL_ROWS, _TRIAL_PROMPT)
    ids = torch.randint(base.model.config.vocab_size, size, device=base.device)
    seconds = []
    for count in (_TRIAL_TOKENS, 2, _TRIAL_TOKENS):  # the first is not counted
        torch.cuda.synchronize()
        started = time.perf_counter()
        type(base.model).generate(  # without what a trainer put around it
            base.model,
            **exact_length(ids, count),
            do_sample=False,
            custom_generate=way,
            use_cache=True,
        )
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 1000 * (seconds[2] - seconds[1]) / (_TRIAL_TOKENS - 2)


def _decodes(base: "Base") -> bool:
    """Whether `decode` can replace the model's own generation; unsloth has its own."""
    model = getattr(base.model, "get_base_model", lambda: base.model)()
    is_plain = (
        type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    )
    return (
        base.backend == "transformers"
        and is_plain
        and _keeps_rows(DynamicCache(config=model.config))
    )


def _keeps_rows(cache: Any) -> bool:
    """Whether a cache keeps the keys and values of every token and row on the model's device."""
    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in kinds for layer in cache.layers) and not cache.offloading


_FIXED_BATCH_PROCESSORS = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
"""Logits processors that remember the rows of the first batch, of which some leave."""


class _GrowingSteps:
    """The steps after a prompt; each finished row leaves the batch."""

    def __init__(self, model: Any, cache: DynamicCache, mask: torch.Tensor, width: int) -> None:
        self._model, self._cache, self._mask = model, cache, mask

    def keep(self, unfinished: torch.Tensor) -> None:
        """Continue with these rows only."""
        self._mask = self._mask[unfinished]
        self._cache.batch_select_indices(unfinished.nonzero()[:, 0])

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append a token to each row; return the logits after it, shape (rows, vocabulary)."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        return _next_logits(self._model, tokens[:, None], self._mask, self._cache)


def decode_in_graphs(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Like `decode`, with steps of a fixed shape where the model allows it; see `fixed_steps`."""
    arguments = (model, input_ids, logits_processor, stopping_criteria, generation_config)
    return decode(*arguments, **model_kwargs, is_fixed=True)


def decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    is_fixed: bool = False,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Sample or decode greedily until every row has finished; for `custom_generate`.

    Random numbers are drawn up front, so a completion does not depend on when other rows finish.
    Greedy decoding draws none, so that a cached verdict leaves the random state as a new one would.

    The arguments are those of `custom_generate`: prompts, padded left, of shape (rows, tokens), and
    in `model_kwargs` their attention mask and an empty cache. Returns prompts and completions,
    padded right, of shape (rows, tokens).

    Raises:
        ModelError: unsupported settings, an unused cache, or logits that are not finite.
    """
    _check(generation_config, logits_processor)
    cache, mask = model_kwargs["past_key_values"], model_kwargs["attention_mask"]
    begin, end = input_ids.shape[1], stopping_criteria.max_length
    logits = _prefill(model, input_ids, mask, cache)
    sequences = input_ids.new_full((len(input_ids), end), generation_config.pad_token_id)
    sequences[:, :begin] = input_ids
    if generation_config.do_sample:
        size = (end - begin, len(input_ids))
        uniform = torch.rand(size, dtype=torch.float64, device=input_ids.device)
    rows = torch.arange(len(input_ids), device=input_ids.device)
    is_fixed = is_fixed and can_be_fixed(model, cache)
    steps = (FixedSteps if is_fixed else _GrowingSteps)(model, cache, mask, end)
    for length in range(begin, end):
        scores = logits_processor(sequences[rows, :length], logits)
        if generation_config.do_sample:
            tokens = sample_tokens(scores, uniform[length - begin, rows])
        else:
            tokens = scores.argmax(dim=-1)
        sequences[rows, length] = tokens
        unfinished = ~stopping_criteria(sequences[rows, : length + 1], scores)
        if not unfinished.any():
            return sequences[:, : length + 1]
        if not unfinished.all():
            rows, tokens = rows[unfinished], tokens[unfinished]
            steps.keep(unfinished)
        logits = steps.next(tokens)
    return sequences


def _check(generation_config: Any, logits_processor: Any) -> None:
    mode = generation_config.get_generation_mode()
    if mode not in (GenerationMode.SAMPLE, GenerationMode.GREEDY_SEARCH):
        raise ModelError(
            f"model.fast_generation: supports sampling and greedy decoding, not "
            f"{mode.value.replace('_', ' ')}; set it to false"
        )
    for processor in logits_processor:
        if isinstance(processor, _FIXED_BATCH_PROCESSORS):
            raise ModelError(
                f"model.fast_generation: finished completions leave the batch, which "
                f"{type(processor).__name__} does not support; set it to false"
            )


def sample_tokens(scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Sample one token per row by inverse transform.

    Args:
        scores: Logits, -inf for impossible tokens; shape (rows, vocabulary).
        uniform: Uniform random numbers in [0, 1), in float64; shape (rows,).

    Raises:
        ModelError: a score is NaN or infinite, or all tokens of a row are impossible.

    >>> scores = torch.tensor([[0.0, -torch.inf, 0.0]] * 2)
    >>> sample_tokens(scores, torch.tensor([0.49, 0.51])).tolist()
    [0, 2]
    """
    cumulative = torch.softmax(scores, dim=-1).double().cumsum_(dim=-1)
    points = uniform.double() * cumulative[:, -1]
    if not points.isfinite().all():
        raise ModelError(
            "sampling: the model's logits are not all finite, so no token can be drawn; its "
            "weights have diverged, or it overflows in 16 bits: try a lower learning_rate, or a "
            "GPU with bfloat16"
        )
    return torch.searchsorted(cumulative, points[:, None], right=True)[:, 0]


def _prefill(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Fill the cache with the prompts; return the logits after each, shape (rows, vocabulary)."""
    if not _keeps_rows(cache):
        raise ModelError(
            f"model.fast_generation: needs a cache with the keys and values of every token and "
            f"row, not this {type(cache).__name__}; set it to false, or keep the default "
            "cache_implementation"
        )
    distinct, row_of = torch.stack([input_ids, mask], dim=1).unique(dim=0, return_inverse=True)
    logits = _next_logits(model, distinct[:, 0], distinct[:, 1], cache)
    if cache.get_seq_length() != input_ids.shape[1]:
        raise ModelError(
            "model.fast_generation: the model did not fill its cache, as with gradient "
            "checkpointing; set it to false"
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
