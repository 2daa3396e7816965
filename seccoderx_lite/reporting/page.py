"""The HTML page: its templates, escaping, and a policy that lets no foreign script run.

What a model wrote is hostile. Every value that a template prints is escaped and its invisible
characters are made visible; only `Markup`, which only this room makes, is printed as it is. The
content security policy allows one script, ours by its hash, and no connection at all.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seccoderx_lite.core import cwe
from seccoderx_lite.reporting.text import describe_forms, p_value, share, signed

_TEMPLATES = Path(__file__).with_name("templates")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Card:
    """A box with a heading; not shown when its body is empty."""

    title: str
    body: Markup
    note: str = ""
    classes: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading and a link; not shown when its body is empty."""

    identifier: str
    title: str
    body: Markup
    note: str = ""


def safe(text: object) -> Markup:
    r"""Return text for HTML: markup escaped, invisible characters shown by their number.

    >>> print(safe("<b>\x1b[31m\u202e"))
    &lt;b&gt;⟨1b⟩[31m⟨202e⟩
    """
    shown = _INVISIBLE.sub(lambda match: f"\u27e8{ord(match[0]):02x}\u27e9", str(text))
    return Markup(escape(shown.replace("\r\n", "\n")))


def weakness(name: str) -> str:
    """Return a weakness with its common name, if the catalogue knows it.

    >>> weakness("CWE-89"), weakness("CWE-9999")
    ('CWE-89 SQL Injection', 'CWE-9999')
    """
    known = cwe.get(name)
    return f"{name} {known.short_name}" if known.description else name


def render(template: str, **values: object) -> Markup:
    """Return `templates/<template>.html.j2` filled with values."""
    return Markup(_environment().get_template(f"{template}.html.j2").render(values).strip())


def grid(cards: Sequence[Card], classes: str = "") -> Markup:
    """Return cards side by side, those without a body left out; "" without any."""
    shown = [card for card in cards if card.body]
    return render("grid", cards=shown, classes=classes) if shown else Markup()


def preformatted(text: str) -> Markup:
    """Return text in a box that keeps its line breaks."""
    return Markup("<pre>{}</pre>").format(safe(text))


def page(title: str, facts: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the whole page; it needs no other file. `facts` are shown below the title."""
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    return render(
        "page",
        title=title,
        facts=facts,
        sections=[section for section in sections if section.body],
        style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else safe(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        share=share, signed=signed, p_value=p_value, describe_forms=describe_forms
    )
    environment.filters["weakness"] = weakness
    return environment
