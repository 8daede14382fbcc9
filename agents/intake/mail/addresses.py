"""Address lists as people and programs write them: groups, routes, comments, two addresses without a comma."""

import re
from collections.abc import Iterator

from agents.intake.mail.headers import Header, decode_words, tidy
from agents.intake.mail.mail import Address
from agents.intake.mail.notes import Notes

_WORD = re.compile(r"=\?[^?\s]{1,80}\?[bBqQ]\?[^?]*\?=")
_MOST = 1000
_LONGEST = 320  # RFC 5321: 64 and 255, and the at sign


def read_addresses(header: Header, name: str, notes: Notes) -> tuple[Address, ...]:
    """Every mailbox in all fields of this name."""
    where = header.where(name)
    found: dict[Address, None] = {}
    read = 0
    for text in header.texts(name):
        for each in _mailboxes(_WORD.sub(_guarded, text), where, notes):
            read += 1
            if read > _MOST:
                notes.add(where, f"more than {_MOST} addresses")
                return tuple(found)
            found[each] = None
    return tuple(found)


class _Piece:
    """What has been read of one mailbox: its phrase, what stood in angle brackets, and comments."""

    def __init__(self) -> None:
        self.phrase: list[str] = []
        self.has_at = False
        self.angle: list[str] | None = None
        self.comment: list[str] = []

    def words(self) -> str:
        return tidy("".join(self.phrase))

    def mailboxes(self, where: str, notes: Notes) -> Iterator[Address]:
        name = _decoded(self.words(), where, notes)
        comment = _decoded("".join(self.comment), where, notes)
        if self.angle is not None:
            inside = "".join("".join(self.angle).split())
            yield Address(name or comment, inside.rpartition(":")[2][:_LONGEST])
            return
        plain = re.sub(r" ?@ ?", "@", self.words())
        if plain.count("@") == 1:
            local, _, domain = plain.partition("@")
            plain = f"{local}@{re.sub(r' ?[.] ?', '.', domain)}"
        words = plain.split()
        found = [each for each in words if "@" in each]
        if len(found) == 1:
            rest = _decoded(" ".join(each for each in words if each != found[0]), where, notes)
            yield Address(rest or comment, found[0][:_LONGEST])
        elif found:
            notes.add(where, "addresses without a comma between them")
            yield from (Address("", each[:_LONGEST]) for each in found)
        elif name:
            notes.add(where, "a name without an address")
            yield Address(name, "")


def _guarded(word: re.Match[str]) -> str:
    return f'"{word[0]}"' if re.search("[,;:<>()@]", word[0]) else word[0]


def _decoded(text: str, where: str, notes: Notes) -> str:
    return decode_words(text.encode("utf-8", "replace"), where, notes)[:1000]


def _mailboxes(text: str, where: str, notes: Notes) -> Iterator[Address]:
    piece = _Piece()
    depth, quoted, escaped = 0, False, False
    for each in text:
        if escaped or (each == "\\" and (quoted or depth)):
            escaped = not escaped
            if escaped:
                continue
        elif quoted or depth:
            if each == '"' and quoted:
                quoted = False
                continue
            depth += (each == "(") - (each == ")") if depth else 0
            if not quoted and not depth:
                continue
        elif each in '"(':
            quoted, depth = each == '"', int(each == "(")
            continue
        elif each in ",;" or (each == ":" and piece.angle is None and not piece.has_at):
            if each != ":":  # what stands before a colon is the name of a group
                yield from piece.mailboxes(where, notes)
            piece = _Piece()
            continue
        elif each == "<":
            piece.angle = []
            continue
        elif each == ">" and piece.angle is not None:
            piece.phrase.append(" ")
            yield from piece.mailboxes(where, notes)
            piece = _Piece()
            continue
        _put(piece, each, depth)
    yield from piece.mailboxes(where, notes)


def _put(piece: _Piece, each: str, depth: int) -> None:
    if depth:
        piece.comment.append(each)
    elif piece.angle is not None:
        piece.angle.append(each)
    else:
        piece.phrase.append(each)
        piece.has_at = piece.has_at or each == "@"
