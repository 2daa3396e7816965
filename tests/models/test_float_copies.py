"""Float copies of the weights: the same results, and nothing left afterwards."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import adapter_digest, adapter_parameters, adapter_to_train
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.float_copies import float_copies, has_float_copies
from seccoderx_lite.models.generation import RoleGenerator, generate_texts
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe
from seccoderx_lite.training.step_records import PhaseClock
from seccoderx_lite.training.trainers import prepare_generation

PROMPTS = ["Write a function that adds.", "Read a file."]


def with_policy(recipe: ModelRecipe) -> Base:
    """A base with an adapter that changes what it says."""
    base = load_base(recipe)
    base.model = get_peft_model(base.model, adapter_to_train(base, LoraRecipe(rank=4), seed=0))
    torch.manual_seed(0)
    for name, parameter in adapter_parameters(base.model, "trained").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return base


@pytest.fixture(params=["nf4", "none"])
def base(request) -> Base:
    return with_policy(ModelRecipe(base="builtin:tiny", quantization=request.param))


def logits_of(base: Base, role: str, *, with_copies: bool) -> torch.Tensor:
    ids = base.tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    with acting_as(role, base.model, base.tokenizer) as model:
        if not with_copies:
            return model(ids).logits
        with float_copies(model):
            return model(ids).logits


@pytest.mark.parametrize("role", ["trained", "reference"])
def test_a_layer_with_a_copy_computes_what_weights_and_adapter_do(base, role):
    plain = logits_of(base, role, with_copies=False)
    torch.testing.assert_close(logits_of(base, role, with_copies=True), plain, atol=1e-3, rtol=1e-4)
    other = "reference" if role == "trained" else "trained"
    assert (logits_of(base, other, with_copies=True) - plain).abs().max() > 0.1


def test_a_bare_base_in_4_bits_has_copies_too():
    base = load_base(ModelRecipe(base="builtin:tiny"))
    plain = logits_of(base, "reference", with_copies=False)
    with float_copies(base.model):
        assert has_float_copies(base.model)
    with_copies = logits_of(base, "reference", with_copies=True)
    torch.testing.assert_close(with_copies, plain, atol=1e-3, rtol=1e-4)
    assert not has_float_copies(base.model)


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"use_rslora": True}, {"lora_bias": True}])
def test_every_kind_of_lora_computes_what_it_does_without_copies(kind):
    base = load_base(ModelRecipe(base="builtin:tiny"))
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], **kind)
    base.model = get_peft_model(base.model, config)
    torch.manual_seed(0)
    for name, parameter in base.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    plain = logits_of(base, "trained", with_copies=False)
    torch.testing.assert_close(
        logits_of(base, "trained", with_copies=True), plain, atol=1e-3, rtol=1e-4
    )


def test_afterwards_nothing_is_left_of_the_copies_even_when_generation_fails(base):
    before = logits_of(base, "trained", with_copies=False)
    digest = adapter_digest(base.model, "trained")
    parameters = [id(parameter) for parameter in base.model.parameters()]
    with pytest.raises(KeyboardInterrupt), float_copies(base.model):
        raise KeyboardInterrupt
    assert not has_float_copies(base.model)
    assert adapter_digest(base.model, "trained") == digest
    assert [id(parameter) for parameter in base.model.parameters()] == parameters
    assert torch.equal(logits_of(base, "trained", with_copies=False), before)


def test_a_model_that_computes_in_16_bits_is_left_alone(base):
    base.model.to(torch.bfloat16)
    with float_copies(base.model):
        assert not has_float_copies(base.model)


def test_no_role_is_swapped_while_copies_of_another_are_in_use(base):
    with (
        float_copies(base.model),
        pytest.raises(ModelError, match="cannot be switched inside float_copies"),
        acting_as("reference", base.model, base.tokenizer),
    ):
        pass
    assert not has_float_copies(base.model)


def test_inside_another_block_nothing_more_is_copied_or_taken_away(base):
    with float_copies(base.model):
        with float_copies(base.model):
            pass
        assert has_float_copies(base.model)


def test_a_model_whose_copies_would_be_too_large_is_left_alone(base, monkeypatch):
    monkeypatch.setattr("seccoderx_lite.models.float_copies.MAX_BYTES", 1 << 20)
    with float_copies(base.model):
        assert not has_float_copies(base.model)


@pytest.fixture
def uses(base):
    """Whether copies were in use, for each forward pass of the base."""
    seen = []
    base.model.get_base_model().register_forward_pre_hook(
        lambda *_: seen.append(has_float_copies(base.model))
    )
    return seen


@pytest.mark.parametrize("fast", [True, False])
def test_the_recipe_says_whether_roles_generate_from_copies(base, uses, fast):
    base.fast_generation = fast
    generator = RoleGenerator(base, "trained", 2)
    generator.generate(PROMPTS, max_new_tokens=2, temperature=0.0)
    generator.answer_probabilities(PROMPTS, ["", ""], ("yes", "no"))
    assert set(uses) == {fast}


def test_the_trainers_rollouts_use_copies_too_and_its_training_passes_do_not(base, uses):
    clock = PhaseClock()
    prepare_generation(base, clock)
    ids = base.tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    base.model.generate(input_ids=ids, max_new_tokens=2)
    base.model(ids)
    assert uses[-1] is False
    assert set(uses[:-1]) == {True}
    assert clock.has("rollout")


def test_texts_are_the_same_with_and_without_copies(base):
    said = []
    for copies in (nullcontext, float_copies):
        torch.manual_seed(0)
        with acting_as("trained", base.model, base.tokenizer) as model, copies(model):
            said.append(
                generate_texts(
                    model,
                    base.tokenizer,
                    PROMPTS,
                    max_new_tokens=24,
                    temperature=0.8,
                    batch_size=2,
                )
            )
    assert said[0] == said[1]
