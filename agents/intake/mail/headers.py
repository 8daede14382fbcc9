"""The header of a message or part: RFC 5322 with its obsolete forms, RFC 2047 words, RFC 2231 parameters.

Written out and linear in the input, because the parsers of the standard library recurse into comments and give up a
whole address list, or the rest of a header, at the first wrong character.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from urllib.parse import unquote_to_bytes

from agents.intake.mail.charsets import codec_name, to_text
from agents.intake.mail.notes import Notes

_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_WORD = re.compile(rb"=\?([^?\s]{1,80})\?([bBqQ])\?([^?]*)\?=")
_ID = re.compile(r"<([^<>]*)>")
_LONGEST_DATE = 300
_MOST_IDS = 100
_PARAMETER = re.compile(r"([^*]{1,60})(?:\*(\d{1,3}))?(\*)?")


class Header:
    """The fields of one header in order, as raw bytes; names are compared without case."""

    def __init__(self, fields: list[tuple[str, bytes]], place: str, notes: Notes) -> None:
        self.fields = fields
        self.place = place
        self._notes = notes

    def raw(self, name: str) -> list[bytes]:
        """All values of a field, unfolded."""
        return [value for key, value in self.fields if key == name]

    def where(self, name: str) -> str:
        """The place of a field, for a note."""
        return f"{self.place} {name}".strip()

    def text(self, name: str, *, decode: bool = False) -> str:
        """The first value of a field; with ``decode`` its RFC 2047 words are decoded."""
        values = self.raw(name)
        if not values:
            return ""
        where = self.where(name)
        if decode:
            return decode_words(values[0], where, self._notes)
        return tidy(to_text(values[0], "", where, self._notes))

    def texts(self, name: str) -> list[str]:
        """All values of a field, not decoded."""
        return [tidy(to_text(value, "", self.where(name), self._notes)) for value in self.raw(name)]

    def parameters(self, name: str) -> tuple[str, dict[str, str]]:
        """The value of a field like Content-Type in small letters, and its parameters decoded."""
        pieces = list(_split(self.text(name), ";"))
        value = uncommented(pieces[0]).strip().lower() if pieces else ""
        found: dict[str, list[tuple[int, bool, str]]] = {}
        for piece in pieces[1:]:
            key, equals, content = piece.partition("=")
            match = _PARAMETER.fullmatch(key.strip().lower())
            if equals and match:
                number = int(match[2] or 0) if match[2] or match[3] else -1
                part = (number, bool(match[3]), _unquoted(content))
                found.setdefault(match[1], []).append(part)
        where = self.where(name)
        return value, {key: _joined(parts, where, self._notes) for key, parts in found.items()}


def read_header(data: bytes, place: str, notes: Notes) -> tuple[Header, int]:
    """The header at the start of ``data``, and where the body begins; lines that are none are noted and passed over."""
    fields: list[tuple[str, list[bytes]]] = []
    lines, end = _header_lines(data)
    matches = [_FIELD.match(line) for _, line in lines]
    last_field = max((number for number, match in enumerate(matches) if match), default=-1)
    for number, (start, line) in enumerate(lines):
        if line[:1] in (b" ", b"\t"):
            if fields:
                fields[-1][1].append(line)
            continue
        match = matches[number]
        if match:
            fields.append((match[1].decode("ascii").lower(), [line[match.end() :]]))
        elif line.startswith((b"From ", b">From ")) and not place:
            continue
        elif number > last_field and not (fields and _folds(lines, number)):
            notes.add(place or "header", "no empty line before the body" if fields else "no header")
            return _header(fields, place, notes), start
        else:
            notes.add(place or "header", f"line {number + 1} is no field")
    return _header(fields, place, notes), end


def _folds(lines: list[tuple[int, bytes]], number: int) -> bool:
    return number + 1 < len(lines) and lines[number + 1][1][:1] in (b" ", b"\t")


def _header_lines(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    lines: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        after = len(data) if end < 0 else end + 1
        line = data[at:after].rstrip(b"\r\n")
        if not line:
            return lines, after
        lines.append((at, line))
        at = after
    return lines, at


def _header(fields: list[tuple[str, list[bytes]]], place: str, notes: Notes) -> Header:
    return Header([(name, b"".join(lines).strip()) for name, lines in fields], place, notes)


def tidy(text: str) -> str:
    """One line, runs of white space as one space, without characters that are not shown."""
    shown = "".join(each for each in text if each.isprintable() or each.isspace())
    return " ".join(shown.split())


def decode_words(raw: bytes, place: str, notes: Notes) -> str:
    """Text of a header value with its encoded words (RFC 2047); a character split over two words is put together."""
    if b"=?" not in raw:
        return tidy(to_text(raw, "", place, notes))
    pieces: list[tuple[str, bytes]] = []  # charset ("" for raw text) and bytes
    last = 0
    for match in _WORD.finditer(raw):
        between = raw[last : match.start()]
        if between.strip() or (between and not (pieces and pieces[-1][0])):
            pieces.append(("", between))
        charset = match[1].decode("ascii", "replace").partition("*")[0].lower()
        content = _word_bytes(match[2], match[3], place, notes)
        if pieces and pieces[-1][0] == charset and not _shifts(charset):
            pieces[-1] = (charset, pieces[-1][1] + content)
        else:
            pieces.append((charset, content))
        last = match.end()
    pieces.append(("", raw[last:]))
    return tidy("".join(to_text(content, charset, place, notes) for charset, content in pieces if content))


def _shifts(charset: str) -> bool:
    return (codec_name(charset) or "").startswith(("iso2022", "hz"))


def _word_bytes(encoding: bytes, content: bytes, place: str, notes: Notes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(content.replace(b" ", b"_"), header=True)
    return from_base64(content, place, notes)


def from_base64(content: bytes, place: str, notes: Notes) -> bytes:
    """What can be read of base64, whatever stands between it or is missing at its end."""
    try:
        return binascii.a2b_base64(content)
    except binascii.Error:
        notes.add(place, "broken base64")
    letters = content.translate(None, _NOT_BASE64)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def _split(text: str, separators: str) -> Iterator[str]:
    quoted = escaped = False
    start = 0
    for at, each in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and each == "\\":
            escaped = True
        elif each == '"':
            quoted = not quoted
        elif each in separators and not quoted:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _unquoted(text: str) -> str:
    text = text.strip()
    if text[:1] == '"':
        end = text.rfind('"')
        return re.sub(r"\\(.)", r"\1", text[1:end] if end > 0 else text[1:])
    return uncommented(text).strip()


def _joined(parts: list[tuple[int, bool, str]], place: str, notes: Notes) -> str:
    extended = sorted(part for part in parts if part[0] >= 0)
    if not extended:
        return decode_words(parts[0][2].encode("utf-8", "replace"), place, notes)
    charset, content = "", b""
    for number, (_, percent, text) in enumerate(extended[:100]):
        if percent and not number and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        content += unquote_to_bytes(text) if percent else text.encode("utf-8", "replace")
    return tidy(to_text(content, charset or "utf-8", place, notes))


def uncommented(text: str) -> str:
    """The text without its comments in parentheses, nested ones too; quoted strings are left alone."""
    if "(" not in text:
        return text
    out, depth, quoted, escaped = [], 0, False, False
    for each in text:
        if escaped:
            escaped = False
        elif each == "\\":
            escaped = True
        elif each == '"' and not depth:
            quoted = not quoted
        elif each == "(" and not quoted:
            depth += 1
            continue
        elif each == ")" and depth:
            depth -= 1
            if not depth:
                out.append(" ")
            continue
        if not depth:
            out.append(each)
    return "".join(out)


def read_date(text: str) -> datetime | None:
    """The date in UTC; None for what is none, or lies outside 1900 to 2199."""
    plain = " ".join(uncommented(text[:_LONGEST_DATE]).replace(":", " : ").split()).replace(" : ", ":")
    try:
        parsed = parsedate_tz(plain)
        if parsed is None or not 1900 <= parsed[0] < 2200:
            return None
        zone = timezone(timedelta(seconds=parsed[9] or 0))
        return datetime(*parsed[:6], tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def read_ids(texts: Iterable[str]) -> tuple[str, ...]:
    """The message ids in the values of a field, without brackets; the first is kept however many there are."""
    found: dict[str, None] = {}
    for text in texts:
        plain = uncommented(text)
        for each in _ID.findall(plain) or plain.split():
            if cleaned := "".join(each.split()):
                found[cleaned[:998]] = None
    ids = tuple(found)
    return ids if len(ids) <= _MOST_IDS else (ids[0], *ids[1 - _MOST_IDS :])
