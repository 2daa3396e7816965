r"""Remove comments exactly as CodeBLEU does before it compares trees, quirks included.

For equal scores only; to remove comments correctly use `syntax.strip_comments`. CodeBLEU splits
Python with the standard `tokenize`, drops every string that follows an indent or a line end or
starts in the first column, and does not change code that does not tokenize. In other languages it
removes comments with one regular expression (codebleu 0.7.0, `parser/utils.py`).

`tokenize` would take most of the time of a comparison. For ordinary Python, one coarse scan
(`cut_ordinary_python`) finds the same cuts. It gives up on anything unusual: tabs, characters
beyond ASCII, quotes that do not close.
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
    """Code without comments and blank lines, with the same tree as CodeBLEU's stripped code."""
    if language != "python":
        stripped = _COMMENT_OR_STRING.sub(_without_comment, code)
    else:
        try:
            stripped = cut_ordinary_python(code) or cut_any_python(code)
        except (tokenize.TokenError, SyntaxError):
            return code
    return "\n".join(line for line in stripped.split("\n") if line.strip())


def _without_comment(match: re.Match[str]) -> str:
    return " " if match[0].startswith("/") else match[0]


def cut_ordinary_python(code: str) -> str | None:
    """The code without comments; None for code that needs `tokenize`.

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
        raise tokenize.TokenError("an unindent does not match any outer indentation")


def _bracket_balance(tokens: str) -> int:
    count = tokens.count
    opened = count("(") + count("[") + count("{")
    return opened - count(")") - count("]") - count("}")


def cut_any_python(code: str) -> str:
    """The code without comments by `tokenize`, for code where the coarse scan gives up."""
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
