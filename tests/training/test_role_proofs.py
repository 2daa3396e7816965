"""The proof that rollouts come from the adapter in training, in every precision."""

from types import SimpleNamespace

import pytest
import torch
from helpers.small_runs import PROMPT
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.training.role_proofs import check_rollout_weights

SIZES = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "pad_token_id": 0,
    "eos_token_id": None,
}
SHAPES = {
    "gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, sliding_window=16)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
}
TOKENIZER = SimpleNamespace(pad_token_id=0, padding_side="left")


@pytest.fixture(params=["gemma", "llama"])
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def model(shape, request):
    """A random model with a new adapter in float32, as training has it."""
    torch.manual_seed(0)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=targets)
    adapted = get_peft_model(shape().to(request.param), config)
    for parameter in adapter_parameters(adapted, "trained").values():
        parameter.data = parameter.data.float()
    return adapted


def test_a_sound_model_passes_in_every_precision_and_keeps_its_weights(model):
    before = {n: p.clone() for n, p in adapter_parameters(model, "trained").items()}
    check_rollout_weights(model, TOKENIZER, PROMPT)
    after = adapter_parameters(model, "trained")
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("wrong", ["bare base", "half the scale", "another adapter"])
def test_rollouts_of_other_weights_are_refused_in_every_precision(model, wrong):
    generate = model.generate

    def from_other_weights(**arguments):
        parameters = [p for n, p in adapter_parameters(model, "trained").items() if "lora_B" in n]
        saved = [parameter.detach().clone() for parameter in parameters]
        others = {
            "bare base": lambda p: torch.zeros_like(p),
            "half the scale": lambda p: p / 2,
            "another adapter": lambda p: p.flip(0),
        }
        for parameter in parameters:
            parameter.data = others[wrong](parameter.data)
        try:
            return generate(**arguments)
        finally:
            for parameter, values in zip(parameters, saved, strict=True):
                parameter.data = values

    model.generate = from_other_weights
    with pytest.raises(ModelError, match="rollouts do not come from the trained adapter"):
        check_rollout_weights(model, TOKENIZER, PROMPT)
