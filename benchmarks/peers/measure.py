"""Runs the peers: so many times without a fault, once traced, and twice under kills."""

import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from benchmarks.peers import cpu, syncs, tally
from benchmarks.peers.engine import WARM, Engine, Job, Peer, UnavailableError
from benchmarks.peers.environments import say
from benchmarks.peers.processes import Process, reachable, running
from mesh.errors import WorkmeshError
from mesh.ports import free_port

KILLS = 5
SEED = 1
TRACED_TASKS = 128
HELD_S = 10.0  # an engine that has fewer in flight is killed with what is withheld after this long
ALL_DONE_S = 900.0


class Row(msgspec.Struct, frozen=True):
    """One row of the table; without figures when the engine was skipped or failed, and then with the reason."""

    name: str
    versions: dict[str, str] = {}
    needed: str = ""
    speed: tally.Speed | None = None
    runs: list[tally.Speed] = []
    settings: dict[str, str] = {}
    sync_calls_per_task: float | None = None
    disk_flushes_per_task: float | None = None
    keys_ignored: tally.Kills | None = None
    keys_honoured: tally.Kills | None = None
    skipped: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure, and where files may go."""

    tasks: int
    runs: int
    cache: Path


@dataclass(slots=True)
class _Taken:
    """A peer and what is known of it so far; nothing more is asked of one that was skipped or has failed."""

    peer: Peer
    row: Row
    flushes: list[float] = field(default_factory=list)

    async def take(self, step: "Step", plan: Plan) -> None:
        """Go one step; a failure ends this row and no other."""
        if self.row.skipped or self.row.failed:
            return
        try:
            await step(self, plan)
        except (RuntimeError, TimeoutError, OSError, WorkmeshError) as error:
            say(f"{self.peer.name}: {error!r}")
            self.note(failed=str(error) or type(error).__name__)

    def note(self, **values: Any) -> None:
        """Write figures into the row."""
        self.row = msgspec.structs.replace(self.row, **values)


Step = Callable[[_Taken, Plan], Awaitable[None]]


async def compare(peers: Sequence[Peer], plan: Plan) -> list[Row]:
    """All rows. Every peer is timed once before any is timed again, so what else the machine does meets them alike."""
    taken = [_Taken(peer, Row(peer.name)) for peer in peers]
    steps: list[Step] = [_prepare, *[_time] * plan.runs, _trace, _ignore_keys, _honour_keys]
    for step in steps:
        for each in taken:
            await each.take(step, plan)
    return [each.row for each in taken]


async def _prepare(taken: _Taken, plan: Plan) -> None:
    try:
        details = await taken.peer.prepare(plan.cache)
    except UnavailableError as error:
        taken.note(skipped=str(error))
        return
    taken.note(versions=dict(details.versions), needed=details.needed, settings=dict(details.settings))


async def _time(taken: _Taken, plan: Plan) -> None:
    speed, flushed, settings = await _timed(taken.peer, plan)
    said = f"p50 {speed.p50_ms} ms, p99 {speed.p99_ms} ms, {speed.cpu_ms} ms of CPU a task"
    say(f"{taken.peer.name}: {speed.tasks_per_s} tasks/s, {said}")
    runs = [*taken.row.runs, speed]
    taken.note(runs=runs, speed=tally.median_of(runs), settings=taken.row.settings | settings)
    if flushed is not None:
        taken.flushes.append(flushed)
        taken.note(disk_flushes_per_task=round(statistics.median(taken.flushes), 2))


async def _trace(taken: _Taken, plan: Plan) -> None:
    taken.note(sync_calls_per_task=await _traced(taken.peer, plan))


async def _ignore_keys(taken: _Taken, plan: Plan) -> None:
    taken.note(keys_ignored=await _killed(taken.peer, plan, keys=False))
    say(f"{taken.peer.name}: keys ignored: {taken.row.keys_ignored}")


async def _honour_keys(taken: _Taken, plan: Plan) -> None:
    taken.note(keys_honoured=await _killed(taken.peer, plan, keys=True))
    say(f"{taken.peer.name}: keys honoured: {taken.row.keys_honoured}")


async def _timed(peer: Peer, plan: Plan) -> tuple[tally.Speed, float | None, dict[str, str]]:
    async with _opened(peer, plan, plan.tasks, warm=WARM, keys=False) as (job, engine, _):
        await engine.start()
        async with asyncio.timeout(ALL_DONE_S), asyncio.TaskGroup() as group:
            reporting = group.create_task(engine.report(), name="report")
            while not (job.started.exists() or reporting.done()):  # noqa: ASYNC110 - other processes give no event
                await asyncio.sleep(0.01)
            before, used_s = syncs.disk_flushes(job.folder), cpu.tree_s(os.getpid())
        report = reporting.result()
        after, used_s = syncs.disk_flushes(job.folder), cpu.tree_s(os.getpid()) - used_s
        if report.errors or len(report.ended) != plan.tasks:
            raise RuntimeError(f"{peer.name}: {len(report.ended)} of {plan.tasks} tasks ended: {report.errors}")
        flushes = (after - before) / plan.tasks if before is not None and after is not None else None
        cpu_ms = 1000 * used_s / plan.tasks
        return tally.speed(report.seconds, report.latencies_ms, cpu_ms), flushes, report.settings


async def _traced(peer: Peer, plan: Plan) -> float | None:
    """Calls that sync a file, for each task, of the process that writes the records; its start counts too."""
    async with _opened(peer, plan, TRACED_TASKS, warm=0, keys=False) as (job, engine, _):
        await engine.start()
        async with syncs.counted(engine.writer_pid, job.folder / "strace.txt") as calls:
            await engine.report()
    return None if calls.count is None else round(calls.count / TRACED_TASKS, 2)


async def _killed(peer: Peer, plan: Plan, *, keys: bool) -> tally.Kills:
    """Kill between effect and record, so many times, each time with some answers withheld, then let all end."""
    async with _opened(peer, plan, plan.tasks, warm=0, keys=keys) as (_, engine, target):
        await engine.start()
        victims: list[str] = []
        moments = tally.kill_plan(SEED, plan.tasks, KILLS)
        for moment in moments:
            await target.hold(moment.effect)
            await target.until_held(moment.held)
            await engine.kill()
            victims += await target.release()
            await engine.resume()
        async with asyncio.timeout(ALL_DONE_S):
            report = await engine.report()
        names = [str(number) for number in range(plan.tasks)]
        return tally.kills_of(names, await target.effects(), report.ended, victims, kills=len(moments))


class TargetClient:
    """The driver's side of the target."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def hold(self, at: int) -> None:
        """Withhold answers from this effect on."""
        (await self._client.post("/hold", json={"at": at})).raise_for_status()

    async def until_held(self, count: int) -> None:
        """Wait until so many answers are withheld, or some and no more came for a while."""
        last, since = 0, time.monotonic()
        async with asyncio.timeout(ALL_DONE_S):
            while last < count:
                held = int((await self._client.get("/state")).json()["held"])
                if held != last:
                    last, since = held, time.monotonic()
                if last and time.monotonic() - since > HELD_S:
                    return
                await asyncio.sleep(0.01)

    async def release(self) -> list[str]:
        """Answer again; the tasks whose answers were withheld."""
        return list((await self._client.post("/release")).json())

    async def effects(self) -> list[str]:
        """The tasks of all effects."""
        return list((await self._client.get("/effects")).json())


@contextlib.asynccontextmanager
async def _opened(
    peer: Peer, plan: Plan, tasks: int, *, warm: int, keys: bool
) -> AsyncIterator[tuple[Job, Engine, TargetClient]]:
    """A target, and the engine with an empty store, in a folder on the same disk as the cache."""
    folder = _new_folder(plan.cache / "data")
    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = [f"--port={port}", *(["--keys"] if keys else [])]
    process = Process([sys.executable, "-m", "benchmarks.peers.target", *flags], folder / "target.log")
    try:
        async with running(process, lambda: reachable(f"{url}/state")):
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                job = Job(url, tasks, warm, folder, keys)
                async with peer.opened(job) as engine:
                    yield job, engine, TargetClient(client)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder(data: Path) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=data))
    folder.chmod(0o755)  # Postgres runs as another user when we are root
    return folder
