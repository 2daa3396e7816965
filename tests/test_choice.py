"""Choices in one forward pass: the same numbers as the plain way, whatever is shared or padded."""

import pytest
import torch

from seccoderx_lite.choice import choice_probabilities
from seccoderx_lite.generation import RoleGenerator
from seccoderx_lite.recipe import ModelRecipe
from seccoderx_lite.roles import load_base

HEADS = ["Describe the weakness of SQL injection first.\n", "Now something else:\n"]
TEXTS = [
    HEADS[0] + "def f(x): return x",
    HEADS[1] + "print(1)",
    HEADS[0] + "import os\nos.system('a much longer piece of code than the others')\n" * 3,
    HEADS[1] + "",
    HEADS[0] + "y",
]
SHARED = [HEADS[0], HEADS[1], HEADS[0], HEADS[1], HEADS[0]]
CHOICES = ("<answer>Vulnerable</answer>", "<answer>Not Vulnerable</answer>")


@pytest.fixture(scope="module")
def base():
    return load_base(ModelRecipe(base="builtin:tiny"))


def plain_probability(base, text):
    """The definition: both continuations' first differing token after one unbatched pass."""
    first, second = (base.tokenizer(text + choice)["input_ids"] for choice in CHOICES)
    parting = next(i for i in range(len(first)) if first[i] != second[i])
    with torch.no_grad():
        logits = base.model(input_ids=torch.tensor([first[:parting]])).logits[0, -1].double()
    pair = torch.stack([logits[first[parting]], logits[second[parting]]])
    return torch.softmax(pair, dim=0)[0].item()


@pytest.mark.parametrize("shared", [SHARED, [""] * 5, ["not its beginning"] * 5],
                         ids=["shared", "nothing shared", "wrongly shared"])  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_probabilities_are_those_of_a_plain_pass_over_each_text(base, shared, batch_size):
    found = choice_probabilities(
        base.model, base.tokenizer, TEXTS, shared, CHOICES, batch_size=batch_size
    )
    expected = [plain_probability(base, text) for text in TEXTS]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_two_choices_share_all_probability(base):
    one = choice_probabilities(base.model, base.tokenizer, TEXTS, SHARED, CHOICES, batch_size=8)
    other = choice_probabilities(
        base.model, base.tokenizer, TEXTS, SHARED, (CHOICES[1], CHOICES[0]), batch_size=8
    )
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx([1.0] * len(TEXTS))


def test_what_texts_share_is_computed_once(base, monkeypatch):
    seen = []
    forward = base.model.forward
    monkeypatch.setattr(
        base.model, "forward", lambda **given: seen.append(given["input_ids"]) or forward(**given)
    )
    choice_probabilities(base.model, base.tokenizer, TEXTS, SHARED, CHOICES, batch_size=8)
    heads, rests = seen
    assert heads.shape[0] == len(HEADS)
    assert rests.shape[0] == len(TEXTS)
    whole = max(len(base.tokenizer(text + "<answer>")["input_ids"]) for text in TEXTS)
    assert rests.shape[1] < whole


def test_a_choice_that_begins_the_other_is_refused(base):
    with pytest.raises(ValueError, match="beginning of the other"):
        choice_probabilities(
            base.model, base.tokenizer, ["x"], [""], ("safe", "safe enough"), batch_size=1
        )


def test_a_quantised_base_is_another_generator_than_the_same_base_in_full(base):
    full = load_base(ModelRecipe(base="builtin:tiny", quantization="none"))
    names = [RoleGenerator(each, "reference", 1).identity() for each in (base, full)]
    assert names[0] != names[1]
