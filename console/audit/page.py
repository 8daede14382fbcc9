"""HTML for print: elements whose text is always escaped, in one file that loads nothing.

The rule: only ``Markup`` made here is put into a page as it is; any other text is data.
"""

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from mesh.records import Json

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_VOID = {"meta", "br"}
_CSS = Path(__file__).with_name("report.css")


class Markup(str):
    """HTML that was made here."""

    __slots__ = ()


def clean(text: object) -> str:
    """Text without characters that cannot be seen or that turn others around."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element; ``class_`` is ``class``, an underscore in other names a hyphen."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value))}"' for key, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Children behind each other, text escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(clean(c)) for c in children))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table with a head."""
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("thead", tag("tr", *(tag("th", cell) for cell in head))), tag("tbody", *body))


def pairs(rows: Iterable[tuple[str, object]]) -> Markup:
    """Names and values; what is empty is left out."""
    shown = [
        tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows if value not in ("", None)
    ]
    return tag("table", tag("tbody", *shown), class_="pairs")


def document(part: Json | str) -> Markup:
    """A JSON document, indented."""
    raw = part.encode() if isinstance(part, str) else bytes(part)
    try:
        shown = msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        shown = raw.decode("utf-8", "replace")
    return tag("pre", shown)


def code(text: object) -> Markup:
    """Text to be read character by character."""
    return tag("code", text)


def mark(holds: bool, yes: str, no: str) -> Markup:
    """A verdict in words, with a colour."""
    return tag("span", yes if holds else no, class_="yes" if holds else "no")


def section(title: str, *children: object) -> Markup:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), *children)


def page(title: str, *body: object) -> str:
    """The whole file: no script, nothing from elsewhere, and a policy that would stop both."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_CSS.read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"
