"""Random weights in the shape of a model."""

import pytest
import torch
from helpers.small_models import small_model, tiny_config
from peft import get_peft_model

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import lora_config
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.shapes import model_shape
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_random_base_has_the_layers_and_bytes_of_a_loaded_one(tmp_path, quantization):
    folder = small_model(tmp_path / "real", hidden_size=192, tie_word_embeddings=False)
    tiny_config(hidden_size=192, tie_word_embeddings=False).save_pretrained(tmp_path / "shape")
    kinds = [
        {
            name: (type(module), [parameter.nbytes for parameter in module.parameters()])
            for name, module in load_base(
                ModelRecipe(base=base, quantization=quantization)
            ).model.named_modules()
        }
        for base in (str(folder), f"random:{tmp_path / 'shape'}")
    ]
    assert kinds[0] == kinds[1]


def test_no_two_layers_share_weights_and_adapters_can_be_trained():
    base = load_base(ModelRecipe(base="random:builtin:tiny"))
    first, second = (layer.mlp.up_proj.weight for layer in base.model.model.layers[:2])
    assert not torch.equal(first, second)
    model = get_peft_model(base.model, lora_config(LoraRecipe(rank=2)))
    loss = model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum()
    assert torch.isfinite(loss)
    loss.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_the_shape_of_random_weights_is_that_of_the_model():
    assert model_shape("random:builtin:tiny") == model_shape("builtin:tiny")


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tmp_path):
    tiny_config(vocab_size=100).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its vocabulary of 100 is smaller than"):
        load_base(ModelRecipe(base=f"random:{tmp_path}"))


def test_a_missing_shape_is_named(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        load_base(ModelRecipe(base=f"random:{tmp_path / 'nowhere'}"))
