"""Arguments of the chat template: alike wherever a prompt is rendered, and in an export."""

import doctest
import shutil

import pytest
from transformers import AutoTokenizer

from seccoderx_lite.core.errors import ModelError, RecipeError
from seccoderx_lite.models import chat_template
from seccoderx_lite.models.base import load_base, resolve_base
from seccoderx_lite.models.chat_template import with_arguments, with_known_arguments
from seccoderx_lite.models.generation import RoleGenerator, render_chat
from seccoderx_lite.recipe.recipe import ModelRecipe, check_recipe
from seccoderx_lite.training.examples import example

SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<no-thoughts>{% endif %}"


@pytest.fixture(scope="module")
def switchable(tmp_path_factory):
    """The tiny base with a switch at the end of its chat template."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(resolve_base("builtin:tiny"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += SWITCH
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_every_prompt_is_rendered_with_the_arguments(switchable, tmp_path):
    plain = load_base(ModelRecipe(base=switchable))
    changed = load_base(
        ModelRecipe(base=switchable, chat_template_kwargs={"enable_thinking": False})
    )
    ask, asked = render_chat(plain.tokenizer, "Hello."), render_chat(changed.tokenizer, "Hello.")
    assert asked == ask + "<no-thoughts>"
    messages = [{"role": "user", "content": "Hello."}]
    # What TRL calls for the rollouts:
    rolled = changed.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert changed.tokenizer.decode(rolled) == asked
    row = example(changed.tokenizer, "Hello.", "Hi.")
    prompt = row["input_ids"][: row["completion_mask"].index(1)]
    assert changed.tokenizer.decode(prompt) == asked
    changed.tokenizer.save_pretrained(tmp_path)  # as the export does
    assert render_chat(AutoTokenizer.from_pretrained(tmp_path), "Hello.") == asked
    names = [RoleGenerator(base, "reference", 1).identity() for base in (plain, changed)]
    assert names[0] != names[1]


def test_an_argument_that_the_template_does_not_use_is_refused(switchable):
    recipe = ModelRecipe(base=switchable, chat_template_kwargs={"enable_thinkng": False})
    with pytest.raises(ModelError, match=r"model\.chat_template_kwargs: .* use enable_thinkng;"):
        load_base(recipe)
    assert load_base(recipe, is_other=True).tokenizer.chat_template.endswith(SWITCH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"messages": []}, r"must not contain messages, which the toolkit sets"),
        ({"not a name": 1}, r"names are letters, digits and _ \(got 'not a name'\)"),
    ],
)
def test_names_that_cannot_be_set_are_refused(arguments, message):
    model = {"base": "b", "chat_template_kwargs": arguments}
    with pytest.raises(RecipeError, match=message):
        check_recipe({"name": "x", "model": model, "export": {}}, "x")


@pytest.mark.parametrize(
    "value", [True, False, None, 3, 0.5, 'a "b" \u00e9\n', [1, "x"], {"k": None}]
)
def test_every_value_reaches_the_template(value):
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("builtin:tiny"))
    tokenizer.chat_template = with_arguments("{{ setting | tojson }}", {"setting": value}, "b")
    text = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}],
        tokenize=False,
        chat_template="{{ setting | tojson }}",
        setting=value,
    )
    assert text == expected


def test_several_templates_by_name_each_get_what_they_use():
    templates = {"default": "{{ a }}", "tools": "{{ b }}"}
    changed = with_known_arguments(templates, {"a": 1})
    assert changed == {"default": "{%- set a = 1 -%}{{ a }}", "tools": "{{ b }}"}


def test_the_worked_examples_hold():
    result = doctest.testmod(chat_template)
    assert result.attempted > 0 and result.failed == 0
