"""The files of ``workmesh audit``: an export (JSON lines) and a proof (one JSON document), written and read.

The rule: what the journal holds is in them to the byte, and the auditor's lines as the auditor wrote them.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from mesh.audit import Entry, entry_of, own_headers
from mesh.bus import StoredMessage
from mesh.errors import WorkmeshError
from mesh.records import Json, Struct

EXPORT_FORMAT = "workmesh-audit/1"
PROOF_FORMAT = "workmesh-audit-proof/1"
# A space in one of them could make the line of another record.
_TOKEN = re.compile(r"[!-~\u00a1-\U0010ffff]+")


class Head(Struct, frozen=True, kw_only=True, tag_field="type", tag="header"):
    """The first line. ``keys`` are those that the site says its auditors have (C2SP verifier keys)."""

    format: str
    origin: str
    keys: tuple[str, ...]
    trust_root: str
    exported_at: datetime
    first_seq: int
    last_seq: int


class Note(Struct, frozen=True, kw_only=True, tag_field="type", tag="checkpoint"):
    """A signed checkpoint."""

    note: str


class Lines(Struct, frozen=True, kw_only=True, tag_field="type", tag="entries"):
    """Lines of the audit log, of the sequences from ``first`` on."""

    first: int
    lines: tuple[str, ...]


class Trusted(Struct, frozen=True, kw_only=True, tag_field="type", tag="trust"):
    """An entry of the bucket ``TRUST``, signed by the root."""

    envelope: Json


class Message(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A message of the journal; ``data`` is text, or base64 where it is none (``binary``)."""

    seq: int
    time: str
    subject: str
    data: str
    binary: bool = False
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, stored: StoredMessage) -> "Message":
        """The message as the bus gave it, without the server's own headers."""
        own = own_headers(stored.headers)
        try:
            text, binary = stored.data.decode(), False
        except UnicodeDecodeError:
            text, binary = base64.b64encode(stored.data).decode(), True
        return cls(seq=stored.seq, time=stored.time, subject=stored.subject, data=text, binary=binary, headers=own)

    @property
    def raw(self) -> bytes:
        """The data as it is in the journal."""
        try:
            return base64.b64decode(self.data, validate=True) if self.binary else self.data.encode()
        except (binascii.Error, UnicodeEncodeError) as error:
            raise WorkmeshError(f"the data of sequence {self.seq} cannot be read: {error}") from error

    def entry(self) -> Entry:
        """The line that the audit log must have of it; raises ``WorkmeshError`` for what no bus can have given."""
        if not _TOKEN.fullmatch(self.time) or not _TOKEN.fullmatch(self.subject):
            raise WorkmeshError(f"sequence {self.seq} has the time {self.time!r} and the subject {self.subject!r}")
        return entry_of(self.seq, self.time, self.subject, self.headers, self.raw)


class End(Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The last line: how much stands before it."""

    messages: int
    entries: int


class ProvenMessage(Struct, frozen=True, kw_only=True):
    """A message with its path to the root, in hex."""

    message: Message
    path: tuple[str, ...]


class Proof(Struct, frozen=True, kw_only=True):
    """All messages of a task in the log of ``checkpoint``, which extends the log of ``since``, if that is given."""

    format: str = PROOF_FORMAT
    origin: str
    keys: tuple[str, ...]
    task_id: str
    checkpoint: str
    messages: tuple[ProvenMessage, ...]
    since: str = ""
    consistency: tuple[str, ...] = ()


Line = Head | Note | Lines | Trusted | Message | End
_decoder = msgspec.json.Decoder(Line)


@dataclass(slots=True)
class Export:
    """An export as it was read; ``unreadable`` are the numbers of its lines that are none."""

    head: Head
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    trust: list[msgspec.Raw] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    end: End | None = None
    unreadable: list[int] = field(default_factory=list)

    def take(self, number: int, raw: bytes) -> None:
        """Take a line in."""
        try:
            line = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.unreadable.append(number)
            return
        match line:
            case Note(note=note):
                self.notes.append(note)
            case Lines(first=first, lines=lines) if first == len(self.lines) + 1:
                self.lines.extend(lines)
            case Trusted(envelope=envelope):
                self.trust.append(envelope)
            case Message():
                self.messages.append(line)
            case End() if self.end is None:
                self.end = line
            case _:
                self.unreadable.append(number)


def read(path: Path) -> Export | Proof:
    """The file, whichever it is; raises ``WorkmeshError`` when it is neither."""
    with path.open("rb") as file:
        first = file.readline()
        try:
            said = msgspec.json.decode(first, type=dict[str, msgspec.Raw]).get("format", msgspec.Raw(b'""'))
            kind = msgspec.json.decode(said)
            if kind == PROOF_FORMAT:
                return msgspec.json.decode(first, type=Proof)
            if kind == EXPORT_FORMAT:
                export = Export(msgspec.json.decode(first, type=Head))
                for number, raw in enumerate(file, 2):
                    export.take(number, raw)
                return export
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WorkmeshError(f"{path} is no file of `workmesh audit`: {error}") from error
    raise WorkmeshError(f"{path} is no file of `workmesh audit`: its format is {kind!r}")


def encode(line: Struct) -> bytes:
    """One line of a file."""
    return msgspec.json.encode(line) + b"\n"
