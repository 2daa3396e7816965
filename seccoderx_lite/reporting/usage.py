"""How to use an export with transformers, PEFT, vLLM, llama.cpp and Ollama, as text to copy."""

from collections.abc import Iterable

from seccoderx_lite.models.gguf import gguf_file, is_gguf, without_precision

PROMPT = "Write a Python function num_words(text)."

TITLE = "# How to use these exports"
_TRANSFORMERS = """\
from transformers import pipeline

write = pipeline("text-generation", "{folder}")
messages = [{{"role": "user", "content": "{prompt}"}}]
answer = write(messages, max_new_tokens=512, do_sample=False)
print(answer[0]["generated_text"][-1]["content"])
"""
_PEFT = """\
from peft import AutoPeftModelForCausalLM
from transformers import pipeline

model = AutoPeftModelForCausalLM.from_pretrained("{folder}").merge_and_unload()
write = pipeline("text-generation", model, tokenizer="{folder}")
messages = [{{"role": "user", "content": "{prompt}"}}]
answer = write(messages, max_new_tokens=512, do_sample=False)
print(answer[0]["generated_text"][-1]["content"])
"""
_VLLM = """\
from vllm import LLM, SamplingParams

llm = LLM("{folder}")
messages = [{{"role": "user", "content": "{prompt}"}}]
answer = llm.chat(messages, SamplingParams(max_tokens=512, temperature=0))
print(answer[0].outputs[0].text)
"""
_OLLAMA = """\
ollama create my-policy -f {folder}/Modelfile
ollama run my-policy "{prompt}"
"""
_LLAMA_CPP = """\
llama-cli -m {folder}/{file} -st -p "{prompt}"
"""


_SCAN = """\
seccoderx-lite scan src/ --judge {folder}
"""
_SCAN_GGUF = """\
llama-server -m {folder}/{file} --alias judge --port 8080 &
seccoderx-lite scan src/ --judge http://localhost:8080/v1#judge
"""
_ENGINES: dict[str, dict[str, list[tuple[str, str, str]]]] = {
    "policy": {
        "adapter": [("PEFT", "python", _PEFT)],
        "merged": [("transformers", "python", _TRANSFORMERS), ("vLLM", "python", _VLLM)],
        "gguf": [("Ollama", "sh", _OLLAMA), ("llama.cpp", "sh", _LLAMA_CPP)],
    },
    "judge": {
        "adapter": [("Review code", "sh", _SCAN)],
        "merged": [("Review code", "sh", _SCAN)],
        "gguf": [("Review code, served by llama.cpp", "sh", _SCAN_GGUF)],
    },
}


def usage(form: str, folder: str, role: str) -> str:
    """Return Markdown with one short piece of code per engine that runs an export.

    Args:
        form: the export format.
        folder: where the export is, as the code names it.
        role: policy or judge.
    """
    engines = _ENGINES[role][without_precision(form)]
    file = gguf_file(form) if is_gguf(form) else ""
    return "\n".join(
        f"{engine}:\n\n```{language}\n{code.format(folder=folder, file=file, prompt=PROMPT)}```\n"
        for engine, language, code in engines
    )


def usage_page(forms: Iterable[str], role: str) -> str:
    """Return a page on how to use the exports in a folder, for the README.md in it."""
    parts = [f"## `{form}`\n\n{usage(form, form, role)}" for form in forms]
    return "\n".join(
        [
            TITLE,
            "",
            "Run the code in this folder. Each export is complete and can be moved.",
            "",
            *parts,
        ]
    )
