"""Code that is marked in another way than by a fence: HTML, LaTeX, tags, JSON, indentation.

It is read where no fenced block has code, see `code_blocks`.
"""

import html
import json
import re
import textwrap
from collections.abc import Iterator

from seccoderx_lite.core.fences import CodeBlock, fenced_blocks
from seccoderx_lite.core.records import Json

MAX_TAGS = 64
"""Tags and texts of JSON that are looked at in one answer."""

_HTML = re.compile(
    r"<pre\b[^>]*>\s*<code\b(?P<attributes>[^>]*)>\n?(?P<code>.*?)\n?</code>\s*</pre>",
    re.DOTALL | re.IGNORECASE,
)
_HTML_LANGUAGE = re.compile(r"lang(?:uage)?-([\w+#-]+)")
_LATEX = re.compile(
    r"\\begin\{(?P<name>verbatim|Verbatim|lstlisting|minted)\*?\}(?:\[(?P<options>[^\]\n]*)\])?"
    r"(?:\{(?P<label>[\w+#-]+)\})?[ \t]*\n(?P<code>.*?)\n?[ \t]*\\end\{(?P=name)\*?\}",
    re.DOTALL,
)
_LATEX_LANGUAGE = re.compile(r"language=\{?(?:\[\w*\])?([\w+#-]+)", re.IGNORECASE)
_TAG = re.compile(r"<(?P<name>[A-Za-z][\w:.-]*)(?P<attributes>(?:\s[^<>\n]*)?)>")
_TAG_LABEL = re.compile(
    r"\b(?:language|lang|path|file_?path|file_?name|file|name|src)\s*=\s*[\"']([^\"']+)[\"']",
    re.IGNORECASE,
)
_CDATA = re.compile(r"\A\s*<!\[CDATA\[(?P<code>.*)\]\]>\s*\Z", re.DOTALL)
_INDENTED = re.compile(r"(?: {4}| {0,3}\t)")


def marked_up(text: str) -> list[CodeBlock]:
    r"""Return the code between tags and in environments of LaTeX, in order.

    >>> text = 'So:\n<file path="a.py">\nx = 1\n</file>\n'
    >>> [(block.info, block.code) for block in marked_up(text)]
    [('a.py', 'x = 1')]
    """
    found = [(match.start(), _of_html(match)) for match in _HTML.finditer(text)]
    found += [(match.start(), _of_latex(match)) for match in _LATEX.finditer(text)]
    found += _tagged(text)
    return [block for _, block in sorted(found, key=lambda pair: pair[0])]


def _of_html(match: "re.Match[str]") -> CodeBlock:
    label = _HTML_LANGUAGE.search(match["attributes"])
    return CodeBlock(html.unescape(match["code"]), label[1] if label else "", True)


def _of_latex(match: "re.Match[str]") -> CodeBlock:
    named = _LATEX_LANGUAGE.search(match["options"] or "")
    label = match["label"] or (named[1] if named else "")
    return CodeBlock(textwrap.dedent(match["code"]), label, True)


def _tagged(text: str) -> Iterator[tuple[int, CodeBlock]]:
    """Yield the lines between a tag and its end, such as an artifact or a file, nested ones too."""
    for count, tag in enumerate(_TAG.finditer(text)):
        if count == MAX_TAGS:
            return
        end = text.find(f"</{tag['name']}>", tag.end())
        code = text[tag.end() : end]
        if end < 0 or "\n" not in code:
            continue
        if tag["name"].lower() in ("code", "pre"):
            code = html.unescape(code)
        if inner := _CDATA.match(code):
            code = inner["code"]
        label = _TAG_LABEL.search(tag["attributes"])
        info = label[1] if label else tag["name"]
        yield tag.start(), CodeBlock(textwrap.dedent(code.strip("\n").rstrip()), info, True)


def in_json(text: str) -> list[CodeBlock]:
    r"""Return the texts of an answer that is one JSON object; none of any other text.

    >>> [block.code for block in in_json('{"code": "x = 1\\ny = 2", "lines": 2}')]
    ['x = 1\ny = 2']
    """
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return []
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    blocks: list[CodeBlock] = []
    for found in _texts(value):
        blocks += fenced_blocks(found) or [CodeBlock(found, "", True)]
        if len(blocks) >= MAX_TAGS:
            break
    return blocks


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def indented(text: str) -> list[CodeBlock]:
    r"""Return indented blocks as in CommonMark 0.31, section 4.4.

    None where an indented line follows another line at the margin: that is bare code, and its
    indented parts are no blocks.

    >>> [block.code for block in indented("So:\n\n    if x:\n        y()\n\nDone.")]
    ['if x:\n    y()']
    """
    blocks: list[list[str]] = []
    before, is_open = "", False
    for line in text.split("\n"):
        is_blank = not line.strip()
        if not is_blank and _INDENTED.match(line):
            if not is_open and before.strip():
                return []
            if not is_open:
                blocks.append([])
            is_open = True
        elif not is_blank:
            is_open = False
        if is_open:
            blocks[-1].append("" if is_blank else line)
        before = line
    return [CodeBlock(textwrap.dedent("\n".join(lines)).rstrip(), "", True) for lines in blocks]
