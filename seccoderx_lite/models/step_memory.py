"""Bytes that a training step or a generation adds to the weights, from the model's shape."""

from seccoderx_lite.models.shapes import ModelShape

GPU_DTYPE_BYTES = 2
"""bfloat16, or float16 on older GPUs."""


def layer_bytes(shape: ModelShape, rank: int, dtype_bytes: int) -> int:
    """Return the bytes that one decoder layer keeps per token for the backward pass.

    Two norms keep their float32 inputs (4 + 4 per hidden unit) and the two adapter inputs they
    produce; attention keeps query, key, value and output; the MLP keeps gate, activation, up and
    product; seven adapters keep their inner values.
    """
    norms = 8 * shape.hidden + 2 * dtype_bytes * shape.hidden
    attention = dtype_bytes * 2 * (shape.query + shape.key)
    mlp = 4 * dtype_bytes * shape.intermediate
    return norms + attention + mlp + 7 * dtype_bytes * rank


def activation_bytes(
    shape: ModelShape,
    tokens: int,
    rank: int,
    dtype_bytes: int,
    is_checkpointed: bool,
    loss_bytes: int,
    attention_bytes: int = 0,
) -> int:
    """Return the peak of activations, logits and their gradients.

    The loss needs `loss_bytes` when all layers have been computed, and none when their gradients
    are computed. A layer's attention keeps `attention_bytes`. With gradient checkpointing every
    layer keeps its input only, and one layer at a time is recomputed.
    """
    layer = tokens * layer_bytes(shape, rank, dtype_bytes) + attention_bytes
    kept, recomputed = layer * shape.layers, 0
    if is_checkpointed:
        kept, recomputed = tokens * shape.layers * dtype_bytes * shape.hidden, layer
    gradients = 2 * dtype_bytes * shape.intermediate
    return kept + max(loss_bytes, recomputed + tokens * gradients)


def plain_attention_bytes(shape: ModelShape, rows: int, length: int, is_16_bit: bool) -> int:
    """Return what one layer's attention keeps if it is not fused: a weight per pair of tokens.

    In 16 bits that is the softmax in float32 and a copy for the multiplication.
    """
    return (4 + 2 * is_16_bit) * shape.heads * rows * length * length


_TILE_TOKENS, _TILE_COLUMNS = 4096, 32768
"""Most tokens and words whose logits TRL 1.16 holds at once."""


def full_loss_bytes(shape: ModelShape, completion_tokens: int, logit_bytes: int) -> int:
    """Return the peak of a GRPO loss that holds the logits of every completion token."""
    return logit_bytes * completion_tokens * shape.vocabulary


def tiled_loss_bytes(shape: ModelShape, scored: int, dtype_bytes: int, on_gpu: bool) -> int:
    """Return the peak of a loss that computes the logits of `scored` tokens in tiles, as TRL 1.16.

    On a GPU a kernel works in place, in a tile of full width. On a CPU eight arrays of a tile's
    size are alive in the backward pass. Each scored token has its hidden state and that one's
    gradients (float32 and the model's type).
    """
    columns = _TILE_COLUMNS if on_gpu else min(_TILE_COLUMNS, shape.vocabulary)
    tile = min(scored, _TILE_TOKENS) * columns * dtype_bytes
    hidden = scored * shape.hidden * (4 + 2 * dtype_bytes if on_gpu else 8)
    return (1 if on_gpu else 8) * tile + hidden


def cache_bytes(shape: ModelShape, tokens: int, dtype_bytes: int = GPU_DTYPE_BYTES) -> int:
    """Return the bytes of the key-value cache: 2 x layers x key-value width per token."""
    return 2 * shape.layers * shape.key * dtype_bytes * tokens


_DRAW_BYTES, _SCORE_BYTES = 20, 8
"""Bytes per logit while a token is sampled: raw, scaled and probability in float32 (4 + 4 + 4), and
the cumulative sum in float64 (8). The first two stay until those of the next token are computed."""


def generation_bytes(
    shape: ModelShape,
    rows: int,
    prompt: int,
    longest: int,
    distinct: int | None = None,
    dtype_bytes: int = GPU_DTYPE_BYTES,
) -> int:
    """Return the peak of generation: while the prompts are computed, or at the last token.

    Args:
        shape: The model's.
        rows: Texts generated at once.
        prompt: Tokens per prompt.
        longest: Tokens per completion.
        distinct: How many of the prompts differ and are computed (default: all).
        dtype_bytes: Bytes per number of cache and activations.
    """
    s, tokens = dtype_bytes, rows * (prompt + longest)
    distinct = distinct or rows
    prefill = distinct * prompt * (3 * s * shape.intermediate + (4 + 3 * s) * shape.hidden)
    prefill += distinct * prompt * prompt  # the padding mask, one byte per entry
    grown = cache_bytes(shape, tokens, s) // (2 * shape.layers)  # the keys of one layer, copied
    expanded = 2 * tokens * shape.query * s if shape.key < shape.query else 0
    logits = rows * shape.vocabulary
    last = max(max(grown, expanded) + _SCORE_BYTES * logits, _DRAW_BYTES * logits)
    cached = cache_bytes(shape, distinct * prompt, s)
    return max(cached + prefill, cache_bytes(shape, tokens, s) + last)
