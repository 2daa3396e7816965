"""Fenced code blocks of a text, as models write them. Which of them is the code: `code_blocks`."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from seccoderx_lite.core.languages import label_language, language_of
from seccoderx_lite.core.plain_spaces import with_plain_spaces
from seccoderx_lite.core.programs import parses, program_of
from seccoderx_lite.core.records import Language
from seccoderx_lite.core.syntax import parse

MAX_CLOSINGS = 12
"""Closing fences tried for one block."""

_OPENING_FENCE = re.compile(
    r"""
    (?: ^(?P<indent>[ \t]*) (?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?
        (?P<fence>`{3,}(?=[^`\n]*$) | ~{3,}) [ \t]* (?P<info>[^\n]*) (?:\n|\Z)
      | (?<=[ \t:>*)])(?P<inline_fence>`{3,}) [ \t]* (?P<inline_info>[\w+\#.-]*) [ \t]*\n )""",
    re.MULTILINE | re.VERBOSE,
)
_MARK = r"<[|\uff5c][^|\uff5c\n]{1,40}[|\uff5c]>|<end_of_turn>|<(?:eos|pad|/s)>"
"""Special tokens that end a text, where a server did not remove them."""
_LINE_END = rf"[ \t]*(?:(?:</\w+>|{_MARK}|\[/\w+\])[ \t]*)*(?=\n|\Z)"
"""After a closing fence: nothing, or end tags of what is around the block, or a model's marks."""
_END_MARK = re.compile(rf"(?:{_MARK})\Z")
_LONGEST_MARK = 44
_ODD_SPACE = "\u00a0\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_SPACED_FENCE = re.compile(
    rf"^[ \t]*[{_ODD_SPACE}][ \t{_ODD_SPACE}]*(?=`{{3}}|~{{3}})"
    rf"|(?:(?<=```)|(?<=~~~))[ \t{_ODD_SPACE}]*[{_ODD_SPACE}][ \t]*$",
    re.MULTILINE,
)
"""Typographic or invisible spaces around a fence."""
_QUOTED_BLOCK = re.compile(r"(?:^[ ]{0,3}>[^\n]*(?:\n|\Z))+", re.MULTILINE)
_QUOTED_FENCE = re.compile(r"^ {0,3}> ?[ \t]*(?:`{3,}|~{3,})", re.MULTILINE)
_QUOTE_MARK = re.compile(r"^ {0,3}> ?", re.MULTILINE)
_LINE_ENDS = re.compile(r"\r+\n")
_LABEL = re.compile(r"[ \t]*[A-Za-z][\w+#.-]*[ \t]*")
_ONE_LINE = re.compile(r"\A`{3,}(?P<label>[\w+#.-]+)?[ \t]+(?P<code>[^`\n]+?)[ \t]*`{3,}\Z")
_WRAPPER = re.compile(
    r"\A<(?P<tag>answer|code|pre|solution)\b[^>]*>(?P<inner>.*)</(?P=tag)>\Z", re.DOTALL | re.I
)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block of a completion."""

    code: str
    """Without the line break before the closing fence; "" for an empty block."""
    info: str
    """The rest of the line of the opening fence, as written."""
    is_closed: bool
    """False when the text ended inside the block; `code` is then the rest of it."""

    @property
    def label_language(self) -> str | None:
        """Language that the label names, also one without support; None if it names none."""
        return label_language(self.info)


def fenced_blocks(text: str, language: Language | None = None) -> list[CodeBlock]:
    """Return all fenced blocks, in order.

    `language` is that of blocks whose label names none; it decides whether their code parses.
    """
    text = _SPACED_FENCE.sub("", plain_line_ends(text).removeprefix("\ufeff"))
    text = _QUOTED_BLOCK.sub(_without_quote_marks, text)
    blocks: list[CodeBlock] = []
    position = 0
    while opening := _OPENING_FENCE.search(text, position):
        if _wraps_a_block(text, opening):
            position = opening.end()
            continue
        block, position = _block(text, opening, language)
        blocks.append(block)
    return blocks


def plain_line_ends(text: str) -> str:
    r"""Return a text with \n at the end of its lines, as old systems and bad copies write it too.

    >>> plain_line_ends("a\r\r\nb\r\n"), plain_line_ends("a\rb\r")
    ('a\nb\n', 'a\nb\n')
    """
    if "\r" not in text:
        return text
    return _LINE_ENDS.sub("\n", text) if "\n" in text else text.replace("\r", "\n")


def _wraps_a_block(text: str, opening: "re.Match[str]") -> bool:
    """Whether a fence is around another block: written twice, or of Markdown with blocks in it."""
    inner = _OPENING_FENCE.search(text, opening.end())
    if inner is None or not inner["info"]:
        return False
    between = text[opening.end() : inner.start()]
    return not between.strip() or label_language(opening["info"] or "") == "markdown"


def without_label_line(code: str, info: str) -> tuple[str, str]:
    r"""Return code and label without a first line that only names the language.

    >>> without_label_line("python\nx = 1", "py"), without_label_line("python\nx = 1", "")
    (('x = 1', 'py'), ('x = 1', 'python'))
    """
    first, _, rest = code.partition("\n")
    known = language_of(label_language(first) or "") if _LABEL.fullmatch(first) else None
    if known is None or not rest.strip():
        return code, info
    label = label_language(info)
    if label == known:
        return rest, info
    return (
        (rest, first.strip())
        if label is None and program_of(rest, known).is_whole
        else (code, info)
    )


def unfenced(text: str) -> str:
    """Return a text without tags, special tokens and one line of backticks around code."""
    text = plain_line_ends(text).removeprefix("\ufeff").strip("\n")
    while mark := _END_MARK.search((ended := text.rstrip())[-_LONGEST_MARK:]):
        text = ended[: -len(mark[0])].rstrip()
    while wrapper := _WRAPPER.match(text.strip()):
        text = wrapper["inner"].strip("\n")
        if wrapper["tag"].lower() in ("code", "pre"):
            text = html.unescape(text)
    line = _ONE_LINE.match(text.strip())
    return line["code"] if line else without_label_line(text, "")[0]


def _without_quote_marks(quotation: "re.Match[str]") -> str:
    lines = quotation[0]
    return _QUOTE_MARK.sub("", lines) if _QUOTED_FENCE.search(lines) else lines


def _block(text: str, opening: "re.Match[str]", language: Language | None) -> tuple[CodeBlock, int]:
    """A block and where it ends: at the first closing fence, or the first where its code parses."""
    info = (opening["info"] or opening["inline_info"] or "").strip()
    fence = opening["fence"] or opening["inline_fence"]
    indent = opening.start("fence") - opening.start() if opening["fence"] else 0
    label = label_language(info)
    language = language_of(label) if label else language
    start = opening.end()
    first: tuple[CodeBlock, int] | None = None
    for count, (end, position) in enumerate(_closings(text, start, fence, indent)):
        found = _made(_dedented(text[start:end], indent), info, language, True), position
        first = first or found
        rest = text[position:]
        is_only_one = count == 0 and fence[:3] not in rest and fence[:3] not in text[start:end]
        if is_only_one or language is None or _is_grammatical(found[0].code, language, count > 0):
            return found
        if count == MAX_CLOSINGS:
            break
    if first:
        return first
    return _made(_dedented(text[start:], indent), info, language, False), len(text)


def _made(code: str, info: str, language: Language | None, is_closed: bool) -> CodeBlock:
    code, info = without_label_line(with_plain_spaces(code, language), info)
    return CodeBlock(code, info, is_closed)


def _is_grammatical(code: str, language: Language, is_strict: bool) -> bool:
    """Whether code parses; strict means also without the lines that C and C++ may have."""
    root = parse(code, language)
    return parses(code, language, root) and not (is_strict and root.has_error)


def _closings(text: str, start: int, fence: str, indent: int) -> Iterator[tuple[int, int]]:
    """Yield the end of the code and of the block for each fence that can close it, likeliest first.

    First the lines that are only a fence, then fences at the end of a line of code.
    """
    run = f"{re.escape(fence[0])}{{{len(fence)},}}"
    own_line = re.compile(rf"(?:^|(?<=\n))[ \t]{{0,{indent + 3}}}{run}{_LINE_END}")
    for closing in own_line.finditer(text, start):
        yield max(start, closing.start() - 1), closing.end()
    for closing in re.compile(run + _LINE_END).finditer(text, start):
        line_start = max(start, text.rfind("\n", 0, closing.start()) + 1)
        if text[line_start : closing.start()].strip():
            yield closing.start(), closing.end()


def _dedented(code: str, indent: int) -> str:
    """Code without the indentation of its fence, or of its first line where that has more."""
    if not indent:
        return code
    first = next((line for line in code.split("\n") if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip())]
    if not margin:
        return code
    if "\t" not in margin:
        margin = margin[:indent]
    lines = [
        line[len(margin) :]
        if line.startswith(margin)
        else re.sub(rf"^[ \t]{{1,{len(margin)}}}", "", line)
        for line in code.split("\n")
    ]
    return "\n".join(lines)
