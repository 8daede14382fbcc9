"""One cell's run on a site: what it publishes and remembers, how long it waits, and the evidence it collects.

The rule: only what was accepted while the cell ran counts, and all of it.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import msgspec

from benchmarks.chaos.events import Made
from benchmarks.chaos.evidence import Accepted, Evidence, Seen, Verdict, judge
from benchmarks.chaos.site import Ground, Mark, until
from console.publish import publish_lines
from mesh import quarantine, records, service, subjects
from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.facts import AnyFactEvent, Asserted, Claim, Source
from mesh.memory import RememberAnswer, RememberRequest
from mesh.records import Decision, Outcome, Phase
from mesh.records import Verdict as Says

HIT_S = 15.0
SETTLE_S = 45.0
_POLL_S = 0.05
_MORE = 4
_ASK_S = 1.0


class _Head(msgspec.Struct):
    id: str
    source: str


@dataclass(frozen=True, slots=True)
class Load:
    """The work of a cell: events of which ``sagas`` are compensated, and ``facts`` that memory is to keep.

    ``last_kind`` is the record by which a task counts as recovered.
    """

    events: tuple[int, int] = (8, 14)
    sagas: int = 0
    facts: int = 0
    last_kind: str = "outcome"


PLAIN = Load()


class Trial:
    """Made on an idle site; everything since then is this cell's."""

    settle_s = SETTLE_S

    def __init__(self, ground: Ground, name: str, draw: random.Random, load: Load) -> None:
        self.ground = ground
        self.fault_at: datetime | None = None
        self._draw = draw
        self._load = load
        self._name = f"{name}-{next(ground.numbers)}"
        self._made: dict[bytes, Made] = {}
        self._published: set[bytes] = set()
        self._batches = 0
        self._events = self._journal = self._quarantine = self._applied = 0
        self._facts: dict[str, tuple[datetime, datetime] | None] = {}
        self._remembering: list[asyncio.Task[None]] = []

    @classmethod
    async def begin(cls, ground: Ground, name: str, draw: random.Random, load: Load) -> Self:
        """A trial that begins where the streams and the shop's log stand now."""
        trial = cls(ground, name, draw, load)
        trial._events = await _last(ground.bus, subjects.EVENTS)
        trial._journal = await _last(ground.bus, subjects.JOURNAL)
        trial._quarantine = await _last(ground.bus, subjects.QUARANTINE)
        trial._applied = len(await ground.applied())
        return trial

    async def work(self) -> None:
        """Give the site the cell's work; returns when all events are on disk."""
        self.remember(self._load.facts)
        await self.publish(self._draw.randint(*self._load.events), self._load.sagas)

    async def publish(self, count: int, sagas: int = 0) -> None:
        """Publish events and return when all are on disk."""
        await self.send(self.make(count, sagas))

    def make(self, count: int, sagas: int = 0) -> list[Made]:
        """Events that nobody has published yet."""
        self._batches += 1
        return list(self.ground.orders.make(f"{self._name}-{self._batches}", self._draw, count, sagas))

    async def send(self, made: Sequence[Made], *, per_s: float = 0.0) -> None:
        """Publish these in order, at this rate; return when all are on disk. One that is there twice counts once."""
        self._made |= {event.line: event for event in made}
        lines = [event.line for event in made]
        async for item in publish_lines(self.ground.committer, lines, per_s=per_s):
            self._published.add(lines[item.line])

    def remember(self, count: int) -> None:
        """Have memory asked to remember facts, each again and again until it says that it did."""
        for _ in range(count):
            key = f"{self._name}-{len(self._facts)}"
            self._facts[key] = None
            self._remembering.append(asyncio.create_task(self._remember(key), name=f"remember-{key}"))

    async def reached(self, mark: Mark) -> datetime:
        """Wait until a fault point was reached; when that was.

        More work is given now and then: another copy may have taken the first.
        """
        clock = asyncio.get_running_loop().time
        end, more = clock() + HIT_S, clock() + 1.0
        while not mark.is_there:
            if clock() > end:
                raise TimeoutError(f"not within {HIT_S:g} s: the fault point was reached")
            if clock() > more:
                more += 1.0
                self.remember(min(self._load.facts, _MORE))
                await self.publish(_MORE, min(self._load.sagas, _MORE))
            await asyncio.sleep(0.01)
        return mark.at

    async def has_effect(self) -> bool:
        """Whether a call to the shop is on record."""
        return bool(await self.ground.bus.read(subjects.JOURNAL, self._journal + 1, 1, subjects.kind("effect")))

    async def settle(self) -> Verdict:
        """Wait until all that was published came to its end, or nothing moves any more; the verdict."""
        problems: list[str] = []
        try:
            await until(
                self._is_settled, self.settle_s, "every task has its outcome and lesson, all consumers are idle"
            )
        except TimeoutError as error:
            problems.append(f"stuck: {error}")
        for task in self._remembering:
            task.cancel()
        await asyncio.gather(*self._remembering, return_exceptions=True)
        verdict = judge(await self.evidence())
        return Verdict(
            verdict.tasks, verdict.lost, verdict.duplicates, verdict.recovery_s, (*problems, *verdict.problems)
        )

    async def evidence(self) -> Evidence:
        """What streams, shop, outbox and memory say now."""
        bus = self.ground.bus
        journal = await _read(bus, subjects.JOURNAL, self._journal)
        found = await self.set_aside()
        return Evidence(
            published=len(self._published),
            accepted=[item for message in await self.events() if (item := self.accepted(message))],
            records=[_seen(message) for message in journal if message.subject.startswith("task.")],
            applied=[entry.key for entry in (await self.ground.applied())[self._applied :]],
            letters=self.ground.letters(),
            waiting=_waiting(journal),
            quarantined=[f"{item.stage}: {item.reason}: {item.detail}" for item in found],
            facts={key: await self._versions(key) for key in self._facts},
            confirmed=[times for times in self._facts.values() if times],
            fault_at=self.fault_at,
            last_kind=self._load.last_kind,
        )

    async def journal(self) -> list[StoredMessage]:
        """The records of tasks since the trial began."""
        return await _read(self.ground.bus, subjects.JOURNAL, self._journal, "task.>")

    async def _is_settled(self) -> bool:
        await asyncio.sleep(_POLL_S)
        if not all(task.done() for task in self._remembering):
            return False
        try:
            if not await self.ground.idle():
                return False
            bus = self.ground.bus
            lessons = await _read(bus, subjects.JOURNAL, self._journal, subjects.kind("lesson"))
            done = {message.subject.split(".")[3] for message in lessons}
            if len(done) < len(self._made):
                done |= _waiting(await _read(bus, subjects.JOURNAL, self._journal, subjects.kind("decision")))
            return len(done) >= len(self._made)
        except BusUnavailableError:
            return False

    async def events(self) -> list[StoredMessage]:
        """What is in ``EVENTS`` since the trial began."""
        return await _read(self.ground.bus, subjects.EVENTS, self._events)

    async def set_aside(self) -> list[quarantine.Quarantined]:
        """What is in quarantine since the trial began."""
        found = await _read(self.ground.bus, subjects.QUARANTINE, self._quarantine)
        return [quarantine.decode(message) for message in found]

    def is_own(self, message: StoredMessage) -> bool:
        """Whether this trial published the event in a message."""
        return message.data in self._made

    def accepted(self, message: StoredMessage) -> Accepted | None:
        """The event in a message as evidence; ``None`` for one that does not count."""
        head = msgspec.json.decode(message.data, type=_Head)
        made = self._made.get(message.data)
        if made is None:
            raise WorkmeshError(f"event {head.id!r} of {head.source!r} is none that this cell published")
        return Accepted(made.task_id, made.entity, datetime.fromisoformat(message.time), made.ending)

    async def _remember(self, key: str) -> None:
        claim = Claim(
            subject="chaos",
            predicate=key,
            value=msgspec.Raw(msgspec.json.encode(f"fact {key}")),
            source=Source(uri="chaos:trial"),
        )
        request = RememberRequest(claims=(claim,), by="chaos")
        started = now()
        while (now() - started).total_seconds() < HIT_S + SETTLE_S:
            try:
                await service.ask(self.ground.bus, "memory", "remember", request, RememberAnswer, _ASK_S)
            except WorkmeshError:
                await asyncio.sleep(_POLL_S)
                continue
            self._facts[key] = (started, now())
            return

    async def _versions(self, key: str) -> int:
        """How many versions of a fact are in the stream itself."""
        messages = await _read(self.ground.bus, subjects.MEMORY, 0, "fact.>")
        events = [msgspec.json.decode(message.data, type=AnyFactEvent) for message in messages]
        said = [fact for event in events if isinstance(event, Asserted) for fact in event.facts]
        return sum(fact.predicate == key for fact in said)


def _waiting(messages: Sequence[StoredMessage]) -> frozenset[str]:
    """The tasks that wait for a person's approval, as their decisions say."""
    asked: set[str] = set()
    given: set[str] = set()
    for message in messages:
        if not message.subject.startswith("task.decision."):
            continue
        match record_in(message):
            case Decision(header=head, phase=Phase.PROPOSE, verdict=Says.NEEDS_APPROVAL):
                asked.add(head.task_id)
            case Decision(header=head, phase=Phase.EXECUTE):
                given.add(head.task_id)
    return frozenset(asked - given)


def _seen(message: StoredMessage) -> Seen:
    kind, _, task = message.subject.split(".")[1:4]
    status = None
    if kind == "outcome":
        record = record_in(message)
        status = record.status if isinstance(record, Outcome) else None
    return Seen(kind, task, datetime.fromisoformat(message.time).astimezone(UTC), status)


def record_in(message: StoredMessage) -> records.AnyRecord | None:
    """The record in a message of the journal, or ``None`` when it is none."""
    try:
        return records.decode(message.data)
    except ValueError:
        return None


async def _read(bus: Bus, stream: str, after: int, subject: str = ">") -> list[StoredMessage]:
    found: list[StoredMessage] = []
    seq = after + 1
    while page := await bus.read(stream, seq, 256, subject):
        found += page
        seq = page[-1].seq + 1
    return found


async def _last(bus: Bus, stream: str) -> int:
    info = await bus.api(f"STREAM.INFO.{stream}")
    if "error" in info:
        raise BusUnavailableError(str(info["error"]))
    last: int = info["state"]["last_seq"]
    return last
