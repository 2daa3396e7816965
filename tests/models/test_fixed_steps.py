"""Decoding with steps of a fixed shape: the same text as with growing ones."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from seccoderx_lite.models import decoding
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.decoding import decode, decode_in_graphs, generating
from seccoderx_lite.recipe.recipe import ModelRecipe

SHAPE = {
    "vocab_size": 24,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
KINDS = {
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
}
WINDOWS = MistralConfig(**SHAPE, sliding_window=6)
PROMPTS = [[5, 6, 7, 8], [0, 0, 9, 10], [5, 6, 7, 8], [0, 11, 12, 13], [0, 0, 9, 10]]
ENDS = list(range(6))


def model_of(config, attention="sdpa"):
    torch.manual_seed(0)
    # Eager attention cannot read padding in float64: it computes its softmax in float32.
    dtype = torch.float64 if attention == "sdpa" else torch.float32
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=attention
    ).eval()
    for parameter in model.parameters():  # else it says the same token over and over
        parameter.data *= 6
    return model


def say(model, way, **how):
    ids = torch.tensor(PROMPTS)
    torch.manual_seed(0)
    settings = {"max_new_tokens": 20, "pad_token_id": 0, "eos_token_id": 1, "do_sample": False}
    return model.generate(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        custom_generate=way,
        **{**settings, **how},
    )


@pytest.fixture(params=[(kind, way) for kind in KINDS for way in ("sdpa", "eager")])
def model(request):
    kind, attention = request.param
    return model_of(KINDS[kind], attention)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"eos_token_id": ENDS},
        {"do_sample": True, "temperature": 2.0, "top_k": 0, "eos_token_id": ENDS},
        {"repetition_penalty": 3.0, "min_new_tokens": 5, "eos_token_id": ENDS},
        {"max_new_tokens": 1},
    ],
)
def test_the_text_is_the_same(model, how):
    said = say(model, decode, **how)
    assert torch.equal(say(model, decode_in_graphs, **how), said)
    assert len({tuple(row) for row in said.tolist()}) > 2  # else this shows nothing


def test_rows_that_ended_stay_until_half_of_the_rows_have_ended():
    model = model_of(KINDS["qwen2"])
    widths = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, arguments: widths.append(tuple(arguments[0].shape))
    )
    said = say(model, decode_in_graphs, eos_token_id=ENDS)[:, 4:]
    lengths = [next((n + 1 for n, t in enumerate(row) if t < 6), 20) for row in said.tolist()]
    rows, expected = 5, []
    for step in range(1, max(lengths)):
        left = sum(length > step for length in lengths)
        rows = left if 2 * left <= rows else rows
        expected.append((rows, 1))
    assert len(set(lengths)) > 1 and len(set(expected)) > 1  # else this shows nothing
    assert widths[1:] == expected


def test_a_model_with_windows_decodes_with_growing_steps():
    model = model_of(WINDOWS)
    assert torch.equal(say(model, decode_in_graphs), say(model, decode))


@pytest.mark.parametrize(
    ("decoding_of_recipe", "way"),
    [("auto", decode), ("plain", decode), ("graph", decode_in_graphs)],
)
def test_the_recipe_chooses_and_auto_needs_a_gpu(decoding_of_recipe, way):
    recipe = ModelRecipe(base="builtin:tiny", quantization="none", decoding=decoding_of_recipe)
    with generating(load_base(recipe)) as how:
        assert how["custom_generate"] is way


@pytest.mark.parametrize(("plain", "graph", "found"), [(9.0, 3.0, "graph"), (3.0, 9.0, "plain")])
def test_auto_takes_the_faster_way_once_and_says_what_it_found(
    plain, graph, found, monkeypatch, caplog
):
    asked = []

    def measure(base, way):
        asked.append(way)
        return plain if way is decode else graph

    monkeypatch.setattr(decoding, "_ms_per_token", measure)
    monkeypatch.setattr(Base, "device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.no_grad())
    base = Base("qwen2", model_of(KINDS["qwen2"]), None)
    with caplog.at_level("INFO"):
        for _ in range(2):
            with generating(base) as how:
                expected = decode_in_graphs if found == "graph" else decode
                assert how["custom_generate"] is expected
    assert asked == [decode, decode_in_graphs]
    assert f"model.decoding: {found} (measured: {plain} ms per token plain" in caplog.text
