"""The row of Workmesh: a whole site with the bench pack, whose tool posts to the target and can ask it."""

import asyncio
import contextlib
import importlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

import msgspec
from nats.aio.msg import Msg

from benchmarks.bench_pack.pack import INSTALLED, POST
from benchmarks.peers.engine import IN_FLIGHT, Details, Engine, Job, Report
from benchmarks.peers.environments import command
from benchmarks.peers.processes import ROOT
from console.up import Running, running, systems_env, with_state_dir
from mesh import durability, logs, records, subjects
from mesh.bus import Bus, connect
from mesh.canonical import task_id
from mesh.embedded import find_binary
from mesh.journal import Committer, Message, committing
from mesh.operator import operating
from mesh.records import Outcome, OutcomeStatus
from mesh.settings import LogSettings, load

SOURCE = "urn:workmesh:bench:peers"
VICTIM = "executor"
NEEDED = (
    "a pack: an event type, a playbook of one step, policies, a tool declared verifiable, so after a crash the "
    "target is asked whether the key took effect, also where it does not honour keys; six processes and nats-server; "
    "restarted by its supervisor. More is done for a task than by the others: policy decides and signs, "
    "an approval could be asked for"
)


class Workmesh:
    """Context, plan, decision, effect, result and outcome are on disk, each before what follows from it."""

    name = "Workmesh"

    async def prepare(self, cache: Path) -> Details:
        """Nothing to install."""
        nats = (await command(find_binary(), "--version")).split()[-1]
        return Details({"workmesh": version("workmesh"), "nats-server": nats}, NEEDED)

    @contextlib.asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[Engine]:
        """A site with an embedded server, and a publisher."""
        logs.configure(LogSettings(level="error"), role="bench", instance="bench")
        settings = with_state_dir(load(None, {}), job.folder / "site")
        env = systems_env("bench", {"url": job.target})
        with _bench_pack():
            async with running(
                settings, env=env | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(INSTALLED)))}
            ) as site:
                publisher = site.site.identity("publisher").nats_options()
                async with (
                    connect(site.url, name="bench/admin", options=site.site.admin.nats_options()) as bus,
                    connect(site.url, name="bench/publisher", options=publisher) as sender,
                    committing(sender) as committer,
                ):
                    engine = _Running(job, site, bus, committer)
                    try:
                        yield engine
                    finally:
                        await engine.close()


class _Running:
    def __init__(self, job: Job, site: Running, bus: Bus, committer: Committer) -> None:
        self._job = job
        self._site = site
        self._bus = bus
        self._committer = committer
        self._ends: dict[str, asyncio.Future[float]] = {}
        self._run: asyncio.Task[Report] | None = None

    @property
    def writer_pid(self) -> int:
        """The NATS server."""
        assert self._site.server is not None
        return self._site.server.pid

    async def start(self) -> None:
        """Follow the outcomes, and publish."""
        inbox = self._bus.client.new_inbox()
        await self._bus.client.subscribe(inbox, cb=self._on_outcome)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "all",
            "ack_policy": "none",
            "filter_subject": subjects.kind("outcome"),
        }
        request = {"stream_name": subjects.JOURNAL, "config": config}
        answer = await self._bus.api(f"CONSUMER.CREATE.{subjects.JOURNAL}", request)
        if "error" in answer:
            raise RuntimeError(f"no consumer of outcomes: {answer['error']}")
        self._run = asyncio.create_task(self._publish(), name="publish")

    async def kill(self) -> None:
        """SIGKILL the executor."""
        self._site.supervisor.kill(VICTIM)

    async def resume(self) -> None:
        """Its supervisor has started it again: wait until it is ready."""
        async with asyncio.timeout(30):
            await self._site.supervisor.children[VICTIM].ready.wait()

    async def report(self) -> Report:
        """What the publisher saw, and the outcomes as the journal has them."""
        assert self._run is not None
        seen = await self._run
        completed, others = await self._outcomes()
        ended = [number for number in seen.ended if task_id(SOURCE, number) in completed]
        return msgspec.structs.replace(seen, ended=ended, errors=others[:5], settings=await self._settings())

    async def close(self) -> None:
        """Publish no more."""
        if self._run is not None and not self._run.done():
            self._run.cancel()
            await asyncio.wait([self._run])

    async def _publish(self) -> Report:
        await self._all([str(self._job.tasks + number) for number in range(self._job.warm)])
        numbers = [str(number) for number in range(self._job.tasks)]
        self._job.started.touch()
        started = time.perf_counter()
        latencies = await self._all(numbers)
        return Report(time.perf_counter() - started, latencies, numbers)

    async def _all(self, numbers: list[str]) -> list[float]:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: str) -> float:
            async with slots:
                task = task_id(SOURCE, number)
                end: asyncio.Future[float] = asyncio.get_running_loop().create_future()
                self._ends[task] = end
                started = time.perf_counter()
                await self._committer.commit([_event(number)])
                return round(1000 * (await end - started), 2)

        return list(await asyncio.gather(*(one(number) for number in numbers)))

    async def _on_outcome(self, message: Msg) -> None:
        end = self._ends.get(message.subject.split(".")[3])
        if end is not None and not end.done():
            end.set_result(time.perf_counter())

    async def _outcomes(self) -> tuple[set[str], list[str]]:
        """The tasks that completed, and what came of the others, from the stream."""
        completed: set[str] = set()
        others: list[str] = []
        seq = 1
        while page := await self._bus.read(subjects.JOURNAL, seq, 256, subjects.kind("outcome")):
            seq = page[-1].seq + 1
            for message in page:
                record = records.decode(message.data)
                if isinstance(record, Outcome) and record.status is OutcomeStatus.COMPLETED:
                    completed.add(record.header.task_id)
                elif isinstance(record, Outcome):
                    others.append(f"{record.header.task_id}: {record.status}: {record.reason}")
        return completed, others

    async def _settings(self) -> dict[str, str]:
        """What the server itself says; a fault that it would not start with is shown in its place."""
        settings = self._site.site.settings
        async with operating(settings) as bus:
            names = (subjects.EVENTS, subjects.JOURNAL)
            faults = await durability.check(bus, names, None, replicas=1, ack_wait_s=settings.bus.ack_wait_s)
        return {"faults": "; ".join(faults)} if faults else {"sync_interval": "always", "streams": "on file"}


def _event(number: str) -> Message:
    body = {
        "specversion": "1.0",
        "id": number,
        "source": SOURCE,
        "type": POST,
        "subject": f"entity-{number}",
        "data": {"number": int(number), "note": "x" * 200},
    }
    return Message(subjects.event(POST), msgspec.json.encode(body), expected=None)


@contextlib.contextmanager
def _bench_pack() -> Iterator[None]:
    """The bench pack is an installed one meanwhile, here and in the site's processes."""
    sys.path.insert(0, str(INSTALLED))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(INSTALLED))
        importlib.invalidate_caches()
