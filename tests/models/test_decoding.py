"""Batched generation without redundant work: the same text as transformers."""

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.base import Base, load_base
from seccoderx_lite.models.decoding import decode, generating, sample_tokens
from seccoderx_lite.models.generation import RoleGenerator, render_chat
from seccoderx_lite.recipe.recipe import ModelRecipe
from seccoderx_lite.training.step_records import PhaseClock
from seccoderx_lite.training.trainers import prepare_generation

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
    "mistral": MistralConfig(**SHAPE, sliding_window=6),
}
PAD, END = 0, 1
PROMPTS = [[5, 6, 7, 8], [9, 10], [5, 6, 7, 8], [11, 12, 13], [9, 10], [9, 10]]


def model_of(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    for parameter in model.parameters():  # else it says the same token over and over
        parameter.data *= 6
    return model


def batch_of(prompts):
    length = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (length - len(prompt)) + prompt for prompt in prompts])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def say(model, prompts, **how):
    settings = {"max_new_tokens": 20, "pad_token_id": PAD, "eos_token_id": END, "do_sample": False}
    return model.generate(**batch_of(prompts), **{**settings, **how})


@pytest.fixture(params=KINDS)
def model(request):
    return model_of(KINDS[request.param])


@pytest.fixture
def widths(model):
    """The shape of the token ids of each forward pass."""
    seen = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, arguments: seen.append(tuple(arguments[0].shape))
    )
    return seen


def test_the_likeliest_tokens_are_those_of_transformers(model):
    assert torch.equal(say(model, PROMPTS, custom_generate=decode), say(model, PROMPTS))


def test_completions_that_end_at_different_times_are_padded(model):
    plain = say(model, PROMPTS, eos_token_id=list(range(8)))
    lengths = (plain[:, 4:] != PAD).sum(dim=1)
    assert len(set(lengths.tolist())) > 1  # else this shows nothing
    assert torch.equal(
        say(model, PROMPTS, eos_token_id=list(range(8)), custom_generate=decode), plain
    )


def test_equal_prompts_are_read_once_and_ended_completions_are_not_computed_on(model, widths):
    sequences = say(model, PROMPTS, eos_token_id=list(range(8)), custom_generate=decode)
    assert widths[0] == (3, 4)
    ends = [
        next((n + 1 for n, token in enumerate(row) if token < 8), 20)
        for row in sequences[:, 4:].tolist()
    ]
    assert len(set(ends)) > 1
    assert widths[1:] == [(sum(end > step for end in ends), 1) for step in range(1, max(ends))]


def test_prompts_that_differ_in_their_padding_alone_are_not_mixed_up(model):
    ids = torch.tensor([[PAD, 5, 6], [PAD, 5, 6]])
    masks = torch.tensor([[0, 1, 1], [1, 1, 1]])
    said = [
        model.generate(
            input_ids=ids,
            attention_mask=masks,
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=PAD,
            eos_token_id=END,
            **how,
        )
        for how in ({}, {"custom_generate": decode})
    ]
    assert torch.equal(*said)


def test_what_changes_the_logits_is_heeded(model):
    how = {"repetition_penalty": 3.0, "suppress_tokens": [3, 4], "min_new_tokens": 5}
    plain = say(model, PROMPTS, **how)
    assert torch.equal(say(model, PROMPTS, **how, custom_generate=decode), plain)
    assert not torch.equal(plain, say(model, PROMPTS))


def test_the_first_token_is_sampled_as_often_as_the_model_says():
    model = model_of(KINDS["qwen2"])
    torch.manual_seed(0)
    count = 4000
    how = {"do_sample": True, "temperature": 3.0, "top_k": 0, "max_new_tokens": 1}
    tokens = say(model, [PROMPTS[0]] * count, **how, custom_generate=decode)[:, -1]
    logits = model(**batch_of([PROMPTS[0]])).logits[0, -1]
    expected = count * torch.softmax(logits / 3.0, dim=-1)
    often = expected > 5
    assert often.sum() > 5
    seen = torch.bincount(tokens, minlength=24)[often].double()
    wanted = expected[often] * seen.sum() / expected[often].sum()
    assert chisquare(seen.detach(), wanted.detach()).pvalue > 1e-3


def test_sequences_are_sampled_as_often_as_the_model_says():
    """Two tokens, where some end with the first; the second has luck of its own."""
    model = model_of(KINDS["qwen2"])
    torch.manual_seed(0)
    count, ends = 8000, list(range(1, 12))
    how = {
        "do_sample": True,
        "temperature": 4.0,
        "top_k": 0,
        "max_new_tokens": 2,
        "eos_token_id": ends,
    }
    said = say(model, [PROMPTS[0]] * count, **how, custom_generate=decode)[:, -2:]
    going = ~torch.isin(said[:, 0], torch.tensor(ends))
    assert 0.1 * count < going.sum() < 0.9 * count
    pairs = torch.tensor([[*PROMPTS[0], token] for token in range(24)])
    with torch.no_grad():
        logits = model(pairs).logits / 4.0
    first, second = (torch.softmax(logits[:, place], dim=-1) for place in (-2, -1))
    chances = first[0][:, None] * second
    chances[ends] = 0.0
    expected = (count * chances).flatten()
    often = expected > 5
    assert often.sum() > 50
    seen = torch.bincount(said[going, 0] * 24 + said[going, 1], minlength=24 * 24)[often].double()
    wanted = expected[often] * seen.sum() / expected[often].sum()
    assert chisquare(seen, wanted).pvalue > 1e-3


def test_what_a_row_says_does_not_hang_on_when_others_end(model):
    how = {"do_sample": True, "temperature": 2.0, "top_k": 0, "custom_generate": decode}
    ends = list(range(4))
    torch.manual_seed(0)
    long = say(model, PROMPTS, **how, eos_token_id=None)[:, 4:].tolist()
    torch.manual_seed(0)
    short = say(model, PROMPTS, **how, eos_token_id=ends)[:, 4:].tolist()
    lengths = [next((n + 1 for n, token in enumerate(row) if token in ends), 20) for row in long]
    assert len(set(lengths)) > 2
    for one, other, length in zip(long, short, lengths, strict=True):
        assert one[:length] == other[:length]


def test_the_likeliest_tokens_cost_no_random_numbers(model):
    state = torch.get_rng_state()
    say(model, PROMPTS, custom_generate=decode)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_of_one_prompt_differ_and_a_seed_gives_them_again(model):
    how = {"do_sample": True, "top_k": 0, "temperature": 2.0, "custom_generate": decode}
    said = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        said.append(say(model, [PROMPTS[0]] * 4, **how))
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])
    assert len({tuple(row) for row in said[0].tolist()}) == 4


@pytest.mark.parametrize("chance", [0.0, 0.3, 1 - 2**-53])
def test_an_impossible_token_is_never_drawn(chance):
    scores = torch.full((1, 50), -torch.inf)
    scores[0, [7, 31]] = torch.tensor([2.0, 1.0])
    assert sample_tokens(scores, torch.tensor([chance], dtype=torch.float64)).item() in (7, 31)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_an_error(model, wrong):
    model.get_output_embeddings().weight.data[3] = wrong
    with pytest.raises(ModelError, match="logits are not all finite"):
        say(model, PROMPTS, do_sample=True, custom_generate=decode)


def test_no_possible_token_at_all_is_an_error():
    with pytest.raises(ModelError, match="no token can be drawn"):
        sample_tokens(torch.full((1, 5), -torch.inf), torch.zeros(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "not beam search; set it to false"),
        ({"prompt_lookup_num_tokens": 2}, "not assisted generation; set it to false"),
        ({"encoder_repetition_penalty": 2.0}, "EncoderRepetitionPenalty.*set it to false"),
        ({"guidance_scale": 2.0}, "UnbatchedClassifierFreeGuidance.*set it to false"),
        (
            {"cache_implementation": "offloaded"},
            "needs a cache with the keys .* set it to false",
        ),
    ],
)
def test_what_cannot_be_done_in_this_way_is_refused(model, settings, message):
    with pytest.raises(ModelError, match=rf"model\.fast_generation: .*{message}"):
        say(model, PROMPTS, **settings, custom_generate=decode)


def test_a_model_published_without_its_cache_is_read_with_it(model):
    model.generation_config.use_cache = False
    with generating(Base("qwen2", model, None)) as how:
        assert torch.equal(say(model, PROMPTS, **how), say(model, PROMPTS))


class OwnWay(Qwen2ForCausalLM):
    def prepare_inputs_for_generation(self, *arguments, **how):
        return super().prepare_inputs_for_generation(*arguments, **how)


def test_a_model_with_a_way_of_its_own_to_go_on_generates_as_transformers_does():
    with generating(Base("own", OwnWay(KINDS["qwen2"]), None)) as how:
        assert how == {}


def test_another_kind_of_cache_is_refused_with_the_way_out(model):
    with pytest.raises(ModelError, match=r"model.fast_generation: .*set it to false"):
        say(model, PROMPTS, custom_generate=decode, cache_implementation="static")


def test_a_model_that_keeps_nothing_of_its_prompts_is_refused(model):
    model.gradient_checkpointing_enable()
    model.train()
    with pytest.raises(ModelError, match="gradient checkpointing; set it to false"):
        say(model, PROMPTS, custom_generate=decode)


def test_models_with_another_memory_than_keys_and_values_generate_as_transformers_does():
    config = MambaConfig(vocab_size=24, hidden_size=16, state_size=4, num_hidden_layers=1)
    with generating(Base("mamba", model_of(config), None)) as how:
        assert how == {}


@pytest.mark.parametrize(("backend", "fast"), [("unsloth", True), ("transformers", False)])
def test_unsloth_and_a_recipe_that_says_so_generate_in_their_own_way(backend, fast):
    base = Base("qwen2", model_of(KINDS["qwen2"]), None, backend, fast)
    with generating(base) as how:
        assert how == {}


def test_the_recipe_says_how_a_base_generates():
    base = load_base(ModelRecipe(base="builtin:tiny", fast_generation=False))
    with generating(base) as how:
        assert how == {}
    with generating(load_base(ModelRecipe(base="builtin:tiny"))) as how:
        assert how == {"custom_generate": decode, "use_cache": True}


@pytest.fixture
def decoded(monkeypatch):
    """How many batches were generated in this way."""
    count = []
    monkeypatch.setattr(
        "seccoderx_lite.models.decoding.decode",
        lambda *arguments, **settings: count.append(1) or decode(*arguments, **settings),
    )
    return count


def test_roles_and_the_trainers_rollouts_generate_in_this_way(decoded):
    base = load_base(ModelRecipe(base="builtin:tiny"))
    prepare_generation(base, PhaseClock())
    ids = base.tokenizer(render_chat(base.tokenizer, "Read a file."), return_tensors="pt")
    base.model.generate(**ids, max_new_tokens=2, do_sample=False)
    assert len(decoded) == 1
    generator = RoleGenerator(base, "reference", 2)
    prompts = ["Read a file.", "Write a file.", "Delete a file."]
    texts = generator.generate(prompts, max_new_tokens=8, temperature=0.0)
    assert len(decoded) == 3
    base.fast_generation = False
    assert generator.generate(prompts, max_new_tokens=8, temperature=0.0) == texts
    assert len(decoded) == 3
