"""The page around the parts: escaping, layout, and a policy that lets nothing else run.

What a model wrote is hostile: it is escaped, control characters are made visible, and the content
security policy allows one script, ours by its hash, and no connection at all.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files

from seccoderx_lite.core import cwe

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def safe(text: object) -> str:
    r"""Return text for HTML: markup escaped, unseen characters shown by their number.

    >>> safe("<b>\x1b[31m\u202e")
    '&lt;b&gt;\u27e81b\u27e9[31m\u27e8202e\u27e9'
    """
    shown = _UNSEEN.sub(lambda match: f"\u27e8{ord(match[0]):02x}\u27e9", str(text))
    return escape(shown.replace("\r\n", "\n"))


def weakness(name: str) -> str:
    """Return a weakness with what people call it, if the catalogue knows it.

    >>> weakness("CWE-89"), weakness("CWE-9999")
    ('CWE-89 SQL Injection', 'CWE-9999')
    """
    known = cwe.get(name)
    return f"{name} {known.short_name}" if known.description else name


def card(title: str, body: str, note: str = "", classes: str = "") -> str:
    """Return a card, "" where there is nothing in it."""
    if not body:
        return ""
    told = f'<p class="muted">{note}</p>' if note else ""
    return f'<section class="card {classes}"><h3>{safe(title)}</h3>{body}{told}</section>'


def section(identifier: str, title: str, parts: Iterable[str], note: str = "") -> str:
    """Return a section with its heading, "" where there is nothing in it."""
    body = "".join(parts)
    if not body:
        return ""
    told = f'<p class="muted">{note}</p>' if note else ""
    return f'<h2 id="{identifier}">{safe(title)}</h2>{told}{body}'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """Return a table of cells that are HTML already; "" without rows.

    A row of one cell is a heading over those below it.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if place >= numbers_from else ''}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(
        f"<tr{' class=change' if 'difference' in row else ''}>{cells(row, 'td')}</tr>"
        if len(row) > 1
        else f'<tr class=over><th colspan="{len(heads)}">{row[0]}</th></tr>'
        for row in rows
    )
    head = cells([safe(head) for head in heads], "th")
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>' if body else ""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """Return the whole page; it needs nothing but itself."""
    body = "".join(sections)
    links = re.findall(r'<h2 id="([\w-]+)">([^<]*)</h2>', body)
    nav = "".join(f'<a href="#{identifier}">{name}</a>' for identifier, name in links)
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{_asset('page.css')}</style></head><body>"
        f'<header><h1>{safe(title)}</h1><p class="muted">{subtitle}</p></header>'
        f"<nav><div>{nav}</div></nav><main>{body}</main>"
        f'<div id="tip" role="status"></div><script>{script}</script></body></html>'
    )


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (files("seccoderx_lite") / "reporting" / name).read_text(encoding="utf-8")
