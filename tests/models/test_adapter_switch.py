"""Roles on the real 4-bit path: what a switch may not change, and what it must."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import (
    ADAPTER_NAMES,
    adapter_parameters,
    adapter_to_train,
    attach_adapter,
    detach_adapters,
    save_adapter,
)
from seccoderx_lite.models.base import Base, load_base, resolve_base
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe
from seccoderx_lite.training.role_proofs import (
    check_optimizer,
    check_rollout_weights,
    sequence_logprobs,
)

PROMPT = list(range(10, 30))
COMPLETION = list(range(40, 60))


def put_on_policy(base: Base, rank: int = 4) -> None:
    """A policy adapter with weights that change what the model says."""
    torch.manual_seed(0)
    if config := adapter_to_train(base, LoraRecipe(rank=rank), seed=0):
        base.model = get_peft_model(base.model, config)
    for name, parameter in adapter_parameters(base.model, "trained").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.fixture(params=["transformers", "unsloth"])
def model_recipe(request: pytest.FixtureRequest) -> ModelRecipe:
    if request.param == "unsloth" and "unsloth" not in sys.modules:
        pytest.skip("unsloth must be imported first: pytest -p unsloth")
    return ModelRecipe(base="builtin:tiny", backend=request.param)


@pytest.fixture
def judge_folder(tmp_path: Path, model_recipe: ModelRecipe) -> Path:
    base = load_base(model_recipe)
    put_on_policy(base)
    for parameter in adapter_parameters(base.model, "trained").values():
        parameter.data += 0.03
    save_adapter(base.model, "trained", tmp_path / "judge")
    return tmp_path / "judge"


@pytest.fixture
def two_adapters(model_recipe: ModelRecipe, judge_folder: Path) -> Base:
    base = load_base(model_recipe)
    put_on_policy(base)
    attach_adapter(base, judge_folder, "judge")
    return base


def snapshot(base: Base) -> tuple:
    return (
        tuple(base.model.active_adapters),
        tuple((n, p.requires_grad) for n, p in base.model.named_parameters()),
        tuple(module.training for module in base.model.modules()),
        base.model.config.use_cache,
        base.model.config._attn_implementation,
        base.tokenizer.padding_side,
    )


def test_the_tiny_base_is_held_in_four_bits(model_recipe):
    model = load_base(model_recipe).model
    kinds = {type(module).__name__ for module in model.modules()}
    assert "Linear4bit" in kinds
    assert model.is_loaded_in_4bit


def test_each_role_speaks_with_its_own_weights(two_adapters):
    said = {}
    for role in ("trained", "reference", "judge"):
        with acting_as(role, two_adapters.model, two_adapters.tokenizer) as model:
            said[role] = sequence_logprobs(model, PROMPT, COMPLETION)
    assert not torch.allclose(said["trained"], said["reference"], atol=1e-3)
    assert not torch.allclose(said["judge"], said["reference"], atol=1e-3)
    assert not torch.allclose(said["judge"], said["trained"], atol=1e-3)


def test_the_reference_speaks_as_the_bare_base(two_adapters, model_recipe):
    bare = load_base(model_recipe).model.eval()
    with acting_as("reference", two_adapters.model, two_adapters.tokenizer) as model:
        bare.set_attn_implementation(model.config._attn_implementation)  # another rounds otherwise
        with torch.no_grad():
            expected = sequence_logprobs(bare, PROMPT, COMPLETION)
        assert torch.equal(sequence_logprobs(model, PROMPT, COMPLETION), expected)


@pytest.mark.parametrize("role", ["trained", "reference", "judge"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_switch_restores_everything_even_when_the_body_raises(two_adapters, role, fails):
    base = two_adapters
    base.model.train()
    base.model.config.use_cache = False
    base.tokenizer.padding_side = "right"
    before = snapshot(base)
    try:
        with acting_as(role, base.model, base.tokenizer) as model:
            assert not model.training
            assert model.config.use_cache
            assert model.config._attn_implementation == "sdpa"
            assert base.tokenizer.padding_side == "left"
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert snapshot(base) == before


def test_marks_that_a_generation_leaves_on_modules_are_gone_afterwards(two_adapters):
    """unsloth's `generate` leaves them on a model in eval mode; training would take them up."""
    with acting_as("trained", two_adapters.model, two_adapters.tokenizer) as model:
        for module in model.modules():
            module._flag_for_generation = True
    assert not [m for m in two_adapters.model.modules() if "_flag_for_generation" in vars(m)]


def test_gradients_reach_only_the_policy_after_judging(two_adapters):
    base = two_adapters
    base.model.train()
    with acting_as("judge", base.model, base.tokenizer) as model:
        sequence_logprobs(model, PROMPT, COMPLETION)
    sequence_logprobs(base.model, PROMPT, COMPLETION).sum().backward()
    with_gradient = {name for name, p in base.model.named_parameters() if p.grad is not None}
    assert with_gradient == set(adapter_parameters(base.model, "trained"))


def test_a_role_without_its_adapter_is_refused(model_recipe):
    base = load_base(model_recipe)
    put_on_policy(base)
    with (
        pytest.raises(ModelError, match=r"role judge.*'judge' is not on the model"),
        acting_as("judge", base.model, base.tokenizer),
    ):
        pass


def test_an_adapter_of_another_shape_is_refused_and_the_base_stays_usable(
    tmp_path, model_recipe, judge_folder
):
    from safetensors.torch import load_file, save_file

    weights = load_file(judge_folder / "adapter_model.safetensors")
    wider = {name: torch.cat([tensor, tensor], dim=1) for name, tensor in weights.items()}
    save_file(wider, judge_folder / "adapter_model.safetensors")
    base = load_base(model_recipe)
    with pytest.raises(ModelError, match="does not fit the base 'builtin:tiny'"):
        attach_adapter(base, judge_folder, "judge")
    with acting_as("reference", base.model, base.tokenizer) as model:
        sequence_logprobs(model, PROMPT, COMPLETION)


def test_an_adapter_with_layers_that_the_base_lacks_or_without_some_is_refused(
    model_recipe, judge_folder
):
    from safetensors.torch import load_file, save_file

    file = judge_folder / "adapter_model.safetensors"
    weights = load_file(file)
    for others in (
        {name.replace("layers.0.", "layers.99."): tensor for name, tensor in weights.items()},
        {name: tensor for name, tensor in weights.items() if "layers.0." not in name},
        weights | {n.replace("layers.0.", "layers.99."): t.clone() for n, t in weights.items()},
    ):
        save_file(others, file)
        with pytest.raises(ModelError, match="does not fit the base 'builtin:tiny'"):
            attach_adapter(load_base(model_recipe), judge_folder, "judge")


def test_a_folder_that_is_no_adapter_is_refused(tmp_path, model_recipe):
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        attach_adapter(load_base(model_recipe), tmp_path, "judge")


def test_a_base_without_chat_template_is_refused(tmp_path, model_recipe):
    shutil.copytree(resolve_base("builtin:tiny"), tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_base(ModelRecipe(base=str(tmp_path / "base")))


def test_a_saved_adapter_holds_its_role_alone_and_loads_again(two_adapters, tmp_path):
    save_adapter(two_adapters.model, "judge", tmp_path / "saved")
    assert not [entry for entry in (tmp_path / "saved").iterdir() if entry.is_dir()]
    with acting_as("judge", two_adapters.model, two_adapters.tokenizer) as model:
        expected = sequence_logprobs(model, PROMPT, COMPLETION)
    detach_adapters(two_adapters)
    attach_adapter(two_adapters, tmp_path / "saved", "judge")
    with acting_as("judge", two_adapters.model, two_adapters.tokenizer) as model:
        assert torch.allclose(sequence_logprobs(model, PROMPT, COMPLETION), expected, atol=1e-5)


def test_an_optimizer_built_while_the_judge_is_active_is_refused(two_adapters):
    right = torch.optim.AdamW(adapter_parameters(two_adapters.model, "trained").values())
    check_optimizer(right, two_adapters.model)
    two_adapters.model.set_adapter(ADAPTER_NAMES["judge"])
    trainable = [p for p in two_adapters.model.parameters() if p.requires_grad]
    with pytest.raises(ModelError, match="exactly the trained adapter's"):
        check_optimizer(torch.optim.AdamW(trainable), two_adapters.model)


def test_rollouts_of_the_policy_are_proved_and_its_weights_left_as_they_were(two_adapters):
    before = {n: p.clone() for n, p in adapter_parameters(two_adapters.model, "trained").items()}
    check_rollout_weights(two_adapters.model, two_adapters.tokenizer, PROMPT)
    after = adapter_parameters(two_adapters.model, "trained")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_rollouts_that_come_from_the_base_are_found_out(two_adapters):
    model = two_adapters.model
    generate = model.generate

    def generate_without_adapter(**arguments):
        with model.disable_adapter():
            return generate(**arguments)

    model.generate = generate_without_adapter
    with pytest.raises(ModelError, match="rollouts do not come from the trained adapter"):
        check_rollout_weights(model, two_adapters.tokenizer, PROMPT)


def test_two_adapters_take_little_more_memory_than_one(model_recipe, judge_folder):
    def held_bytes(base: Base) -> int:
        return sum(
            t.numel() * t.element_size() for t in (*base.model.parameters(), *base.model.buffers())
        )

    one, two = load_base(model_recipe), load_base(model_recipe)
    put_on_policy(one)
    put_on_policy(two)
    attach_adapter(two, judge_folder, "judge")
    assert held_bytes(one) < held_bytes(two) <= 1.15 * held_bytes(one)
