"""Checks that the optimiser updates, and the rollouts sample from, the adapter in training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import ADAPTER_NAMES, Role, adapter_parameters


def check_optimizer(optimizer: torch.optim.Optimizer, model: Any) -> None:
    """Check that an optimiser holds exactly the trained adapter's parameters.

    Raises:
        ModelError: some are missing or others included, so the wrong weights would be trained.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    held = {id(parameter) for group in inner.param_groups for parameter in group["params"]}
    trained = {id(parameter) for parameter in adapter_parameters(model, "trained").values()}
    if not trained or held != trained:
        raise ModelError(
            f"optimizer: must hold exactly the trained adapter's {len(trained)} tensors, but holds "
            f"{len(held & trained)} of them and {len(held - trained)} others"
        )


_COMPARED: tuple[Role, Role] = ("trained", "warm_start")


def check_kl_reference(model: Any) -> None:
    """Check that the KL term compares with a frozen copy of the adapter that training starts from.

    Raises:
        ModelError: there is no such copy, it is not equal, or it would be trained.
    """
    start = adapter_parameters(model, "trained")
    copy = adapter_parameters(model, "warm_start")
    own, other = (f".{ADAPTER_NAMES[role]}." for role in _COMPARED)
    is_equal = len(start) == len(copy) and all(
        torch.equal(parameter.float(), copy[name.replace(own, other)].float())
        for name, parameter in start.items()
    )
    if not is_equal or any(parameter.requires_grad for parameter in copy.values()):
        raise ModelError(
            "policy.grpo.kl: the KL reference is not a frozen copy of the adapter that training "
            f"starts from ({len(copy)} tensors against {len(start)}); set policy.grpo.kl: 0, or "
            "use model.backend: transformers"
        )


def sequence_logprobs(
    model: Any, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float = 1.0
) -> torch.Tensor:
    """Return the log-probability of each completion token under the active adapter; shape (T,)."""
    ids = torch.tensor([[*prompt_ids, *completion_ids]], device=next(model.parameters()).device)
    logits = (
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float() / temperature
    )
    logprobs = torch.log_softmax(logits[len(prompt_ids) - 1 : -1], dim=-1)
    targets = ids[0, len(prompt_ids) :]
    return logprobs.gather(1, targets[:, None])[:, 0]


Sample = Callable[[], tuple[list[int], torch.Tensor]]
"""Returns greedy token ids, and the log-probabilities that the sampler gave them."""

_NUDGES = (0.05, 0.2, 0.8)
"""Sizes of the noise; the next is tried where rounding hides the effect of the one before."""
_MOST_GAP = 0.25
"""Largest gap from the adapter's log-probabilities, as a share of that from the nearest control."""


def check_rollout_weights(
    model: Any, tokenizer: Any, prompt_ids: Sequence[int], sample: Sample | None = None
) -> None:
    """Check that rollouts are sampled from the trained adapter, on the model as it will train.

    A new adapter has no effect yet (its B matrices are zero), so they get noise during the check
    and their exact values back afterwards. The generator's log-probabilities of its own greedy
    tokens are compared with those of a plain forward pass: with the adapter, and, as controls, with
    the bare base and with another adapter (that of the opposite noise). Generation and a forward
    pass round differently, in 16 bits by more than 0.1 for some models, so the bound is relative:
    the adapter has to be four times as near as the nearest control.

    `sample` is what samples the rollouts (default: the model's `generate`).

    Raises:
        ModelError: it is not, so rollouts would come from weights that are not trained.
    """
    nudged = [p for name, p in adapter_parameters(model, "trained").items() if "lora_B" in name]
    saved = [parameter.detach().clone() for parameter in nudged]
    noise = torch.Generator().manual_seed(0)
    sample = sample or (lambda: _greedy_logprobs(model, tokenizer, prompt_ids))
    nudges = [torch.randn(parameter.shape, generator=noise).to(parameter) for parameter in nudged]

    def set_to(size: float) -> None:
        for parameter, values, nudge in zip(nudged, saved, nudges, strict=True):
            parameter.data.copy_(values + size * nudge)

    try:
        for size in _NUDGES:
            set_to(size)
            with acting_as("trained", model, tokenizer):
                generated, sampled = sample()
                gap = _gap(model, prompt_ids, generated, sampled)
            with acting_as("reference", model, tokenizer):
                from_base = _gap(model, prompt_ids, generated, sampled)
            set_to(-size)
            with acting_as("trained", model, tokenizer):
                from_other = _gap(model, prompt_ids, generated, sampled)
            if gap <= _MOST_GAP * min(from_base, from_other) and from_base > 0:
                return
    finally:
        set_to(0.0)
    raise ModelError(
        f"rollouts do not come from the trained adapter: their log-probabilities differ by "
        f"{gap:.3g} from the adapter's, by {from_base:.3g} from the bare base's and by "
        f"{from_other:.3g} from another adapter's; training would optimise another model than it "
        "samples from. Try model.fast_generation: false, model.backend: transformers, or "
        "policy.grpo.rollout_engine: generate"
    )


_SAME = 1e-3
"""A smaller difference of log-probabilities is rounding in float32."""


def check_answering_weights(
    role: Role, model: Any, tokenizer: Any, prompt_ids: Sequence[int], sample: Sample
) -> None:
    """Check that a sampler outside the model answers with the adapter of a role.

    As for rollouts, the adapter has to be four times as near as the bare base.

    Raises:
        ModelError: it is not.
    """
    generated, sampled = sample()
    with acting_as(role, model, tokenizer):
        gap = _gap(model, prompt_ids, generated, sampled)
    with acting_as("reference", model, tokenizer):
        from_base = _gap(model, prompt_ids, generated, sampled)
    if gap > max(_SAME, _MOST_GAP * from_base):
        raise ModelError(
            f"role {role}: vLLM does not answer with its adapter: its log-probabilities differ by "
            f"{gap:.3g} from the adapter's and by {from_base:.3g} from the bare base's; set "
            "policy.grpo.rollout_engine: generate"
        )


def _gap(
    model: Any, prompt_ids: Sequence[int], generated: Sequence[int], sampled: torch.Tensor
) -> float:
    """Return the mean absolute difference from the log-probabilities of a forward pass."""
    logprobs = sequence_logprobs(model, prompt_ids, generated)
    return (sampled.to(logprobs.device) - logprobs).abs().mean().item()


def _greedy_logprobs(
    model: Any, tokenizer: Any, prompt_ids: Sequence[int], tokens: int = 8
) -> tuple[list[int], torch.Tensor]:
    """Return greedy token ids, and the generator's log-probabilities of them; shape (T,)."""
    ids = torch.tensor([list(prompt_ids)], device=next(model.parameters()).device)
    seen: list[torch.Tensor] = []

    def keep(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits[0].float())
        return logits

    sequences = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
        repetition_penalty=1.0,
        logits_processor=LogitsProcessorList([keep]),
        pad_token_id=tokenizer.pad_token_id,
    )
    generated = sequences[0, ids.shape[1] :].tolist()
    logits = torch.stack(seen)
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = torch.tensor(generated, device=logits.device)
    return generated, logprobs.gather(1, chosen[:, None])[:, 0]
