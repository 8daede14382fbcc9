"""A message as a tree of MIME parts (RFC 2045 to 2047), over the bytes as they came; broken boundaries are mended.

Written out because the standard library's parser keeps several copies of the message as text and recurses as deep as
the message says. Here each part is a view, and depth and number of parts are bounded.
"""

import binascii
import re
from dataclasses import dataclass, field

from agents.intake.errors import UnreadableError
from agents.intake.mail.headers import Header, from_base64, read_header
from agents.intake.mail.mail import MailLimits
from agents.intake.mail.notes import Notes

_FIRST_BOUNDARY = re.compile(rb"\n--([^\r\n]{1,200})\r?\n(?=(?i:content-)[a-zA-Z-]{1,40}:)")
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
_HALF_CLOSED = re.compile(rb"\r?\n--[^\r\n]{1,200}-\s*\Z")
_TEXT_PLAIN = "text/plain"


@dataclass(slots=True, kw_only=True)
class Part:
    """One node: its header, its type in small letters, its raw body, and its children if it is a multipart."""

    number: str
    header: Header
    type: str
    parameters: dict[str, str]
    disposition: str
    name: str
    body: bytes = field(repr=False)
    children: "list[Part]" = field(default_factory=list)

    @property
    def charset(self) -> str:
        """The declared charset; empty when none is."""
        return self.parameters.get("charset", "")


class _Tree:
    def __init__(self, limits: MailLimits, notes: Notes) -> None:
        self.limits = limits
        self.notes = notes
        self.left = limits.parts

    def read(self, data: bytes) -> Part:
        """From the outermost part inwards, letting go of each piece once it is divided."""
        root = self._part(data, "", _TEXT_PLAIN)
        waiting = [(root, 0)]
        del data
        while waiting:
            part, depth = waiting.pop()
            if part.type.startswith("multipart/"):
                self._divide(part, depth)
                waiting += [(child, depth + 1) for child in reversed(part.children)]
        return root

    def _part(self, data: bytes, number: str, usual: str) -> Part:
        self.left -= 1
        header, start = read_header(_head(data, number, self.limits, self.notes), number, self.notes)
        return _part(header, data[start:], number, usual, self.notes)

    def _divide(self, part: Part, depth: int) -> None:
        where = part.number or "body"
        if depth >= self.limits.depth:
            self.notes.add(where, f"nested deeper than {self.limits.depth}: not read")
            part.type = "application/octet-stream"
            return
        pieces = self._pieces(part, where)
        if pieces is None:
            self.notes.add(where, "a multipart without parts: read as text")
            part.type = _TEXT_PLAIN
            return
        part.body = b""
        usual = "message/rfc822" if part.type == "multipart/digest" else _TEXT_PLAIN
        for at, piece in enumerate(pieces):
            if self.left <= 0:
                self.notes.add(where, f"more than {self.limits.parts} parts: the rest is not read")
                break
            number = f"{part.number}.{at + 1}" if part.number else str(at + 1)
            part.children.append(self._part(piece, number, usual))

    def _pieces(self, part: Part, where: str) -> list[bytes] | None:
        boundary = part.parameters.get("boundary", "").encode("utf-8", "replace").rstrip()
        if boundary and (pieces := split_body(part.body, boundary, self.left)):
            if not pieces[1]:
                self.notes.add(where, "the last boundary is missing")
            return pieces[0]
        guess = _FIRST_BOUNDARY.search(b"\n" + part.body)
        if guess is None:
            return None
        self.notes.add(where, "the boundary is not the declared one: guessed")
        pieces = split_body(part.body, guess[1].rstrip(), self.left)
        return pieces[0] if pieces else None


def read_parts(data: bytes, limits: MailLimits, notes: Notes) -> Part:
    """The tree of a message; ``UnreadableError`` when it or its header is too large, or there is no header at all."""
    if len(data) > limits.message_bytes:
        raise UnreadableError(f"larger than {limits.message_bytes} bytes")
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    root = _Tree(limits, notes).read(data)
    if not root.header.fields:
        raise UnreadableError("no header: not a message", "header")
    return root


def _head(data: bytes, number: str, limits: MailLimits, notes: Notes) -> bytes:
    head = data[: limits.header_bytes + 4]
    if len(head) <= limits.header_bytes or b"\n\n" in head or b"\r\n\r\n" in head:
        return head
    if not number:
        raise UnreadableError(f"header larger than {limits.header_bytes} bytes", "header")
    notes.add(number, f"header larger than {limits.header_bytes} bytes: cut")
    return head


def _part(header: Header, body: bytes, number: str, usual: str, notes: Notes) -> Part:
    kind, parameters = header.parameters("content-type")
    if not _TYPE.fullmatch(kind):
        if kind not in ("", "text"):
            notes.add(header.where("content-type"), f"no type: {kind[:60]!r}")
        kind = usual
    disposition, more = header.parameters("content-disposition")
    name = more.get("filename") or parameters.get("name") or more.get("name") or ""
    return Part(
        number=number,
        header=header,
        type=kind,
        parameters=parameters,
        disposition=disposition,
        name=name,
        body=body,
    )


def split_body(body: bytes, boundary: bytes, most: int) -> tuple[list[bytes], bool] | None:
    """The pieces between the boundary lines, and whether the closing one is there; None when there is no such line."""
    line = re.compile(rb"\n--" + re.escape(boundary) + rb"(--)?[ \t]*\r?(?=\n|\Z)")
    body = b"\n" + body  # each boundary begins with what makes the search fast
    pieces: list[bytes] = []
    start = -1
    for match in line.finditer(body):
        if start >= 0:
            pieces.append(body[start : match.start()].removesuffix(b"\r"))
        start = min(match.end() + 1, len(body))
        if match[1]:
            return pieces, True
        if len(pieces) > most:
            return pieces, True
    if start < 0:
        return None
    last = body[start:]
    if half := _HALF_CLOSED.search(last[-300:]):  # closed with one hyphen instead of two
        if half[0].strip().startswith(b"--" + boundary):
            last = last[: len(last) - len(half[0])]
    return [*pieces, last], False


def content(part: Part, notes: Notes) -> bytes:
    """The part's bytes with its transfer encoding undone; an unknown encoding is noted and left as it is."""
    encoding = part.header.text("content-transfer-encoding").lower().split(";")[0].strip().strip('"')
    where = part.number or "body"
    if encoding == "base64":
        return from_base64(part.body, where, notes)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(part.body)
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        files = uuencoded(part.body, 1)
        if files:
            return files[0].data
        notes.add(where, "broken uuencode")
    elif encoding not in ("", "7bit", "8bit", "binary"):
        notes.add(where, f"unknown transfer encoding {encoding[:40]!r}")
    return part.body


@dataclass(frozen=True, slots=True)
class Uuencoded:
    """A file in the middle of a text: its name, its bytes, and where in the text it begins and ends."""

    name: str
    data: bytes = field(repr=False)
    start: int
    end: int


_BEGIN = re.compile(rb"^begin [0-7]{3,4} (\S[^\r\n]{0,255})\r?\n", re.MULTILINE)
_MOST_UU_LINES = 500_000  # of 45 bytes each: as much as a message may hold


def uuencoded(text: bytes, most: int) -> list[Uuencoded]:
    """Files written into a text by uuencode, at most so many; only what is whole, from its begin to its end, is one."""
    found: list[Uuencoded] = []
    left = _MOST_UU_LINES
    for match in _BEGIN.finditer(text):
        if len(found) >= most or left <= 0:
            break
        if found and match.start() < found[-1].end:
            continue
        out: list[bytes] = []
        at = match.end()
        while at < len(text) and left > 0:
            left -= 1
            newline = text.find(b"\n", at)
            after = len(text) if newline < 0 else newline + 1
            line = text[at : min(after, at + 200)].rstrip(b"\r\n")
            at = after
            if line.rstrip() == b"end":
                if out:
                    name = match[1].decode("utf-8", "replace").strip()
                    found.append(Uuencoded(name, b"".join(out), match.start(), at))
                break
            read = _uu_line(line)
            if read is None:  # no line of such a file has small letters: what follows can begin another
                break
            out.append(read)
    return found


def _uu_line(line: bytes) -> bytes | None:
    if not line or line in (b"`", b" "):
        return b""
    length = ((line[0] - 32) & 63) * 4 // 3 + 3
    try:
        return binascii.a2b_uu(line[:length])
    except binascii.Error:
        return None
