"""Where a model's thinking ends and its answer begins."""

import re
from dataclasses import dataclass

THINKING_TAGS: tuple[tuple[str, str], ...] = (
    *(
        (f"<{name}>", f"</{name}>")
        for name in (
            "think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection",
            "analysis", "scratchpad", "seed:think", "mm:think", "longcat_think",
        )
    ),
    ("[THINK]", "[/THINK]"),
    ("[thinking]", "[/thinking]"),
    ("<|think|>", "<|/think|>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("Here is my thought process:", "Here is my response:"),
)  # fmt: skip
"""Every known spelling of the start and the end of thinking; the case does not matter.

The channels of the harmony format are not tags; `_after_channels` reads them.
"""


def _pattern(tag: str) -> str:
    """A regular expression of a tag; angle brackets may hold spaces, and an opening attributes."""
    if re.fullmatch(r"</?[\w:]+>", tag):
        name = tag.strip("</>")
        return rf"<\s*/\s*{name}\s*>" if tag[1] == "/" else rf"<\s*{name}(?:\s[^<>\n]*)?>"
    return re.escape(tag)


_CLOSING = {
    number: re.compile(_pattern(closing), re.IGNORECASE)
    for number, (_, closing) in enumerate(THINKING_TAGS)
}
_OPENINGS = "|".join(f"(?P<open{n}>{_pattern(tag)})" for n, (tag, _) in enumerate(THINKING_TAGS))
_CLOSINGS = "|".join(_pattern(tag) for _, tag in THINKING_TAGS)
_ANY_TAG = re.compile(
    "|".join(_pattern(tag) for pair in THINKING_TAGS for tag in pair), re.IGNORECASE
)
_FENCE = r"(?:^[ \t>]*|(?<=[ \t:>*)]))(?P<run>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)$"
_PIECE = re.compile(
    rf"(?P<fence>{_FENCE})|(?P<span>(?<!`)`[^`\n]+`(?!`))|(?P<close>{_CLOSINGS})|{_OPENINGS}",
    re.MULTILINE | re.IGNORECASE,
)
_FENCE_LINE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,})[^`\n]*$", re.MULTILINE)

_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)(?:(?!<\|message\|>).){0,80}<\|message\|>", re.IGNORECASE
)
_CHANNEL_END = re.compile(r"<\|(?:return|end|call|start)\|>", re.IGNORECASE)
_GLUED_FINAL = re.compile(r"assistantfinal(?=[A-Z`~#*<>\n]|\Z)")
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z]\w*(?:[ ,:']+\w|\s*\n))")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion says after its thinking."""

    text: str
    is_unfinished: bool = False
    """True when the completion ends inside its thinking; `text` is what came before it."""


def without_thinking(completion: str) -> str:
    r"""The answer without its thinking; the whole text if there is none, "" if there is no answer.

    >>> without_thinking("So it is 2.</think>\n\n2"), without_thinking("<thinking>So")
    ('\n\n2', '')
    """
    return answer_of(completion).text


def answer_of(completion: str) -> Answer:
    """Separate the answer from the thinking.

    A pair of tags is removed with all between. An end without a start, which a chat template may
    have put in the prompt, ends thinking that began with the completion. A start without an end is
    thinking that was cut off. Tags in a code block, in quotes or between backticks are text, unless
    the fences after an end tag show that the block around it was never closed.
    """
    channelled = _after_channels(completion)
    if channelled is not None:
        return channelled
    if not _ANY_TAG.search(completion):
        return Answer(completion)
    return _without_tags(completion)


def _after_channels(text: str) -> Answer | None:
    """Read harmony's channels, also with their special tokens removed; None without channels."""
    channels = list(_CHANNEL.finditer(text))
    is_harmony = text.lstrip().startswith(("<|channel|>", "<|start|>")) or "<|start|>" in text
    if channels and is_harmony:
        if channels[-1]["name"].lower() != "final":
            return Answer("", is_unfinished=True)
        return Answer(_CHANNEL_END.split(text[channels[-1].end() :], maxsplit=1)[0])
    if final := _GLUED_FINAL.search(text):
        return Answer(text[final.end() :])
    return Answer("", is_unfinished=True) if _BARE_ANALYSIS.match(text) else None


def _without_tags(text: str) -> Answer:
    kept: list[str] = []
    start = position = 0
    fence, opened_in_fence = "", 0
    while piece := _PIECE.search(text, position):
        position = piece.end()
        if piece["fence"]:
            fence, opened_in_fence = _next_fence(fence, piece["run"], piece["info"]), 0
        elif piece["span"]:
            continue
        elif piece["close"]:
            if opened_in_fence:
                opened_in_fence -= 1
            elif _ends_thinking(text, piece, bool(fence)):
                kept, start, fence = [], position, ""
        elif fence:
            opened_in_fence += 1
        elif not _is_quoted(text, piece):
            closing = _CLOSING[_number(piece)].search(text, position)
            if closing:
                kept.append(text[start : piece.start()])
                start = position = closing.end()
            elif not (piece[0][0].isalpha() or _line_before(text, piece).strip()):
                return Answer("".join([*kept, text[start : piece.start()]]), is_unfinished=True)
    return Answer("".join([*kept, text[start:]]))


def _number(piece: "re.Match[str]") -> int:
    return next(n for n in range(len(THINKING_TAGS)) if piece[f"open{n}"])


def _next_fence(fence: str, run: str, info: str) -> str:
    """The open fence after a line with a fence; "" outside a block."""
    if not fence:
        return run
    return "" if run.startswith(fence) and not info.strip() else fence


def _ends_thinking(text: str, tag: "re.Match[str]", is_in_block: bool) -> bool:
    if _is_quoted(text, tag):
        return False
    if not is_in_block:
        return True
    line_end = text.find("\n", tag.end())
    after = text[tag.end() : line_end if line_end >= 0 else len(text)]
    fences = len(_FENCE_LINE.findall(text, tag.end()))
    has_own_line = not (after.strip() or _line_before(text, tag).strip())
    # An even number: they are of other blocks, so the draft around the tag was never closed.
    return fences % 2 == 0 and (has_own_line or (fences > 0 and not after.strip()))


def _line_before(text: str, tag: "re.Match[str]") -> str:
    return text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()]


def _is_quoted(text: str, tag: "re.Match[str]") -> bool:
    around = text[tag.start() - 1 : tag.start()] + text[tag.end() : tag.end() + 1]
    return "'" in around or '"' in around
