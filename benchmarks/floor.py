"""The floor: what bare nats-py does with the same durable records a task and no logic, on the same server settings.

Five processes, each a fetch loop that publishes what the stage of the product would (context; plan; decision; effect,
then result and outcome; lesson), every publish awaited, 64 at once, and acknowledges its input.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import uvloop
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from mesh import subjects
from mesh.canonical import task_id
from mesh.identity import Identity
from mesh.journal import Message
from mesh.notify import notify
from mesh.supervisor import ChildSpec, Supervisor

DOMAIN = "bench"
STAGES = ("perception", "planner", "policy", "executor", "learner")
# Bytes of the records of one task of the bench pack, as the loop writes them.
RECORD_BYTES = {
    "context": 950,
    "plan": 850,
    "decision": 1300,
    "effect": 600,
    "result": 600,
    "outcome": 800,
    "lesson": 500,
}
_WRITES: dict[str, tuple[tuple[str, ...], ...]] = {
    "perception": (("context",),),
    "planner": (("plan",),),
    "policy": (("decision",),),
    "executor": (("effect",), ("result", "outcome")),
    "learner": (("lesson",),),
}
_STREAMS = {"perception": subjects.EVENTS}
_EVENT_BYTES = 450
_IN_FLIGHT = 64
_FETCH = 100


def event(number: int) -> tuple[str, Message]:
    """The task and the publish of one event of the floor, as many bytes as one of the loop."""
    task = task_id("urn:floor", str(number))
    return task, Message(subjects.event(f"{DOMAIN}.floor.requested"), task.encode().ljust(_EVENT_BYTES, b"x"), None)


async def stage(role: str, url: str, seed: Path) -> None:
    """Run one stage of the floor until killed."""
    identity = Identity.load(seed)
    client = await nats.connect(url, name=f"floor/{role}", **identity.nats_options())
    context = client.jetstream()
    stream = _STREAMS.get(role, subjects.JOURNAL)
    fetching = await context.pull_subscribe_bind(role, stream=stream)
    slots = asyncio.Semaphore(_IN_FLIGHT)
    notify("READY=1")

    async def one(message: Msg) -> None:
        task = message.data[:26].decode()
        for together in _WRITES[role]:
            await asyncio.gather(*(_publish(context, kind, task) for kind in together))
        await message.ack()
        slots.release()

    async with asyncio.TaskGroup() as group:
        while True:
            try:
                messages = await fetching.fetch(_FETCH, timeout=1)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            for message in messages:
                await slots.acquire()
                group.create_task(one(message))


async def _publish(context: JetStreamContext, kind: str, task: str) -> None:
    data = task.encode().ljust(RECORD_BYTES[kind], b"x")
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    await context.publish(subjects.record(kind, DOMAIN, task, "-"), data, headers=headers)


@asynccontextmanager
async def running(url: str, keys: Path, folder: Path) -> AsyncIterator[dict[str, int]]:
    """The five stages as processes; their pids by name. The site's own processes must not run."""
    specs = [
        ChildSpec(
            name,
            (sys.executable, "-m", "benchmarks.floor", name, url, str(keys / f"{name}.nk")),
            folder / f"floor-{name}.log",
        )
        for name in STAGES
    ]
    async with Supervisor(specs, folder / "floor") as supervisor:
        await supervisor.wait_ready(30)
        yield {name: child.pid for name, child in supervisor.children.items()}


def main() -> None:
    """``python -m benchmarks.floor STAGE URL SEED``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("url")
    parser.add_argument("seed", type=Path)
    said = parser.parse_args()
    uvloop.run(stage(said.stage, said.url, said.seed))


if __name__ == "__main__":
    main()
