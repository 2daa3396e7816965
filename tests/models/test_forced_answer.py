"""Forced answers in one forward pass: the numbers of separate passes, however they are batched."""

import pytest
import torch
from helpers.choice_texts import CHOICES, HEADS, SHARED, TEXTS

from seccoderx_lite.models import forced_answer
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.forced_answer import forced_answer_probabilities
from seccoderx_lite.models.generation import RoleGenerator
from seccoderx_lite.models.prefix_cache import PrefixCache
from seccoderx_lite.recipe.recipe import ModelRecipe


@pytest.fixture(scope="module")
def base():
    return load_base(ModelRecipe(base="builtin:tiny"))


def probabilities(base, shared=SHARED, choices=CHOICES, batch_size=8, prefixes=None):
    with torch.no_grad():
        return forced_answer_probabilities(
            base.model,
            base.tokenizer,
            TEXTS,
            shared,
            choices,
            batch_size=batch_size,
            prefix_cache=prefixes or PrefixCache(),
        )


def plain_probability(base, text):
    """The definition: both continuations' first differing token after one unbatched pass."""
    first, second = (base.tokenizer(text + choice)["input_ids"] for choice in CHOICES)
    parting = next(i for i in range(len(first)) if first[i] != second[i])
    with torch.no_grad():
        logits = base.model(input_ids=torch.tensor([first[:parting]])).logits[0, -1].double()
    pair = torch.stack([logits[first[parting]], logits[second[parting]]])
    return torch.softmax(pair, dim=0)[0].item()


@pytest.mark.parametrize(
    "shared",
    [SHARED, [""] * 5, ["not its beginning"] * 5],
    ids=["shared", "nothing shared", "wrongly shared"],
)
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_probabilities_are_those_of_a_plain_pass_over_each_text(base, shared, batch_size):
    prefixes = PrefixCache()
    expected = [plain_probability(base, text) for text in TEXTS]
    for _ in ("computed", "remembered"):
        found = probabilities(base, shared, batch_size=batch_size, prefixes=prefixes)
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_two_choices_share_all_probability(base):
    one = probabilities(base)
    other = probabilities(base, choices=(CHOICES[1], CHOICES[0]))
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx([1.0] * len(TEXTS))


@pytest.fixture
def seen(base, monkeypatch):
    """The token ids of each forward pass."""
    ids = []
    forward = base.model.forward
    monkeypatch.setattr(
        base.model, "forward", lambda **given: ids.append(given["input_ids"]) or forward(**given)
    )
    return ids


def test_on_a_cpu_a_pass_has_few_tokens_however_many_texts_are_allowed(base, seen, monkeypatch):
    length = len(base.tokenizer(TEXTS[4] + "<answer>")["input_ids"])
    monkeypatch.setattr(forced_answer, "MAX_TOKENS_ON_CPU", 3 * length)
    forced_answer_probabilities(
        base.model,
        base.tokenizer,
        [TEXTS[4]] * 8,
        [""] * 8,
        CHOICES,
        batch_size=64,
        prefix_cache=PrefixCache(),
    )
    assert [len(ids) for ids in seen] == [3, 3, 2]


def test_what_texts_share_is_computed_once_for_all_calls(base, seen):
    prefixes = PrefixCache()
    probabilities(base, prefixes=prefixes)
    assert sum(ids.numel() for ids in seen) < sum(
        len(base.tokenizer(text + "<answer>")["input_ids"]) for text in TEXTS
    )
    first = len(seen)
    probabilities(base, prefixes=prefixes)
    again = seen[first:]
    assert sum(len(ids) for ids in again) == len(TEXTS)
    shortest = min(len(base.tokenizer(head)["input_ids"]) for head in HEADS)
    assert min(ids.shape[1] for ids in again) < shortest


def test_a_model_with_another_kind_of_cache_is_asked_the_plain_way(base, monkeypatch):
    expected = probabilities(base, shared=[""] * 5)
    calls = []
    forward = base.model.forward

    def without_layers(**given):
        calls.append(given["use_cache"])
        output = forward(**given)
        output.past_key_values = ()
        return output

    monkeypatch.setattr(base.model, "forward", without_layers)
    prefixes = PrefixCache()
    for _ in range(2):
        found = probabilities(base, batch_size=1, prefixes=prefixes)
        assert found == pytest.approx(expected, abs=1e-4)
    assert calls.count(True) == 1  # tried once, then given up


def test_a_choice_that_begins_the_other_is_refused(base):
    with pytest.raises(ValueError, match="beginning of the other"):
        probabilities(base, choices=("safe", "safe enough"))


def test_a_quantised_base_is_another_generator_than_the_same_base_in_full(base):
    full = load_base(ModelRecipe(base="builtin:tiny", quantization="none"))
    names = [RoleGenerator(each, "reference", 1).identity() for each in (base, full)]
    assert names[0] != names[1]
