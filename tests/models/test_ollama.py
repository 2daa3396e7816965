"""The Modelfile's template writes the chats that the base's own template writes."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from seccoderx_lite.models.base import load_base, resolve_base, with_fixed_date
from seccoderx_lite.models.chat_template import with_arguments
from seccoderx_lite.models.ollama import chat_pieces, go_template, modelfile

TEMPLATES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))
SYSTEM = {"role": "system", "content": 'Use """ and {{ .x }}.'}
TURNS = [
    {"role": "user", "content": "Add two numbers."},
    {"role": "assistant", "content": "a + b"},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "a + b + c"},
    {"role": "user", "content": "Thanks.\nNow four."},
]
CHATS = [[*system, *TURNS[:n]] for n in (1, 3, 5) for system in ([], [SYSTEM])]

# What Ollama does with a template that names .Messages: Template.Execute in template/template.go of
# github.com/ollama/ollama.
OLLAMA = r"""
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var given struct {
		Template string
		Chats    [][]*Message
	}
	json.NewDecoder(os.Stdin).Decode(&given)
	parsed := template.Must(template.New("").Parse(given.Template))
	var texts []string
	for _, chat := range given.Chats {
		var system string
		for _, message := range chat {
			if message.Role == "system" {
				system = message.Content
			}
		}
		var text strings.Builder
		values := map[string]any{
			"System": system, "Messages": chat, "Response": "",
			"Prompt": chat[len(chat)-1].Content,
		}
		if err := parsed.Execute(&text, values); err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}
"""


def tokenizer_with(template: str):
    """The tiny base's tokenizer with another chat template."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("builtin:tiny"))
    tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    tokenizer.chat_template = with_fixed_date(template)
    return tokenizer


def rendered(tokenizer, chat):
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)


def translated(pieces, chat):
    """Whether the translation claims to be right for a chat."""
    return (pieces.turn or len(chat) < 3) and (pieces.system or chat[0]["role"] != "system")


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_several_turns_are_translated_and_system_messages_where_the_base_has_them(file):
    tokenizer = tokenizer_with(file.read_text("utf-8"))
    pieces = chat_pieces(tokenizer)
    chats = [chat for chat in CHATS if translated(pieces, chat)]
    assert [pieces.render(chat) for chat in chats] == [rendered(tokenizer, c) for c in chats]
    refuses_system = file.stem in ("gemma", "mistral")
    assert len(chats) == (3 if refuses_system else 6)
    assert ("# System messages are left out." in modelfile(tokenizer, "x")) is refuses_system


def test_arguments_of_the_chat_template_are_in_the_modelfile():
    template = (TEMPLATES[0].parent / "qwen3.jinja").read_text("utf-8")
    tokenizer = tokenizer_with(with_arguments(template, {"enable_thinking": False}, "b"))
    pieces = chat_pieces(tokenizer)
    assert pieces.tail.endswith("<think>\n\n</think>\n\n")
    assert [pieces.render(chat) for chat in CHATS] == [rendered(tokenizer, c) for c in CHATS]


GROWING = (
    "{% for m in messages %}[{{ m.role }} {{ loop.index }}]{{ m.content }}[end]"
    "{% endfor %}[assistant]"
)
QUOTES = """{% for m in messages %}{{ '{{ \"\"\"\"' }}{{ m.content }}{% endfor %}{{ '"' }}"""
SHOUTING = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (GROWING, "# Only the first turn is as the base's chat template writes it.\n"),
        (GROWING, "{{ else }}[user 1]{{ end }}{{ .Prompt }}[end][assistant]{{ .Response }}"),
        (SHOUTING, "# The base's chat template could not be translated; add a TEMPLATE here.\n"),
    ],
)
def test_what_cannot_be_translated_is_said_in_the_modelfile(template, expected):
    assert expected in modelfile(tokenizer_with(template), "x.gguf")


def test_a_modelfile_names_the_file_and_where_an_answer_ends(model_recipe):
    lines = modelfile(load_base(model_recipe).tokenizer, "model-q8_0.gguf").splitlines()
    assert lines[0] == "FROM ./model-q8_0.gguf"
    assert lines[-1] == 'PARAMETER stop "<|im_end|>"'
    assert not any(line.startswith("#") for line in lines)


def test_the_first_token_is_left_out_where_the_tokenizer_adds_it():
    """llama.cpp adds it too, and a model was never trained with two."""
    tokenizer = tokenizer_with("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert chat_pieces(tokenizer).first == "<|bos|>"
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.bos_token_id)]
    )
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    pieces = chat_pieces(tokenizer)
    assert pieces.first == "" and pieces.system == ("", "")


def test_a_template_with_quotes_does_not_end_the_modelfiles(tmp_path):
    assert modelfile(tokenizer_with(QUOTES), "x.gguf").count('"""') == 2


@pytest.mark.slow
def test_go_writes_the_same_chats(tmp_path):
    if not shutil.which("go"):
        pytest.skip("needs Go, whose templates Ollama uses")
    (tmp_path / "main.go").write_text(OLLAMA)
    program = tmp_path / "render"
    subprocess.run(["go", "build", "-o", program, "main.go"], cwd=tmp_path, check=True)
    for template in (*(file.read_text("utf-8") for file in TEMPLATES), QUOTES):
        tokenizer = tokenizer_with(template)
        pieces = chat_pieces(tokenizer)
        chats = [chat for chat in CHATS if translated(pieces, chat)]
        given = json.dumps({"Template": go_template(pieces), "Chats": chats})
        done = subprocess.run([program], input=given, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [rendered(tokenizer, chat) for chat in chats], template
