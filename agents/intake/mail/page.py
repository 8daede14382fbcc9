"""HTML of a message as text: blocks as lines, quotes marked with ``>``, hidden words left out.

Read as a stream of tags: a tree as browsers build it takes minutes for some pages of a megabyte (docs/decisions/0053).
"""

import re
from collections.abc import Mapping

from lxml import etree

from agents.intake.mail.notes import Notes

LONGEST = 300_000  # characters of HTML in a message: whatever they are, they are read in less than a second
_DEEPEST_MARK = 5
_LEFT_OUT = {"head", "script", "style", "title", "template", "noscript", "object", "iframe", "svg", "math", "select"}
_BLOCKS = set(
    "address article aside blockquote center dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6".split()
)
_BLOCKS |= set("header hr li main nav ol p pre section table tr ul body html".split())
_SPACED = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre"}
_HIDDEN = re.compile(
    r"display:none|visibility:hidden|font-size:0(?![.\d]*[1-9])|mso-hide:all|opacity:0(?![.\d]*[1-9])|max-height:0(?![.\d]*[1-9])"
)
_QUOTES = re.compile(r"gmail_quote|yahoo_quoted|moz-cite-prefix|protonmail_quote|tutanota_quote|gmail_attr")
_QUOTE_IDS = {"divRplyFwdMsg", "appendonsend", "OLK_SRC_BODY_SECTION", "mail-editor-reference-message-container"}
_SIGNATURE = re.compile(r"gmail_signature|moz-signature|Signature")
SIGNATURE_MARK = "-- "


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line: list[str] = []
        self.blank = False
        self.depth = 0

    def words(self, text: str, *, pre: bool) -> None:
        if pre:
            first, *rest = text.split("\n")
            self.line.append(first)
            for each in rest:
                self.end(force=True)
                self.line.append(each)
            return
        flat = re.sub(r"[ \t\r\n\f]+", " ", text)
        if flat == " " and not self.line:
            return
        self.line.append(flat)

    def end(self, *, force: bool = False) -> None:
        text = "".join(self.line).replace("\xa0", " ")
        self.line = []
        text = text.strip() if not force else text.rstrip()
        if not text and not force:
            return
        if self.blank and self.lines and self.lines[-1]:
            self.lines.append(">" * min(self.depth, _DEEPEST_MARK))
        self.blank = False
        mark = ">" * min(self.depth, _DEEPEST_MARK)
        self.lines.append(f"{mark} {text}" if mark else text)

    def sign(self) -> None:
        self.end()
        self.lines.append(SIGNATURE_MARK)


class _Page:
    """What the parser calls at each tag; elements left open by the author are closed with the one around them."""

    def __init__(self) -> None:
        self.writer = _Writer()
        self.left_out_words = False
        self._open: list[tuple[str, bool]] = []  # tag, and whether it is a quote
        self._pre = 0
        self._unseen = 0  # how many open elements are inside one that is not shown, that one included
        self._hidden = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._unseen:
            self._unseen += 1
            return
        if tag in _LEFT_OUT or _is_hidden(attributes):
            self._unseen, self._hidden = 1, tag not in _LEFT_OUT
            return
        self._open.append((tag, _opened(self.writer, tag, attributes)))
        self._pre += tag == "pre"

    def end(self, _: str) -> None:
        if self._unseen:
            self._unseen -= 1
        elif self._open:
            tag, quote = self._open.pop()
            self._pre -= tag == "pre"
            _closed(self.writer, tag, quote)

    def data(self, words: str) -> None:
        if not self._unseen:
            self.writer.words(words, pre=self._pre > 0)
        elif self._hidden and words.strip():
            self.left_out_words = True

    def comment(self, _: str) -> None:
        """Not shown."""

    def pi(self, *_: str) -> None:
        """Not shown."""

    def close(self) -> None:
        self.writer.end()


def page_text(html: str, place: str, notes: Notes) -> str:
    """The words of an HTML document that a reader would see."""
    page = _Page()
    parser = etree.HTMLParser(target=page, encoding="utf-8", no_network=True, recover=True)
    try:
        parser.feed(html.encode("utf-8", "replace"))
        parser.close()
    except etree.LxmlError as error:
        notes.add(place, f"HTML not read to its end: {str(error)[:100]}")
        page.close()
    if page.left_out_words:
        notes.add(place, "hidden words left out")
    return "\n".join(page.writer.lines)


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    style = attributes.get("style", "")[:2000].lower()
    return "hidden" in attributes or bool(style and _HIDDEN.search("".join(style.split())))


def _opened(writer: _Writer, tag: str, attributes: Mapping[str, str]) -> bool:
    """Begin an element; whether it is a quote."""
    if tag == "br":
        writer.end(force=True)
    elif tag in ("td", "th") and writer.line:
        writer.line.append(" ")
    elif tag in _BLOCKS:
        writer.end()
        writer.blank = writer.blank or tag in _SPACED
    if tag == "li":
        writer.line.append("- ")
    elif tag == "img" and (alt := attributes.get("alt", "").strip()):
        writer.words(f"[{alt[:200]}]", pre=False)
    classes, name = attributes.get("class", "")[:500], attributes.get("id", "")
    if _SIGNATURE.search(classes) or name == "Signature":
        writer.sign()
    quote = tag == "blockquote" or bool(_QUOTES.search(classes))
    if quote or name in _QUOTE_IDS:  # behind such an id all is quoted, to the end of the page
        writer.end()
        writer.depth += 1
    return quote


def _closed(writer: _Writer, tag: str, quote: bool) -> None:
    if tag in _BLOCKS or quote:
        writer.end(force=tag == "pre" and bool(writer.line))
        writer.blank = writer.blank or tag in _SPACED
    if quote:
        writer.depth -= 1
