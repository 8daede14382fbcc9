"""The words of the audit log: one line of text for each sequence of the journal, and where things stand in ``AUDIT``.

The rule: a line binds sequence, server time, subject, headers and data of what the journal holds; its bytes are the
leaf. A sequence that the journal does not hold has a line too, so the log has no gaps: line ``n`` is leaf ``n - 1``.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.canonical import canonical_json
from mesh.errors import TerminalError
from mesh.merkle import leaf_hash
from mesh.records import Struct

ROLE = "auditor"
ENTRIES = "audit.entries.*"
CHECKPOINTS = "audit.checkpoint.*"
PROBLEMS = "audit.problem.>"
CHUNK = 1024  # lines of at most 400 bytes in one message: under the 512 KiB that AUDIT takes

_SEQ = re.compile(r"[1-9][0-9]{0,18}")
_MISSING = "missing"
_SERVERS_OWN = "Nats-"


class Problem(Struct, frozen=True, kw_only=True):
    """Something that contradicts the log, of the sequences from ``seq`` to ``last``."""

    kind: str
    seq: int
    last: int
    subject: str = ""
    detail: str = ""
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log, taken apart. ``digest`` is the SHA-256 of the data, ``headers`` that of our own headers."""

    seq: int
    time: str = ""
    subject: str = ""
    digest: str = ""
    headers: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the journal did not hold this sequence when the auditor came to it."""
        return not self.digest

    @property
    def content(self) -> tuple[str, str, str]:
        """What was written, wherever and whenever it stands."""
        return self.subject, self.digest, self.headers

    def line(self) -> str:
        """The line, without its newline."""
        if self.is_missing:
            return f"{self.seq} {_MISSING}"
        parts = (str(self.seq), self.time, self.subject, self.digest, *((self.headers,) if self.headers else ()))
        return " ".join(parts)

    def leaf(self) -> bytes:
        """The hash of this entry in the tree: of its line."""
        return leaf_hash(self.line().encode())

    @classmethod
    def parse(cls, line: str) -> "Entry":
        """Raises ``TerminalError`` for a line that no auditor writes."""
        parts = line.split(" ")
        known = parts[1:] == [_MISSING] or 4 <= len(parts) <= 5
        if not known or not _SEQ.fullmatch(parts[0]):
            raise TerminalError(f"{line[:80]!r} is no line of the audit log")
        return cls(int(parts[0])) if len(parts) == 2 else cls(int(parts[0]), *parts[1:])


def entry_of(seq: int, time: str, subject: str, headers: Mapping[str, str], data: bytes) -> Entry:
    """The entry of a message of the journal. Headers of the server's own (``Nats-...``) are not part of it."""
    own = own_headers(headers)
    said = hashlib.sha256(canonical_json(sorted(own.items()))).hexdigest() if own else ""
    return Entry(seq, time, subject, hashlib.sha256(data).hexdigest(), said)


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are not the server's own."""
    return {name: value for name, value in headers.items() if name[:5] != _SERVERS_OWN}


def entry_of_message(message: StoredMessage) -> Entry:
    """The entry of a message as the bus gave it."""
    return entry_of(message.seq, message.time, message.subject, message.headers, message.data)


def origin(root_key: str) -> str:
    """The name of a site's audit log, the same for all its auditors: by the root of its trust."""
    return f"workmesh/{root_key[:20]}/journal"


def entries_subject(first: int) -> str:
    """Where the lines from this sequence on stand; the next message begins where one ends."""
    return f"audit.entries.{first}"


def checkpoint_subject(size: int) -> str:
    """Where the signed checkpoint of this size stands."""
    return f"audit.checkpoint.{size}"


def problem_subject(problem: Problem) -> str:
    """Where a problem stands: each kind once for a sequence."""
    return f"audit.problem.{problem.kind}.{problem.seq}"


def task_of(subject: str) -> str:
    """The task that a record belongs to, or nothing."""
    parts = subject.split(".")
    return parts[3] if parts[0] == "task" and len(parts) == 5 else ""


async def read_lines(bus: Bus) -> AsyncIterator[str]:
    """The lines that stand in ``AUDIT``, from the first on, until one is not there."""
    expected, seq = 1, 1
    while page := await bus.read(subjects.AUDIT, seq, 16, ENTRIES):
        for message in page:
            first = int(message.subject.rpartition(".")[2])
            lines = message.data.decode("utf-8", "replace").splitlines()
            for line in lines[max(expected - first, 0) :] if first <= expected else []:
                yield line
                expected += 1
        seq = page[-1].seq + 1


def runs(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of sequences that follow each other."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
