"""HTML of a message as text: blocks as lines, quotes marked with ``>``, hidden words left out."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from agents.intake.mail.notes import Notes

LONGEST = 1_000_000  # characters of HTML: with less than this, a parse takes tenths of a second
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


def page_text(html: str, place: str, notes: Notes) -> str:
    """The words of an HTML document that a reader would see."""
    if len(html) > LONGEST:
        notes.add(place, f"HTML cut at {LONGEST} characters")
        html = html[:LONGEST]
    body = LexborHTMLParser(html).body
    if body is None:
        return ""
    writer = _Writer()
    _walk(body, writer, place, notes)
    writer.end()
    return "\n".join(writer.lines)


def _walk(root: LexborNode, writer: _Writer, place: str, notes: Notes) -> None:
    """Depth first without recursion; a node stands twice on the stack, to be opened and to be closed."""
    stack: list[tuple[LexborNode, str, bool]] = [(root, "", False)]
    pre = 0
    while stack:
        node, closing, quote = stack.pop()
        if closing:
            pre -= closing == "pre"
            _close(closing, writer, quote)
            continue
        tag = node.tag or ""
        if tag == "-text":
            writer.words(node.text_content or "", pre=pre > 0)
            continue
        if tag.startswith(("-", "_", "!")) or tag in _LEFT_OUT:
            continue
        if _hidden(node):
            if (node.text(deep=True) or "").strip():
                notes.add(place, "hidden words left out")
            continue
        quote = _open(node, tag, writer)
        pre += tag == "pre"
        stack.append((node, tag, quote))
        child = node.last_child
        while child is not None:
            stack.append((child, "", False))
            child = child.prev


def _hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = (attributes.get("style") or "")[:2000].lower()
    return "hidden" in attributes or bool(style and _HIDDEN.search("".join(style.split())))


def _open(node: LexborNode, tag: str, writer: _Writer) -> bool:
    if tag == "br":
        writer.end(force=True)
    elif tag in ("td", "th") and writer.line:
        writer.line.append(" ")
    elif tag in _BLOCKS:
        writer.end()
        writer.blank = writer.blank or tag in _SPACED
    if tag == "li":
        writer.line.append("- ")
    elif tag == "img" and (alt := (node.attributes.get("alt") or "").strip()):
        writer.words(f"[{alt[:200]}]", pre=False)
    classes = f"{node.attributes.get('class') or ''}"[:500]
    name = node.attributes.get("id") or ""
    if _SIGNATURE.search(classes) or name == "Signature":
        writer.sign()
    quote = tag == "blockquote" or bool(_QUOTES.search(classes)) or name in _QUOTE_IDS
    if quote:
        writer.end()
        writer.depth += 1
    return quote


def _close(tag: str, writer: _Writer, quote: bool) -> None:
    if tag in _BLOCKS or quote:
        writer.end()
        writer.blank = writer.blank or tag in _SPACED
    if quote:
        writer.depth -= 1
