"""Which parts of a message are its words, which are attachments, and what the words are."""

import hashlib
import re
from dataclasses import dataclass, field

from puremagic import PureError, magic_string

from agents.intake.mail.charsets import to_text
from agents.intake.mail.headers import decode_words
from agents.intake.mail.mail import Attachment, MailLimits
from agents.intake.mail.notes import Notes
from agents.intake.mail.page import LONGEST, page_text
from agents.intake.mail.parts import Part, content, uuencoded
from agents.intake.mail.reply import unflow

_HTML = re.compile(r"\s*(<!doctype html|<html|<body|<head|<p>|<div|<table)", re.IGNORECASE)
_NO_PLAIN = re.compile(r"(html|view (it|this)|browser|does not support|unterstützt)", re.IGNORECASE)
_WORDS = ("text/plain", "text/html", "text/enriched", "text/richtext", "application/xhtml+xml")
_OFFICE = {b"word/document.xml": "wordprocessingml.document", b"xl/workbook.xml": "spreadsheetml.sheet"}
_OFFICE |= {b"ppt/presentation.xml": "presentationml.presentation"}
_HEAD = 64 * 1024
_LONGEST_NAME = 200


@dataclass(slots=True)
class Contents:
    """What a message holds: pieces of text in order, attachments and their bytes, and what its reports say."""

    limits: MailLimits
    notes: Notes
    plain: list[str] = field(default_factory=list)
    pages: int = 0
    page_chars: int = LONGEST
    attachments: list[Attachment] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    chars: int = 0

    @property
    def html_only(self) -> bool:
        """Whether all words there are come from HTML."""
        return 0 < self.pages == len(self.plain)

    def read(self, part: Part) -> None:
        """Take in a part and what is below it, in the order of the message."""
        stack = [part]
        while stack:
            each = stack.pop()
            if each.type == "multipart/alternative":
                stack += reversed(self._chosen(each))
            elif each.children:
                stack += reversed(each.children)
            elif is_words(each):
                self._text(each)
            elif not each.type.startswith("multipart/"):
                self._add(each.name, each.type, content(each, self.notes), each.number or "body")

    def _chosen(self, part: Part) -> list[Part]:
        """Of an alternative one child that has the words, plain before HTML, and all children that have none."""
        candidates = [child for child in part.children if _first_words(child)]
        plain = [child for child in candidates if self._usable(_first_words(child))]
        html = [child for child in candidates if _is_html(_first_words(child))]
        chosen = (plain or html or candidates)[:1]
        inner = [leaf for child in candidates if child not in chosen for leaf in _files(child)]
        rest = [child for child in part.children if child not in candidates]
        return [*chosen, *inner, *rest]

    def _usable(self, part: Part | None) -> bool:
        if part is None or part.type != "text/plain":
            return False
        text = to_text(content(part, Notes())[: _HEAD // 4], part.charset, part.number, Notes()).strip()
        return bool(text) and not (len(text) < 300 and _NO_PLAIN.search(text) and "HTML" in text)

    def _text(self, part: Part) -> None:
        where = part.number or "body"
        left = self.limits.text_chars - self.chars
        data = content(part, self.notes)
        is_html = part.type != "text/plain"
        if not is_html:
            data = self._without_files(data, part)
        most = 4 * (self.page_chars if is_html else left)  # a character takes at most four bytes
        text = to_text(data[:most], part.charset, where, self.notes)
        if not is_html and _HTML.match(text):
            self.notes.add(where, f"declared {part.type}, is HTML")
            is_html = True
        if is_html:
            if len(text) > self.page_chars:
                self.notes.add(where, f"HTML cut: more than {LONGEST} characters in all")
            text, length = page_text(text[: self.page_chars], where, self.notes), len(text)
            self.page_chars = max(0, self.page_chars - length)
        elif part.parameters.get("format", "").lower() == "flowed":
            text = unflow(text, delsp=part.parameters.get("delsp", "").lower() == "yes")
        if len(text) > left or (not is_html and len(data) > most):
            self.notes.add(where, f"text cut at {self.limits.text_chars} characters")
            text = text[:left]
        if text.strip():
            self.pages += is_html
            self.chars += len(text)
            self.plain.append(text.strip("\n"))

    def _without_files(self, data: bytes, part: Part) -> bytes:
        if b"begin " not in data or b"\nend" not in data:
            return data
        kept, at = [], 0
        for each in uuencoded(data, self.limits.parts):
            kept.append(data[at : each.start])
            at = each.end
            self._add(each.name, "application/octet-stream", each.data, part.number or "body")
        return b"".join([*kept, data[at:]]) if at else data

    def _add(self, name: str, declared: str, data: bytes, where: str) -> None:
        digest = hashlib.sha256(data).hexdigest()
        kept = len(data) <= self.limits.attachment_bytes
        if kept:
            self.kept[digest] = data
        else:
            self.notes.add(where, f"attachment larger than {self.limits.attachment_bytes} bytes: not kept")
        named = Attachment(
            name=clean_name(name, where, self.notes),
            type=declared[:200],
            found_type=found_type(data),
            size=len(data),
            digest=digest,
            kept=kept,
            part=where,
        )
        self.attachments.append(named)


def is_words(part: Part) -> bool:
    """Whether a leaf is part of what is read, not a file beside it."""
    if part.type not in _WORDS or part.disposition == "attachment":
        return False
    return not part.name or part.disposition == "inline"


def _is_html(part: Part | None) -> bool:
    return part is not None and part.type in ("text/html", "application/xhtml+xml")


def _first_words(part: Part) -> Part | None:
    while part.children:
        if part.type == "multipart/alternative":
            part = next((each for each in part.children if each.children or is_words(each)), part.children[0])
        else:
            part = part.children[0]
    return part if is_words(part) else None


def _files(part: Part) -> list[Part]:
    found, stack = [], [part]
    while stack:
        each = stack.pop()
        stack += reversed(each.children)
        if not each.children and not is_words(each) and not each.type.startswith("multipart/"):
            found.append(each)
    return found


def clean_name(name: str, where: str, notes: Notes) -> str:
    """A file's name without a path or anything that is not shown; empty when nothing is left."""
    if "=?" in name:
        name = decode_words(name.encode("utf-8", "replace"), where, notes)
    last = re.split(r"[/\\]", name)[-1].strip()
    if last != name.strip():
        notes.add(where, "the path before a file's name is left out")
    shown = "".join(each for each in last if each.isprintable()).lstrip(".").strip()
    if len(shown) > _LONGEST_NAME:
        stem, dot, ending = shown.rpartition(".")
        shown = f"{stem[: _LONGEST_NAME - 20]}{dot}{ending[:19]}" if dot else shown[:_LONGEST_NAME]
    return shown


def found_type(data: bytes) -> str:
    """The media type that the content has, whatever it was called; empty when nothing is known."""
    if not data:
        return ""
    if data.startswith(b"PK\x03\x04"):
        for entry, kind in _OFFICE.items():
            if entry in data:
                return f"application/vnd.openxmlformats-officedocument.{kind}"
        return "application/zip"
    try:
        found = magic_string(data[:_HEAD])
    except (PureError, ValueError):
        found = []
    best = next((each for each in found if each.mime_type), None)
    if best is not None and best.confidence >= 0.3:
        return str(best.mime_type)
    return _plain_type(data[:_HEAD], str(best.mime_type) if best else "")


def _plain_type(head: bytes, guess: str) -> str:
    try:
        head[: head.rfind(b"\n") + 1 or len(head)].decode("utf-8")
    except UnicodeDecodeError:
        return guess
    return guess or ("" if b"\x00" in head else "text/plain")
