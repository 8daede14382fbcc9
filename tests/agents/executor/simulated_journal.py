"""A journal with JetStream's compare-and-set semantics, whose every operation waits until the test lets it through."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mesh import records, subjects
from mesh.errors import BusUnavailableError, ConflictError
from mesh.journal import Committer, Journal, Message, Stored, Write, message_of, same_intent
from mesh.records import AnyRecord
from tests.agents.executor.virtual_time import CLOCK

LOST = "lost"


@dataclass(frozen=True)
class Entry:
    """A message as the journal holds it."""

    seq: int
    subject: str
    data: bytes
    at: datetime
    record: AnyRecord

    @property
    def stored(self) -> Stored:
        """As a reader gets it."""
        return Stored(self.seq, self.subject, self.at, self.record)


class Store:
    """The stream: all that was ever stored, and the last of each subject."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.aside: list[Message] = []
        self._last: dict[str, Entry] = {}
        self.watch: Callable[[Entry], None] = lambda entry: None

    def put(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """Store all, in one atomic batch, or none when a subject stands elsewhere than expected: then ``None``."""
        names = [message.subject for message in messages]
        if len(set(names)) < len(names) or any(not self._fits(message) for message in messages):
            return None
        return tuple(self._append(message) for message in messages)

    def last(self, subject: str) -> Entry | None:
        """The last message of a subject."""
        return self._last.get(subject)

    def standing(self) -> list[Stored]:
        """The last of each subject, in order."""
        return [entry.stored for entry in sorted(self._last.values(), key=lambda entry: entry.seq)]

    def all(self, subject: str) -> list[Entry]:
        """Everything that ever stood at a subject."""
        return [entry for entry in self.log if entry.subject == subject]

    def _fits(self, message: Message) -> bool:
        if message.expected is None:
            return True
        stands = self._last.get(message.subject)
        return message.expected == (stands.seq if stands else 0)

    def _append(self, message: Message) -> int:
        record = records.decode(message.data)
        entry = Entry(len(self.log) + 1, message.subject, message.data, CLOCK.now(), record)
        self.log.append(entry)
        self._last[entry.subject] = entry
        self.watch(entry)
        return entry.seq


class Point(Protocol):
    """Waits until the test lets an operation through, and says how; ``late`` does it after its caller's death."""

    def __call__(self, label: str, late: Callable[[], object] | None = None) -> Awaitable[str]: ...


class Link(Committer):
    """The committer of one process: a commit that cannot be confirmed is tried again, as the real one does."""

    def __init__(self, store: Store, point: Point) -> None:
        """No bus is behind it."""
        self._stream = store
        self._point = point

    async def commit(self, messages: Sequence[Message], *, ordered: bool = False) -> tuple[int, ...]:
        """Store all messages or none, or if ``ordered`` one after the other; raises ``ConflictError``."""
        if ordered:
            return tuple([seq for message in messages for seq in await self.commit([message])])
        if messages and subjects.stream_of(messages[0].subject) == subjects.QUARANTINE:
            await self._point("quarantine")
            self._stream.aside += messages
            return (len(self._stream.aside),)
        while True:
            how = await self._point("commit", lambda: self._stream.put(messages))
            seqs = self._stream.put(messages)
            if how == LOST:
                continue
            if seqs is not None:
                return seqs
            found: list[tuple[Message, Entry | None]] = []
            for message in messages:
                if await self._point("resolve") == LOST:
                    break
                found.append((message, self._stream.last(message.subject)))
            else:
                return _resolve(found)


def _resolve(found: Sequence[tuple[Message, Entry | None]]) -> tuple[int, ...]:
    """The sequences of what stands there already with the same intent; else the race is lost."""
    for message, stands in found:
        if stands is None or not _is_same(message, stands):
            raise ConflictError(message.subject, f"another record stands at {stands.seq if stands else 0}")
    return tuple(stands.seq for _, stands in found if stands is not None)


def _is_same(message: Message, stands: Entry) -> bool:
    if message.data == stands.data:
        return True
    return message.record is not None and same_intent(message.record, stands.record)


class SimulatedJournal(Journal):
    """The journal as one process sees it."""

    def __init__(self, store: Store, link: Link, point: Point) -> None:
        """No bus is behind it."""
        self._store = store
        self._link = link
        self._point = point

    @property
    def takes_records(self) -> bool:
        """It always does, some time."""
        return True

    async def commit(self, *writes: Write, ordered: bool = False) -> tuple[int, ...]:
        """Store these records together, or none of them."""
        return await self._link.commit([message_of(write) for write in writes], ordered=ordered)

    async def task(self, task_id: str, domain: str = "*") -> list[Stored]:
        """The last record of each subject of a task."""
        await self._read()
        return [item for item in self._store.standing() if item.subject.split(".")[3] == task_id]

    async def history(self, task_id: str, domain: str = "*") -> list[Stored]:
        """All records of a task."""
        await self._read()
        return [entry.stored for entry in self._store.log if entry.subject.split(".")[3] == task_id]

    async def record(self, subject: str) -> Stored | None:
        """The last record of a subject."""
        await self._read()
        entry = self._store.last(subject)
        return entry.stored if entry else None

    async def at(self, seq: int) -> Stored | None:
        """The record with this sequence."""
        await self._read()
        return self._store.log[seq - 1].stored if 0 < seq <= len(self._store.log) else None

    async def _read(self) -> None:
        if await self._point("read") == LOST:
            raise BusUnavailableError("no answer from the journal")
