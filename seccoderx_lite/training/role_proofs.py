"""What is proved before a role is trusted: that the policy is what trains and what samples."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.models.roles import acting_as


def require_policy_optimizer(optimizer: torch.optim.Optimizer, model: Any) -> None:
    """Check that an optimiser holds exactly the policy adapter's parameters.

    Raises:
        ModelError: it lacks some of them or holds others; such a run would train the wrong weights.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    held = {id(parameter) for group in inner.param_groups for parameter in group["params"]}
    policy = {id(parameter) for parameter in adapter_parameters(model, "policy").values()}
    if not policy or held != policy:
        raise ModelError(
            f"optimizer: it must hold exactly the policy adapter's {len(policy)} tensors, but "
            f"holds {len(held & policy)} of them and {len(held - policy)} others"
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


def prove_rollouts_use_policy(model: Any, tokenizer: Any, prompt_ids: Sequence[int]) -> None:
    """Check that what generates is the policy adapter, by giving it a visible nudge first.

    A new adapter changes nothing yet, so its B matrices get noise for the length of the check and
    their exact values back. The generator's log-probabilities of its own greedy tokens must then
    agree with those of a plain forward pass under the policy, and differ from the reference's.

    Raises:
        ModelError: they do not; rollouts would come from other weights than are trained.
    """
    nudged = [p for name, p in adapter_parameters(model, "policy").items() if "lora_B" in name]
    saved = [parameter.detach().clone() for parameter in nudged]
    noise = torch.Generator().manual_seed(0)
    try:
        for parameter in nudged:
            shake = 0.05 * torch.randn(parameter.shape, generator=noise)
            parameter.data += shake.to(parameter.device, parameter.dtype)
        with acting_as("policy", model, tokenizer):
            generated, said = _greedy_logprobs(model, tokenizer, prompt_ids)
            policy = sequence_logprobs(model, prompt_ids, generated)
        with acting_as("reference", model, tokenizer):
            reference = sequence_logprobs(model, prompt_ids, generated)
    finally:
        for parameter, values in zip(nudged, saved, strict=True):
            parameter.data.copy_(values)
    gap = (said - policy).abs().mean().item()
    distance = (said - reference).abs().mean().item()
    if gap > 0.05 or gap > 0.5 * distance:
        raise ModelError(
            f"rollouts do not come from the policy adapter: their log-probabilities are {gap:.3g} "
            f"from the policy's and {distance:.3g} from the reference's; training would optimise "
            "another model than it samples"
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
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
        temperature=None, top_k=None, top_p=None, repetition_penalty=1.0,
        logits_processor=LogitsProcessorList([keep]), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    generated = sequences[0, ids.shape[1] :].tolist()
    logits = torch.stack(seen)
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = torch.tensor(generated, device=logits.device)
    return generated, logprobs.gather(1, chosen[:, None])[:, 0]
