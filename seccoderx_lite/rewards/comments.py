r"""Comments removed as CodeBLEU removes them before it compares trees, quirks included.

For equal scores only: `syntax.strip_comments` is the one that does it right. CodeBLEU takes Python
apart with the standard `tokenize`, drops every string that follows an indent or a line end or
stands in the first column, and leaves code that does not tokenize as it is; elsewhere it cuts
comments with one regular expression (codebleu 0.7.0, `parser/utils.py`).

`tokenize` would take most of the time of a comparison. Its effect on ordinary Python is therefore
found with one coarse scan (`_cut_ordinary_python`), which gives up on anything out of the ordinary:
tabs, characters beyond ASCII, quotes that do not close.
"""

import io
import re
import tokenize

from seccoderx_lite.core.records import Language

_COMMENT_OR_STRING = re.compile(
    r'//.*?$|/\*.*?\*/|\'(?:\\.|[^\\\'])*\'|"(?:\\.|[^\\"])*"', re.DOTALL | re.MULTILINE
)
_ORDINARY_PYTHON = re.compile(
    r"""
    (?P<newline> \n (?P<indent> [ ]* ) )
    | (?P<tokens> [\w%&*+,\-./:;<=>@^|~!()\[\]{}] [\w%&*+,\-./:;<=>@^|~!()\[\]{}\ ]* )
    | (?P<string> \"{3} (?: [^"\\]++ | \\[^\n] | "(?!"") )*+ \"{3}
        | '{3} (?: [^'\\]++ | \\[^\n] | '(?!'') )*+ '{3}
        | "(?!"") (?: [^"\\\n]++ | \\[^\n] )*+ " | '(?!'') (?: [^'\\\n]++ | \\[^\n] )*+ ' )
    | (?P<comment> \#[^\n]* )
    | (?P<continuation> \\\n )
    | (?P<blank> [ ]+ )
    | (?P<rare> . )""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_STRING_PREFIX = re.compile(r"(?:[rbuf]|rb|br|rf|fr)\Z", re.IGNORECASE)


def remove_comments(code: str, language: Language) -> str:
    """Code without comments and blank lines; its tree equals that of CodeBLEU's stripped code."""
    if language != "python":
        stripped = _COMMENT_OR_STRING.sub(_without_comment, code)
    else:
        try:
            stripped = _cut_ordinary_python(code) or _cut_any_python(code)
        except (tokenize.TokenError, SyntaxError):
            return code
    return "\n".join(line for line in stripped.split("\n") if line.strip())


def _without_comment(match: re.Match[str]) -> str:
    return " " if match[0].startswith("/") else match[0]


def _cut_ordinary_python(code: str) -> str | None:
    """The stripped code; None for code out of the ordinary.

    Raises:
        TokenError: The code does not tokenize.
    """
    kept, position = [], 0
    depth, indents = 0, [0]
    line_start, indent, line_has_token = 0, 0, False
    is_cut_here = True  # the last token was an indent or the end of a statement
    for piece in _ORDINARY_PYTHON.finditer(code):
        kind, start = piece.lastgroup, piece.start()
        if kind == "newline":
            is_cut_here = depth == 0 and line_has_token
            line_start, indent, line_has_token = start + 1, len(piece["indent"]), False
        elif kind == "comment" or (kind == "continuation" and line_has_token):
            kept.append(code[position:start])
            position, is_cut_here = piece.end(), False
            line_start = position if kind == "continuation" else line_start
        elif kind == "tokens" or kind == "string":
            if depth == 0 and not line_has_token and indent != indents[-1]:
                is_cut_here = indent > indents[-1]
                _follow_indent(indents, indent)
            line_has_token = True
            is_cut_here = is_cut_here or start == line_start
            if kind == "tokens":
                depth += _bracket_balance(piece[0])
                if depth < 0 or (is_cut_here and _STRING_PREFIX.match(piece[0])):
                    return None
            elif is_cut_here:
                kept.append(code[position:start])
                position = piece.end()
            is_cut_here = False
        elif kind != "blank":
            return None
    if depth:
        raise tokenize.TokenError("a bracket is not closed")
    return "".join([*kept, code[position:]])


def _follow_indent(indents: list[int], indent: int) -> None:
    if indent > indents[-1]:
        indents.append(indent)
    while indent < indents[-1]:
        indents.pop()
    if indent != indents[-1]:
        raise tokenize.TokenError("an unindent fits no indent before it")


def _bracket_balance(tokens: str) -> int:
    count = tokens.count
    opened = count("(") + count("[") + count("{")
    return opened - count(")") - count("]") - count("}")


def _cut_any_python(code: str) -> str:
    """The stripped code character by character, for code where the coarse scan gives up."""
    out, line, column = [], 0, 0
    previous = tokenize.INDENT
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        (start_line, start_column), (end_line, end_column) = token.start, token.end
        if start_line > line:
            column = 0
        out.append(" " * (start_column - column))
        is_docstring = token.type == tokenize.STRING and (
            previous in (tokenize.INDENT, tokenize.NEWLINE) or start_column == 0
        )
        if token.type != tokenize.COMMENT and not is_docstring:
            out.append(token.string)
        previous, line, column = token.type, end_line, end_column
    return "".join(out)
