"""Load: publishes events, each durable before it counts as accepted, and sees each task's outcome come.

The rule: an outcome counts when its stream delivers it, so what is counted is on disk.
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from nats.aio.msg import Msg

from benchmarks.bench_pack.pack import NOTHING
from mesh import subjects
from mesh.bus import Bus, connect
from mesh.canonical import task_id
from mesh.journal import Committer, Message, committing
from mesh.records import Outcome
from mesh.site import Site

SOURCE = "urn:bench"
MakeEvent = Callable[[int], tuple[str, Message]]
_NOTE = "The parcel came on Tuesday, but one of the two mugs is broken. I would like my money back for that one. " * 2


@dataclass(slots=True)
class Load:
    """A load as it runs. Times are monotonic seconds, by task."""

    bus: Bus
    committer: Committer
    accepted: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    number: int = 0
    latest: deque[bytes] = field(default_factory=lambda: deque(maxlen=100))
    _waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    async def run(self, count: int, in_flight: int, make: "MakeEvent", *, stalled_s: float = 60.0) -> "Measured":
        """Publish so many events with at most ``in_flight`` tasks without an outcome; return when all have one.

        Raises ``TimeoutError`` when nothing moves for ``stalled_s``.
        """
        slots = asyncio.Semaphore(in_flight)
        started = time.perf_counter()
        tasks: list[str] = []

        async def one(number: int) -> None:
            task, message = make(number)
            done = self._waiting[task] = asyncio.get_running_loop().create_future()
            tasks.append(task)
            await self.committer.commit([message])
            self.accepted[task] = time.perf_counter()
            await done
            slots.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                async with asyncio.timeout(stalled_s):
                    await slots.acquire()
                self.number += 1
                group.create_task(one(self.number))
        seconds = time.perf_counter() - started
        return measured([self.ended[task] - self.accepted[task] for task in tasks], seconds)

    async def backlog(self, count: int, make: "MakeEvent") -> float:
        """Publish so many events whatever comes of them; seconds until the last was durable."""
        started = time.perf_counter()
        slots = asyncio.Semaphore(2048)

        async def one(number: int) -> None:
            task, message = make(number)
            await self.committer.commit([message])
            self.accepted[task] = time.perf_counter()
            slots.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                await slots.acquire()
                self.number += 1
                group.create_task(one(self.number))
        return time.perf_counter() - started

    def stage_times(self) -> dict[str, float]:
        """Milliseconds that each record of a task came after the one before, as the latest outcomes tell: medians."""
        steps: dict[str, list[float]] = {}
        for data in self.latest:
            before = 0.0
            for time_of in sorted(msgspec.json.decode(data, type=Outcome).times, key=lambda item: item.ms):
                steps.setdefault(time_of.stage, []).append(time_of.ms - before)
                before = time_of.ms
        return {stage: round(statistics.median(found), 2) for stage, found in steps.items()}

    async def on_outcome(self, message: Msg) -> None:
        """Take in one outcome."""
        task = message.subject.split(".")[3]
        self.ended[task] = time.perf_counter()
        self.latest.append(message.data)
        if (done := self._waiting.pop(task, None)) is not None and not done.done():
            done.set_result(None)


@dataclass(frozen=True, slots=True)
class Measured:
    """Tasks a second, and milliseconds from the accepted event to the outcome."""

    tasks: int
    per_s: float
    p50_ms: float
    p99_ms: float


def measured(latencies_s: list[float], seconds: float) -> Measured:
    """The figures of a run."""
    ordered = sorted(latencies_s)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return Measured(len(ordered), len(ordered) / seconds, 1000 * statistics.median(ordered), 1000 * p99)


def nothing(number: int) -> tuple[str, Message]:
    """An event whose task has a step that does nothing."""
    return event(number, NOTHING)


def event(number: int, kind: str) -> tuple[str, Message]:
    """The task and the publish of one event; each is of an entity of its own."""
    body = {
        "specversion": "1.0",
        "id": str(number),
        "source": SOURCE,
        "type": kind,
        "subject": f"entity-{number}",
        "data": {"number": number, "note": _NOTE},
    }
    return task_id(SOURCE, str(number)), Message(subjects.event(kind), msgspec.json.encode(body), expected=None)


@asynccontextmanager
async def loading(site: Site, url: str) -> AsyncIterator[Load]:
    """A load on a site: published as its publisher, followed as its administrator with a consumer of its own."""
    async with (
        connect(url, name="bench/admin", options=site.admin.nats_options()) as bus,
        connect(url, name="bench/publisher", options=site.identity("publisher").nats_options()) as publisher,
        committing(publisher) as committer,
    ):
        load = Load(bus, committer)
        inbox = bus.client.new_inbox()
        await bus.client.subscribe(inbox, cb=load.on_outcome)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "filter_subject": subjects.kind("outcome"),
            "inactive_threshold": 60_000_000_000,
        }
        request = {"stream_name": subjects.JOURNAL, "config": config}
        answer = await bus.api(f"CONSUMER.CREATE.{subjects.JOURNAL}", request)
        if "error" in answer:
            raise RuntimeError(f"no consumer of outcomes: {answer['error']}")
        yield load
