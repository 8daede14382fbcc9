"""Runs a peer: so many times without a fault, once traced, and twice under kills."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec

from benchmarks.peers import syncs, tally
from benchmarks.peers.engine import WARM, Engine, Job, Peer, UnavailableError
from benchmarks.peers.environments import say
from benchmarks.peers.processes import Process, free_port, reachable, running

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


async def measure(peer: Peer, plan: Plan) -> Row:
    """All figures of a peer, or the reason why there are none."""
    try:
        details = await peer.prepare(plan.cache)
    except UnavailableError as error:
        return Row(peer.name, skipped=str(error))
    row = Row(peer.name, dict(details.versions), details.needed, settings=dict(details.settings))
    try:
        return await _figures(peer, plan, row)
    except (RuntimeError, TimeoutError) as error:
        say(f"{peer.name}: {error!r}")
        return msgspec.structs.replace(row, failed=str(error) or type(error).__name__)


async def _figures(peer: Peer, plan: Plan, row: Row) -> Row:
    runs, flushes = [], []
    for number in range(plan.runs):
        speed, flushed, settings = await _timed(peer, plan)
        say(f"{peer.name}: run {number + 1}: {speed.tasks_per_s} tasks/s, p50 {speed.p50_ms} ms")
        runs.append(speed)
        flushes += [flushed] if flushed is not None else []
        row = msgspec.structs.replace(row, settings=row.settings | settings)
    calls = await _traced(peer, plan)
    kills = []
    for keys in (False, True):
        kills.append(await _killed(peer, plan, keys=keys))
        say(f"{peer.name}: keys {'honoured' if keys else 'ignored'}: {kills[-1]}")
    return msgspec.structs.replace(
        row,
        speed=tally.median_of(runs),
        runs=runs,
        sync_calls_per_task=calls,
        disk_flushes_per_task=round(sorted(flushes)[len(flushes) // 2], 2) if flushes else None,
        keys_ignored=kills[0],
        keys_honoured=kills[1],
    )


async def _timed(peer: Peer, plan: Plan) -> tuple[tally.Speed, float | None, dict[str, str]]:
    async with _opened(peer, plan, plan.tasks, warm=WARM, keys=False) as (job, engine, _):
        before = syncs.disk_flushes(job.folder)
        await engine.start()
        report = await engine.report()
        after = syncs.disk_flushes(job.folder)
        if report.errors or len(report.ended) != plan.tasks:
            raise RuntimeError(f"{peer.name}: {len(report.ended)} of {plan.tasks} tasks ended: {report.errors}")
        flushes = (after - before) / (plan.tasks + WARM) if before is not None and after is not None else None
        return tally.speed(report.seconds, report.latencies_ms), flushes, report.settings


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
        names = [f"task-{number}" for number in range(plan.tasks)]
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
