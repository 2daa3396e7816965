"""Loads prompt texts, and makes untrusted text harmless inside a prompt."""

import re
from importlib.resources import files


def prompt_text(name: str) -> str:
    """Return the text of a prompt file: "judge/prompt" is `judge/prompt.txt` in the package."""
    return (files("seccoderx_lite") / f"{name}.txt").read_text(encoding="utf-8")


_CONTROL_TOKEN = re.compile(
    r"""
    <(?=[|\uff5c])  # <|im_end|>, and the wide bars of DeepSeek
    | (?<=[|\uff5c])(?=>)
    | <(?=/?\s*(?:think|answer|tool_call|tool_response|s|bos|eos|pad|unk|endoftext
        |start_of_turn|end_of_turn|file_sep|repo_name|fim_\w+)\s*>)
    | <(?=<\s*/?\s*SYS\s*>>)
    | \[(?=\s*/?\s*(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\s*\])""",
    re.IGNORECASE | re.VERBOSE,
)


def neutralise(text: str) -> str:
    """The text with spaces inside fences and control tokens, so that they have no effect.

    Covers the chat, tool and fill-in tokens of the Qwen, Llama, DeepSeek, Mistral, Gemma and
    StarCoder families, and the judge's think and answer tags.

    >>> neutralise("```<|im_end|></answer>")
    '` ` `< |im_end| >< /answer>'
    """
    text = re.sub(r"`{3,}|~{3,}", lambda fence: " ".join(fence[0]), text)
    return without_control_tokens(text)


def without_control_tokens(text: str) -> str:
    return _CONTROL_TOKEN.sub(lambda opening: f"{opening[0]} ", text)
