"""Checks that the optimiser updates, and the rollouts sample from, the adapter in training."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import ADAPTER_NAMES, Role, adapter_parameters
from seccoderx_lite.models.roles import acting_as


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


def check_rollout_weights(model: Any, tokenizer: Any, prompt_ids: Sequence[int]) -> None:
    """Check that rollouts are sampled from the trained adapter.

    A new adapter has no effect yet (its B matrices are zero), so they get noise during the check
    and their exact values back afterwards. The generator's log-probabilities of its own greedy
    tokens must then agree with those of a plain forward pass with the adapter, and differ from
    those of the bare base.

    Raises:
        ModelError: they do not agree, so rollouts would come from weights that are not trained.
    """
    nudged = [p for name, p in adapter_parameters(model, "trained").items() if "lora_B" in name]
    saved = [parameter.detach().clone() for parameter in nudged]
    noise = torch.Generator().manual_seed(0)
    try:
        for parameter in nudged:
            nudge = 0.05 * torch.randn(parameter.shape, generator=noise)
            parameter.data += nudge.to(parameter.device, parameter.dtype)
        with acting_as("trained", model, tokenizer):
            generated, sampled = _greedy_logprobs(model, tokenizer, prompt_ids)
            trained = sequence_logprobs(model, prompt_ids, generated)
        with acting_as("reference", model, tokenizer):
            reference = sequence_logprobs(model, prompt_ids, generated)
    finally:
        for parameter, values in zip(nudged, saved, strict=True):
            parameter.data.copy_(values)
    gap = (sampled - trained).abs().mean().item()
    distance = (sampled - reference).abs().mean().item()
    if gap > 0.05 or gap > 0.5 * distance:
        raise ModelError(
            f"rollouts do not come from the trained adapter: their log-probabilities differ by "
            f"{gap:.3g} from the adapter's and by {distance:.3g} from the bare base's; training "
            "would optimise another model than it samples from"
        )


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
