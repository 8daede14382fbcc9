"""The records of the tasks that are under way, bare of their content; what is not held is read from the journal.

The rule: the same records come out whether they were held or read, so nothing is lost with the process, and what is
held is bounded.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from mesh.journal import Stored
from mesh.records import NULL, AnyRecord, Approval, Completion, Context, Decision, Prompt, Result

_RECORDS_MAX = 40_000
_LOOKS = 5
_BEHIND_S = 0.2


class History(Protocol):
    """Where all records of a task can be read, in order (``mesh.journal.Journal``)."""

    async def history(self, task_id: str, domain: str = "*") -> list[Stored]:
        """All records of a task."""


class Held:
    """The records of the newest tasks, up to ``records_max`` in all."""

    def __init__(self, journal: History, records_max: int = _RECORDS_MAX) -> None:
        self._journal = journal
        self._max = records_max
        self._tasks: OrderedDict[str, list[Stored]] = OrderedDict()
        self._size = 0

    async def take(self, item: Stored) -> Sequence[Stored]:
        """The records of the task up to this one. The same one may come again."""
        task = item.record.header.task_id
        items = self._tasks.pop(task, [])
        self._size -= len(items)
        if not items and not isinstance(item.record, Context):
            items = [bare(each) for each in await self._read(item)]
        if not items or items[-1].seq < item.seq:
            items.append(bare(item))
        self._tasks[task] = items
        self._size += len(items)
        while self._size > self._max and len(self._tasks) > 1:
            _, old = self._tasks.popitem(last=False)
            self._size -= len(old)
        return [each for each in items if each.seq <= item.seq]

    async def _read(self, item: Stored) -> list[Stored]:
        """What the journal has of the task before this record. A replica may lag behind the one it was read from."""
        head = item.record.header
        found: list[Stored] = []
        for _ in range(_LOOKS):
            found = await self._journal.history(head.task_id, head.domain)
            if found and found[-1].seq >= item.seq:
                break
            await asyncio.sleep(_BEHIND_S)
        return [each for each in found if each.seq < item.seq]


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
