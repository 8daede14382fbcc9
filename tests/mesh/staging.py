"""A stage that runs in a test, over a real bus, and what it has done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mesh import quarantine, subjects
from mesh.bus import Bus
from mesh.journal import Committer, Write, committing
from mesh.lifetime import end
from mesh.middleware.dead_letter import dead_letter
from mesh.middleware.deadline import deadline
from mesh.middleware.timing import timing
from mesh.pump import Pump
from mesh.quarantine import Quarantined
from mesh.records import Plan
from mesh.runtime import Handler, Outputs, Stage, StageLimits, Work
from tests.mesh.live_mesh import ACK_WAIT_S, LiveMesh, consumer, eventually, stored
from tests.mesh.samples import plan

JOURNAL = subjects.JOURNAL


@dataclass
class Running:
    """A stage that runs, and how to stop it."""

    bus: Bus
    committer: Committer
    task: asyncio.Task[None]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self) -> None:
        """Stop it as SIGTERM would."""
        self.stopping.set()
        await self.task


@asynccontextmanager
async def stage(
    live: LiveMesh,
    handler: Handler,
    *,
    name: str = "planner",
    stream: str = JOURNAL,
    max_attempts: int = 3,
    handler_timeout_s: float = 10.0,
    ack_wait_s: float = ACK_WAIT_S,
    capacity: int = 64,
    heartbeat_s: float = 0.5,
    **limits: Any,
) -> AsyncIterator[Running]:
    """A stage with the middleware of a real process; leaving cuts it off as a kill would."""
    async with live.bus() as bus, committing(bus) as committer:
        pump = Pump(bus, stream, name, ack_wait_s=ack_wait_s, batch=32, capacity=capacity, heartbeat_s=heartbeat_s)
        made = Stage(
            name,
            stream,
            handler,
            committer=committer,
            pump=pump,
            writer=f"{name}/test",
            limits=StageLimits(**{"nak_base_s": 0.05, "nak_max_s": 0.2, "drain_timeout_s": 5.0} | limits),
            middleware=(timing, dead_letter(committer, max_attempts=max_attempts), deadline(handler_timeout_s)),
        )
        stopping = asyncio.Event()
        running = Running(bus, committer, asyncio.create_task(made.run(stopping)), stopping)
        try:
            yield running
            if running.task.done():
                running.task.result()
        finally:
            await end(running.task)


def plan_of(work: Work) -> Plan:
    """The plan that a context leads to."""
    head = work.record().header
    return msgspec.structs.replace(plan(head.task_id), header=work.header(head.task_id, head.domain))


async def planning(work: Work) -> Outputs:
    """Write a plan for each context."""
    return [Write(plan_of(work))]


async def acked(bus: Bus, durable: str = "planner", stream: str = JOURNAL) -> bool:
    """Whether the consumer has nothing left, delivered or not."""
    info = await consumer(bus, durable, stream)
    return bool(info["num_pending"] == 0 and info["num_ack_pending"] == 0)


async def plans(bus: Bus) -> list[str]:
    """The tasks that have a plan, in the order they got it."""
    return [message.subject.split(".")[3] for message in await stored(bus, JOURNAL, "task.plan.>")]


async def items(bus: Bus, number: int) -> list[Quarantined]:
    """What waits in quarantine, once there are so many."""

    async def enough() -> list[Quarantined]:
        found = await quarantine.waiting(bus)
        return found if len(found) >= number else []

    found: list[Quarantined] = await eventually(enough)
    return found


async def planned(bus: Bus, number: int) -> bool:
    """Whether there are so many plans."""
    return len(await plans(bus)) >= number
