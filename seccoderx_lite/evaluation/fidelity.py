"""How far one model is from another: the KL divergence per token along the same texts.

It says whether an export is the trained model only if like is compared with like: on the same base
weights in the same precision, the right export differs by rounding, and any other adapter, scale or
base by much more. Between 4 and 16 bits the quantisation alone may differ more than the training.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from seccoderx_lite.models.generation import following_ids, render_chat

MOST_TOKENS = 64
"""Most distributions that are compared per text; each has a number per word of the vocabulary."""

_NOISE, _NOISE_16_BIT = 1e-5, 1e-3
"""KL per token, in nats, that rounding alone may cause where models compute in float32, or in 16
bits."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A text along which models are compared."""

    ids: tuple[int, ...]
    compared: int
    """How many of the last distributions are compared, that after the last token included."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an export should be like."""

    logprobs: torch.Tensor
    """Of the trained model along the probes; shape (tokens, vocabulary)."""
    from_bare: float
    """KL from it to its base without the adapter."""
    dtype: torch.dtype = torch.float32
    """In which it computes."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far an export is from what it should be."""

    kl: float
    agreement: float
    """Share of tokens for which both models find the same token likeliest."""


def make_probes(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> list[Probe]:
    """Return one probe per prompt: along the answer, or along the prompt if the answer is empty."""
    heads = [render_chat(tokenizer, prompt) for prompt in prompts]
    probes = []
    for head, tail in following_ids(tokenizer, heads, answers):
        tail = tail[:MOST_TOKENS]
        compared = len(tail) + 1 if tail else min(MOST_TOKENS, len(head))
        probes.append(Probe((*head, *tail), compared))
    return probes


@torch.no_grad()
def logprobs_of(model: Any, probes: Sequence[Probe]) -> torch.Tensor:
    """Return the model's log-probabilities along the probes; shape (tokens, vocabulary)."""
    device = next(model.parameters()).device
    rows = []
    for probe in probes:
        ids = torch.tensor([probe.ids], device=device)
        logits = model(input_ids=ids, logits_to_keep=probe.compared).logits[0]
        rows.append(torch.log_softmax(logits.float(), dim=-1).cpu())
    return torch.cat(rows)


def mean_kl(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return the mean KL divergence per token from the expected distributions, in nats."""
    return (expected.exp() * (expected - found)).sum(-1).mean().item()


def distance(expected: Expected, found: torch.Tensor) -> Distance:
    agree = (expected.logprobs.argmax(-1) == found.argmax(-1)).float().mean().item()
    return Distance(mean_kl(expected.logprobs, found), agree)


def is_close(expected: Expected, kl: float, most: float) -> bool:
    """Return whether a KL is within rounding, or within a share of that to the bare base.

    A KL that is not a number is not close.
    """
    noise = _NOISE if expected.dtype is torch.float32 else _NOISE_16_BIT
    return math.isfinite(kl) and kl <= max(noise, most * expected.from_bare)
