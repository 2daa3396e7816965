"""Trained prefixes equal asked ones, with the chat templates of the usual model families."""

from pathlib import Path

import pytest
import torch
from helpers.small_runs import small_recipe
from transformers import AutoTokenizer, TrainerCallback

from seccoderx_lite.judge.verdict import judge_answer
from seccoderx_lite.models.base import load_base, resolve_base, with_fixed_date
from seccoderx_lite.models.forced_answer import forced_answer_probabilities
from seccoderx_lite.models.generation import generate_texts, render_chat
from seccoderx_lite.models.prefix_cache import PrefixCache
from seccoderx_lite.recipe.recipe import ModelRecipe
from seccoderx_lite.training.examples import deciding_example, example
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.trainers import make_grpo_trainer

TEMPLATES = Path(__file__).parent / "chat_templates"
CHATML, LLAMA = "<|im_start|>assistant\n", "assistant<|end_header_id|>\n\n"
R1 = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"
# Template: eos token, beginning and end of the text asked, end of a trained answer.
TABLE = {
    "qwen2.5": ("<|im_end|>", "<|im_start|>system\nYou are Qwen", CHATML, "<|im_end|>"),
    "qwen3": ("<|im_end|>", "<|im_start|>user\nAdd", CHATML, "<|im_end|>"),
    "llama3": ("<|eot_id|>", "<|bos|><|start_header_id|>user", LLAMA, "<|eot_id|>"),
    "llama3.2": ("<|eot_id|>", "<|bos|><|start_header_id|>system", LLAMA, "<|eot_id|>"),
    "smollm2": ("<|im_end|>", "<|im_start|>system\nYou are a helpful", CHATML, "<|im_end|>"),
    "gemma": ("<eos>", "<|bos|><start_of_turn>user\nAdd", "model\n", "<end_of_turn>"),
    "deepseek-coder": ("<|EOT|>", "<|bos|>You are an AI", "### Response:\n", "\n<|EOT|>"),
    "deepseek-r1-distill": (R1[2], f"<|bos|>{R1[0]}Add", f"{R1[1]}<think>\n", R1[2]),
    "mistral": ("</s>", "<|bos|>[INST] Add", " [/INST]", "</s>"),
    "codellama": ("</s>", "<|bos|>[INST] Add", " [/INST]", " </s>"),
}
PROMPT = "Add two numbers."
ANSWERS = {
    "direct verdict": judge_answer(True),
    "reasoned verdict": judge_answer(False, "The query is bound."),
    "solution": "```python\ndef add(a, b):\n    return a + b\n```",
}


def tokenizer_of(name):
    """The tiny base's tokenizer with the template and special tokens of another family."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("builtin:tiny"), padding_side="left")
    stop = TABLE[name][0]
    tokenizer.add_special_tokens({"bos_token": "<|bos|>", "eos_token": stop})
    tokenizer.chat_template = with_fixed_date((TEMPLATES / f"{name}.jinja").read_text("utf-8"))
    return tokenizer


class Recorder(torch.nn.Module):
    """Takes the place of a model and keeps the tokens that it is asked with."""

    def __init__(self, vocabulary, context=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vocabulary = vocabulary
        self.asked = []
        self.config = ModelConfig(context)

    def forward(self, input_ids, **rest):
        self.asked += input_ids.tolist()
        return type("Output", (), {"logits": torch.zeros(len(input_ids), 1, self.vocabulary)})

    def generate(self, input_ids, **rest):
        self.asked += input_ids.tolist()
        return input_ids


class ModelConfig:
    def __init__(self, context):
        self.max_position_embeddings = context

    def get_text_config(self):
        return self


def asked_when_generating(tokenizer):
    model = Recorder(len(tokenizer))
    generate_texts(model, tokenizer, [PROMPT], max_new_tokens=4, temperature=0, batch_size=1)
    return model.asked[0]


def asked_by_trl(tokenizer):
    """The call of GRPOTrainer for its rollouts, of the policy and of `judge.align`."""
    message = [{"role": "user", "content": PROMPT}]
    return tokenizer.apply_chat_template(
        conversation=[message], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"][0]


def trained(row):
    place = row["completion_mask"].index(1)
    return row["input_ids"][:place], row["input_ids"][place:]


@pytest.mark.parametrize("name", TABLE)
def test_the_text_asked_is_that_of_the_template(name):
    _, beginning, end, _ = TABLE[name]
    text = render_chat(tokenizer_of(name), PROMPT)
    assert text.startswith(beginning)
    assert text.endswith(end)
    assert text.count("<|bos|>") <= 1


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("name", TABLE)
def test_an_answer_is_trained_after_the_tokens_that_are_asked(name, kind):
    tokenizer = tokenizer_of(name)
    head, tail = trained(example(tokenizer, PROMPT, ANSWERS[kind]))
    assert head == asked_when_generating(tokenizer) == asked_by_trl(tokenizer)
    opens = TABLE[name][2].endswith("<think>\n")
    shown = ANSWERS[kind].removeprefix("<think>\n") if opens else ANSWERS[kind]
    assert tokenizer.decode(tail) == shown + TABLE[name][3]


@pytest.mark.parametrize("name", TABLE)
def test_the_verdict_token_is_trained_where_it_is_asked(name):
    tokenizer = tokenizer_of(name)
    yes, no = judge_answer(True), judge_answer(False)
    model = Recorder(len(tokenizer))
    forced_answer_probabilities(
        model,
        tokenizer,
        [render_chat(tokenizer, PROMPT)],
        [""],
        (yes, no),
        batch_size=1,
        prefix_cache=PrefixCache(),
    )
    row = deciding_example(tokenizer, PROMPT, yes, no)
    assert row["input_ids"][:-1] == model.asked[0]
    assert model.asked[0][: len(asked_when_generating(tokenizer))] == asked_when_generating(
        tokenizer
    )


def test_a_token_across_the_boundary_is_neither_trained_nor_asked():
    tokenizer = tokenizer_of("mistral")
    tokenizer.add_tokens(["]<answer"])  # as a vocabulary without pre-tokenisation may have
    head, _ = trained(example(tokenizer, PROMPT, judge_answer(True)))
    assert head == asked_when_generating(tokenizer)


def test_a_template_with_the_date_of_the_day_shows_one_date():
    tokenizer = tokenizer_of("llama3.2")
    assert "Today Date: 26 Jul 2024\n" in render_chat(tokenizer, PROMPT)
    assert with_fixed_date("{{ messages }}") == "{{ messages }}"


def test_rollouts_are_asked_with_these_tokens(tmp_path):
    """Through TRL's trainer, with a template whose special tokens a tokenizer could add twice."""
    recipe = small_recipe()
    base = load_base(ModelRecipe(base="builtin:tiny"))
    base.tokenizer.add_bos_token = True
    base.tokenizer.chat_template = "{{ bos_token }}" + base.tokenizer.chat_template
    rows = [{"prompt": [{"role": "user", "content": PROMPT}]}]
    config = grpo_config(recipe, recipe.policy.grpo, tmp_path)
    trainer = make_grpo_trainer(
        base, recipe, config, rows, lambda **columns: [0.0], TrainerCallback()
    )
    found = trainer._tokenize_prompts([rows[0]["prompt"]])[0][0]
    assert found == asked_when_generating(base.tokenizer)
