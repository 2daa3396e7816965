"""Cached prefixes: never computed with other weights, and never more than the limit."""

import pytest
import torch
from helpers.choice_texts import CHOICES, HEADS, TEXTS
from peft import get_peft_model

from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import (
    adapter_parameters,
    attach_adapter,
    lora_config,
    save_adapter,
)
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import RoleGenerator
from seccoderx_lite.models.prefix_cache import PrefixCache, weights_key
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe


@pytest.fixture(scope="module")
def base():
    """A base with a judge adapter that changes what it says."""
    found = load_base(ModelRecipe(base="builtin:tiny", quantization="none"))
    config = lora_config(LoraRecipe(rank=4, alpha=8))
    found.model = get_peft_model(found.model, config, adapter_name="judge")
    shake(found)
    return found


def shake(base):
    torch.manual_seed(0)
    for parameter in adapter_parameters(base.model, "judge").values():
        parameter.data.normal_(std=0.05)


def one_step(base):
    """An optimiser step on the judge's weights."""
    weights = list(adapter_parameters(base.model, "judge").values())
    for weight in weights:
        weight.requires_grad_(True)
        weight.grad = torch.randn_like(weight)
    torch.optim.AdamW(weights, lr=0.02).step()
    for weight in weights:
        weight.grad = None


def negated(base):
    for name, parameter in adapter_parameters(base.model, "judge").items():
        if "lora_B" in name:  # with A as well, the product would stay as it was
            parameter.data.neg_()


def one_number(base):
    next(iter(adapter_parameters(base.model, "judge").values())).data[0, 0] += 8.0


def rows_swapped(base):
    for parameter in adapter_parameters(base.model, "judge").values():
        parameter.data.copy_(parameter.data.flip(0))


def asked(generator):
    return generator.answer_probabilities(
        [head + text for head in HEADS for text in TEXTS[:2]],
        [head for head in HEADS for _ in range(2)],
        CHOICES,
    )


@pytest.mark.parametrize("change", [one_step, negated, one_number, rows_swapped])
def test_a_judge_whose_weights_changed_answers_as_one_that_remembers_nothing(base, change):
    shake(base)
    generator = RoleGenerator(base, "judge", 4)
    before = asked(generator)
    change(base)
    after = asked(generator)
    assert after == asked(RoleGenerator(base, "judge", 4))
    assert after != pytest.approx(before, abs=1e-6)


def test_another_adapter_under_the_same_name_has_no_memory_of_the_first(base, tmp_path):
    shake(base)
    generator = RoleGenerator(base, "judge", 4)
    asked(generator)
    one_step(base)
    save_adapter(base.model, "judge", tmp_path / "other")
    shake(base)
    attach_adapter(base, tmp_path / "other", "judge")
    assert asked(generator) == asked(RoleGenerator(base, "judge", 4))


def test_a_judge_that_does_not_change_remembers(base):
    generator = RoleGenerator(base, "judge", 4)
    first = asked(generator)
    kept = dict(generator.prefix_cache.entries)
    assert kept
    assert asked(generator) == pytest.approx(first, abs=1e-6)
    assert all(generator.prefix_cache.entries[prefix] is layers for prefix, layers in kept.items())


def test_the_key_of_the_weights_changes_with_their_scaling(base):
    with acting_as("judge", base.model, base.tokenizer) as model:
        before = weights_key(model, "judge")
        assert weights_key(model, "judge") == before
        config = model.peft_config["judge"]
        config.lora_alpha *= 2
        try:
            assert weights_key(model, "judge") != before
        finally:
            config.lora_alpha //= 2


@pytest.mark.parametrize("prefixes_that_fit", [0, 1])
def test_memory_is_bounded_and_the_longest_unused_goes_first(base, prefixes_that_fit):
    cache = PrefixCache()
    one, other = (1, 2, 3), (4, 5, 6)
    with acting_as("judge", base.model, base.tokenizer) as model:
        cache.past_key_values(model, base.tokenizer, [one])
        small = PrefixCache(max_bytes=cache.bytes * prefixes_that_fit)
        for prefix in (one, other):
            past, mask = small.past_key_values(model, base.tokenizer, [prefix] * 2)
            assert past.get_seq_length() == 3 and mask.tolist() == [[1, 1, 1]] * 2
    assert list(small.entries) == [other][:prefixes_that_fit]
