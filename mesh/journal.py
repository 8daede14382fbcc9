"""The journal: records created only if absent, committed in groups, read back whole (DESIGN 3.1 and 3.3).

The rule: a commit that returns is on disk, once; a commit that cannot be confirmed is tried again until it is.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import structlog

from mesh import metrics, records, subjects
from mesh.bus import EXPECTED_HEADER, Bus, StoredMessage
from mesh.errors import BusUnavailableError, ConflictError, StorageFullError, TerminalError
from mesh.gather import Gatherer
from mesh.lifetime import background
from mesh.records import AnyRecord, Context
from mesh.streams import STREAM_NAMES

log = structlog.get_logger(__name__)

CREATE = 0
_CONFLICTS = {10071, 10164, 10201}  # wrong last sequence; a subject twice in a batch; a message id seen before
_FULL = {10023, 10047, 10077, 10122}
_TOO_LARGE = {10054}
_MAX_GROUP = 1000  # records in one atomic batch, the server's limit (DESIGN 4)
_RECORDS = metrics.Bound(metrics.RECORDS)
_FEW = 8  # records: below this they cost the server less one by one
_IN_DEMAND = 4  # groups in one flush: more are sure to come
_LINGER_MAX_S = 0.04
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class Write:
    """A record to commit, and the sequence its subject must stand at: 0, that there is none yet."""

    record: AnyRecord
    expected: int = CREATE


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it stands in the journal."""

    seq: int
    subject: str
    time: datetime
    record: AnyRecord


@dataclass(frozen=True, slots=True)
class Message:
    """A publish with an expectation on its subject: what the committer works on, whatever the stream."""

    subject: str
    data: bytes
    expected: int | None = CREATE
    record: AnyRecord | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Group:
    """The messages of one caller: stored together or not at all; ``ordered`` ones may also be stored one by one."""

    __slots__ = ("done", "messages", "ordered", "queued")

    def __init__(self, messages: Sequence[Message], ordered: bool) -> None:
        self.messages = messages
        self.ordered = ordered or len(messages) == 1
        self.done: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self.queued = time.perf_counter()


class Committer:
    """Stores few records one by one, many as one atomic batch; falls back to each group alone on a conflict.

    A batch costs the server as much as a dozen records beside what its records cost (docs/decisions/0018), so a lane
    that is in demand also waits for as long as its last batch took, and gathers what comes in that time.
    """

    def __init__(self, bus: Bus, *, batch_max: int = 256, queue_max: int = 4096) -> None:
        self._bus = bus
        self._batch_max = batch_max
        self._waiting = 0
        # An atomic batch cannot span streams; and a stream that is full must not hold up another.
        self._lanes: dict[str, asyncio.Queue[_Group]] = {stream: asyncio.Queue(queue_max) for stream in STREAM_NAMES}

    @property
    def is_waiting(self) -> bool:
        """Whether a stream takes no records right now, and commits wait for it."""
        return self._waiting > 0

    async def commit(self, messages: Sequence[Message], *, ordered: bool = False) -> tuple[int, ...]:
        """Store all messages, which are of one stream, or none; their sequences.

        ``ordered`` asks for less: none is stored before those ahead of it are, and a crash may leave only the first.

        A message that is already there with the same intent counts as stored. Raises ``ConflictError`` when another
        stands there, ``TerminalError`` when this identity may not write it or the bus never takes one so large, and
        ``ValueError`` for messages of several streams. Waits while the bus is away or full.
        """
        if not messages:
            return ()
        streams = {subjects.stream_of(message.subject) for message in messages}
        if len(streams) > 1:
            raise ValueError(f"one commit cannot span the streams {sorted(streams)}: make it one for each")
        if len(messages) > _MAX_GROUP:
            raise TerminalError(f"{len(messages)} records cannot be one commit: at most {_MAX_GROUP}")
        group = _Group(messages, ordered)
        await self._lanes[streams.pop()].put(group)
        return await group.done

    async def run(self) -> None:
        """Flush what is queued, one batch at a time a stream, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for stream, lane in self._lanes.items():
                group.create_task(self._run_lane(stream, lane), name=f"committer-{stream}")

    async def _run_lane(self, stream: str, lane: asyncio.Queue[_Group]) -> None:
        linger_s = 0.0
        while True:
            groups = [await lane.get()]
            if linger_s:
                await asyncio.sleep(linger_s)
            size = len(groups[0].messages)
            while size < self._batch_max and not lane.empty():
                group = lane.get_nowait()
                groups.append(group)
                size += len(group.messages)
            started = time.perf_counter()
            await self._flush(groups)
            in_demand = len(groups) > _IN_DEMAND
            linger_s = min(time.perf_counter() - started, _LINGER_MAX_S) if in_demand else 0.0

    async def _flush(self, groups: list[_Group]) -> None:
        """Store all groups: together first, and after a failure each alone, so that none suffers for another."""
        delay, waiting = _RETRY_FIRST_S, 0
        parts = [groups]
        try:
            while parts:
                part = [group for group in parts.pop(0) if not group.done.done()]
                try:
                    if part:
                        await self._store(part)
                except TerminalError as error:
                    if len(part) == 1:
                        _fail(part[0], TerminalError(str(error)))
                    parts += [[group] for group in part]
                except BusUnavailableError as error:
                    parts += [[group] for group in part]
                    if self._fail_denied(part):
                        continue
                    log.warning("commit_waits", error=str(error), groups=sum(map(len, parts)), retry_in_s=delay)
                    self._waiting += 1 - waiting
                    metrics.COMMITS_WAITING.set(self._waiting)
                    waiting = 1
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _RETRY_MAX_S)
        finally:
            if waiting:
                self._waiting -= 1
                metrics.COMMITS_WAITING.set(self._waiting)

    def _fail_denied(self, groups: list[_Group]) -> bool:
        """Fail the groups that this identity may not write; whether there were any."""
        reasons = [(group, reason) for group in groups if (reason := self._denial(group))]
        for group, reason in reasons:
            _fail(group, TerminalError(reason))
        return bool(reasons)

    def _denial(self, group: _Group) -> str:
        """Why this identity may not write a message of the group, or an empty string."""
        denied = (self._bus.denied.get(message.subject.lower()) for message in group.messages)
        return next((f"this identity may not publish: {reason}" for reason in denied if reason), "")

    async def _store(self, groups: list[_Group]) -> None:
        messages = [message for group in groups for message in group.messages]
        if len(messages) <= _FEW and all(group.ordered for group in groups):
            ends = await asyncio.gather(*(self._store_in_order(group) for group in groups), return_exceptions=True)
            for error in ends:
                if error is not None:
                    raise error
            return
        try:
            last = await self._send(messages)
        except ConflictError:
            metrics.COMMIT_CONFLICTS.inc()
            if len(groups) == 1:
                await self._resolve(groups[0])
            else:
                for group in groups:
                    await self._store([group])
            return
        metrics.COMMIT_BATCH.observe(len(messages))
        seq = last - len(messages)
        now = time.perf_counter()
        for group in groups:
            seqs = tuple(range(seq + 1, seq + 1 + len(group.messages)))
            seq += len(group.messages)
            metrics.COMMIT_SECONDS.observe(now - group.queued)
            _settle(group, seqs)

    async def _store_in_order(self, group: _Group) -> None:
        """Store one message after the other; what stands there already as it is meant counts as stored."""
        seqs: list[int] = []
        for message in group.messages:
            try:
                seqs.append(await self._send([message]))
            except ConflictError:
                metrics.COMMIT_CONFLICTS.inc()
                stands = await self._bus.last(subjects.stream_of(message.subject), message.subject)
                if stands is None or not _is_same(message, stands):
                    _fail(group, _conflict(message, stands))
                    return
                seqs.append(stands.seq)
        metrics.COMMIT_BATCH.observe(1)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - group.queued)
        _settle(group, tuple(seqs))

    async def _send(self, messages: list[Message]) -> int:
        """Publish a single message plainly, several as one atomic batch; the sequence of the last."""
        *parts, last = messages
        headers: dict[str, str] = {}
        if parts:
            batch = secrets.token_hex(8)
            for number, message in enumerate(parts, 1):
                part = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                await self._bus.publish(message.subject, message.data, part | _headers(message))
            headers = {
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(len(messages)),
                "Nats-Batch-Commit": "1",
            }
        answer = await self._bus.request(last.subject, last.data, headers | _headers(last))
        return _sequence(json.loads(answer.data), last.subject)

    async def _resolve(self, group: _Group) -> None:
        """Settle a group that conflicts: what stands there is ours already, or the race is lost."""
        stream = subjects.stream_of(group.messages[0].subject)
        found = [(message, await self._bus.last(stream, message.subject)) for message in group.messages]
        lost = [(message, stands) for message, stands in found if stands is not None and not _is_same(message, stands)]
        absent = [message for message, stands in found if stands is None]
        if lost:
            _fail(group, _conflict(*lost[0]))
        elif absent:
            _fail(group, _conflict(absent[0], None))
        else:
            _settle(group, tuple(stands.seq for _, stands in found if stands is not None))


class Journal:
    """Commits and reads the records of tasks."""

    def __init__(self, bus: Bus, committer: Committer) -> None:
        self._bus = bus
        self._committer = committer
        self._gatherer = Gatherer(bus)

    @property
    def takes_records(self) -> bool:
        """Whether a commit begun now is likely to end soon: the bus is there and has room."""
        return self._bus.is_connected and not self._committer.is_waiting

    async def commit(self, *writes: Write, ordered: bool = False) -> tuple[int, ...]:
        """Store these records together, or none of them; see ``Committer.commit``."""
        seqs = await self._committer.commit([message_of(write) for write in writes], ordered=ordered)
        _count(writes)
        return seqs

    async def commit_with(self, writes: Sequence[Write], messages: Sequence[Message]) -> tuple[int, ...]:
        """Store records and other messages of the journal together, or none of them; the sequences, records first."""
        seqs = await self._committer.commit([*map(message_of, writes), *messages])
        _count(writes)
        return seqs

    async def task(self, task_id: str, domain: str = "*") -> list[Stored]:
        """The last record of each subject of a task, in the order they were written."""
        found = await self._gatherer.last_of_each(subjects.whole_task(task_id, domain))
        return [stored(message) for message in found]

    async def history(self, task_id: str, domain: str = "*") -> list[Stored]:
        """All records of a task, every epoch of an effect included, in the order they were written."""
        latest = await self.task(task_id, domain)
        if not latest:
            return []
        found: list[StoredMessage] = []
        # A task begins with its context; where retention has taken that, nothing tells where it began.
        start = next((item.seq for item in latest if isinstance(item.record, Context)), 1)
        first_effect = [item for item in latest if item.record.kind in ("effect", "result")]
        if not first_effect:
            return latest
        flt = subjects.whole_task(task_id, latest[0].record.header.domain)
        while page := await self._bus.read(subjects.JOURNAL, start, 256, flt):
            found += page
            start = page[-1].seq + 1
        return [stored(message) for message in found]

    async def record(self, subject: str) -> Stored | None:
        """The last record of a subject, or ``None``."""
        found = await self._gatherer.last_of_each(subject)
        return stored(found[0]) if found else None

    async def at(self, seq: int) -> Stored | None:
        """The record with this sequence, or ``None`` when retention has removed it."""
        message = await self._bus.at(subjects.JOURNAL, seq)
        return stored(message) if message else None


@asynccontextmanager
async def committing(bus: Bus, *, batch_max: int = 256) -> AsyncIterator[Committer]:
    """A running committer; what is still queued on leaving is given up (its callers' deliveries come again)."""
    committer = Committer(bus, batch_max=batch_max)
    async with background(committer.run(), "committer"):
        yield committer


def message_of(write: Write) -> Message:
    """The record under its own subject."""
    return Message(subjects.of(write.record), records.encode(write.record), write.expected, write.record)


def stored(message: StoredMessage) -> Stored:
    """The message as a record; raises ``TerminalError`` when it is none, or nobody published it there."""
    message.require_published()
    try:
        record = records.decode(message.data)
    except (ValueError, RecursionError) as error:
        raise TerminalError(f"{message.subject} at {message.seq} is not a record: {error}") from error
    return Stored(message.seq, message.subject, datetime.fromisoformat(message.time), record)


def _count(writes: Sequence[Write]) -> None:
    for write in writes:
        _RECORDS.of(write.record.kind).inc()


def _settle(group: _Group, seqs: tuple[int, ...]) -> None:
    if not group.done.done():
        group.done.set_result(seqs)


def _fail(group: _Group, error: Exception) -> None:
    if not group.done.done():
        group.done.set_exception(error)


def _conflict(message: Message, stands: StoredMessage | None) -> ConflictError | TerminalError:
    if stands is not None and stands.is_forwarded:
        # No race is lost to what nobody has written: the input must not pass for done.
        return TerminalError(f"{message.subject} was spoilt at {stands.seq}: an answer of the server was sent there")
    if stands is None:
        return ConflictError(message.subject, "nothing stands there yet", stands=False)
    return ConflictError(message.subject, f"another record stands at {stands.seq}")


def _headers(message: Message) -> dict[str, str]:
    expectation = {} if message.expected is None else {EXPECTED_HEADER: str(message.expected)}
    return {**message.headers, **expectation}


def _sequence(answer: dict[str, Any], subject: str) -> int:
    error = answer.get("error")
    if not error:
        return int(answer["seq"])
    code, text = error.get("err_code", 0), error.get("description", "")
    if code in _CONFLICTS:
        raise ConflictError(subject, text)
    if code in _TOO_LARGE:
        raise TerminalError(f"the bus never takes a message as large as this for {subject}: {text} ({code})")
    if code in _FULL or "no space" in text or "maximum" in text or "insufficient" in text:
        raise StorageFullError(f"the bus has no room for {subject}: {text} ({code}); free or grow its store")
    raise BusUnavailableError(f"the bus did not store {subject}: {text} ({code})")


def _is_same(message: Message, stands: StoredMessage) -> bool:
    if message.data == stands.data:
        return True
    if message.record is None:
        return False
    try:
        return same_intent(message.record, records.decode(stands.data))
    except ValueError:
        return False


def same_intent(ours: AnyRecord, theirs: AnyRecord) -> bool:
    """Whether two records under one subject say the same, whoever wrote them and whenever."""
    if type(ours) is not type(theirs):
        return False
    return _content(ours) == _content(theirs)


def _content(record: AnyRecord) -> AnyRecord:
    header = msgspec.structs.replace(record.header, writer="", at=datetime.min, traceparent="")
    return msgspec.structs.replace(record, header=header)
