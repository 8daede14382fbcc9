"""The records of the tasks that are under way, bare of their content; what is not held is read from the journal.

The rule: the same records come out whether they were held or read, so nothing is lost with the process, and what is
held is bounded.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from mesh import subjects
from mesh.bus import StoredMessage
from mesh.errors import TerminalError
from mesh.journal import Stored, stored
from mesh.records import NULL, WHOLE_TASK, AnyRecord, Approval, Completion, Context, Decision, Prompt, Result

log = structlog.get_logger(__name__)

_RECORDS_MAX = 40_000
_LOOKS = 5
_BEHIND_S = 0.2
_PAGE = 256
_TOKENS = 5  # of a record's subject


class Stream(Protocol):
    """Where stored messages are read from (``mesh.bus.Bus``)."""

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """The last message of one subject."""

    async def read(self, stream: str, seq: int, limit: int, subject: str = ">") -> list[StoredMessage]:
        """Up to ``limit`` messages from ``seq`` on that match."""


class Held:
    """The records of the newest tasks, up to ``records_max`` in all."""

    def __init__(self, bus: Stream, records_max: int = _RECORDS_MAX) -> None:
        self._bus = bus
        self._max = records_max
        self._tasks: OrderedDict[str, list[Stored]] = OrderedDict()
        self._size = 0

    async def take(self, item: Stored) -> Sequence[Stored]:
        """The records of the task up to this one. The same one may come again."""
        _, _, domain, task, _ = item.subject.split(".")  # as the bus has it, whatever the record says of itself
        items = self._tasks.pop(task, [])
        self._size -= len(items)
        if not items and not isinstance(item.record, Context):
            items = [bare(each) for each in await self._read(item, domain, task)]
        if not items or items[-1].seq < item.seq:
            items.append(bare(item))
        self._tasks[task] = items
        self._size += len(items)
        while self._size > self._max and len(self._tasks) > 1:
            _, old = self._tasks.popitem(last=False)
            self._size -= len(old)
        return [each for each in items if each.seq <= item.seq]

    async def _read(self, item: Stored, domain: str, task: str) -> list[Stored]:
        """What the journal has of the task before this record. A replica may lag behind the one it was read from."""
        found: list[Stored] = []
        for _ in range(_LOOKS):
            found = await self._history(domain, task)
            if found and found[-1].seq >= item.seq:
                break
            await asyncio.sleep(_BEHIND_S)
        return [each for each in found if each.seq < item.seq]

    async def _history(self, domain: str, task: str) -> list[Stored]:
        """All records of the task that can be read: a task begins with its context."""
        context = await self._bus.last(subjects.JOURNAL, subjects.record("context", domain, task, WHOLE_TASK))
        start, found = context.seq if context else 1, []
        while page := await self._bus.read(subjects.JOURNAL, start, _PAGE, subjects.whole_task(task, domain)):
            found += [item for message in page if (item := readable(message)) is not None]
            start = page[-1].seq + 1
        return found


def readable(message: StoredMessage) -> Stored | None:
    """The message as a record, or ``None`` and a line in the log: one that cannot be read holds up no other."""
    try:
        if message.subject.count(".") != _TOKENS - 1:
            raise TerminalError(f"{message.subject} is no subject of a record")
        return stored(message)
    except TerminalError as error:
        log.warning("record_without_span", subject=message.subject, seq=message.seq, error=str(error))
        return None


def bare(item: Stored) -> Stored:
    """The same without what it holds of content: spans say nothing of it."""
    return Stored(item.seq, item.subject, item.time, _bare(item.record))


def _bare(record: AnyRecord) -> AnyRecord:
    match record:
        case Context():
            return msgspec.structs.replace(record, data=NULL, found=(), taint=(), entity="")
        case Prompt():
            return msgspec.structs.replace(record, system="", user="", schema=NULL, readings=(), citations=())
        case Completion():
            return msgspec.structs.replace(record, output=NULL, text="", reason="")
        case Decision():
            return msgspec.structs.replace(record, sheets=(), signed=NULL, limits=(), reason="")
        case Approval():
            said = msgspec.structs.replace(record.statement, comment="", changes=())
            return msgspec.structs.replace(record, signed=NULL, statement=said)
        case Result():
            return msgspec.structs.replace(record, output=NULL, error="")
    return record
