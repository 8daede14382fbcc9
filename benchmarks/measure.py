"""What ``workmesh bench`` measures, each part on sites of its own; ratios come from runs that alternate.

The rule: a figure of speed is the median of its runs, and stands beside what it is compared with.
"""

import asyncio
import signal
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks import commits, floor
from benchmarks.bench_pack.pack import POLICIES
from benchmarks.load import Load, Measured, loading, nothing
from benchmarks.sites import BenchSite, bench_site, spec
from benchmarks.usage import cpu_between
from console.demo.driver import DemoPlan, run_demo
from console.demo.report import report
from console.publish import read_lines
from console.up import running, with_state_dir
from mesh import subjects
from mesh.demo import load_demo
from mesh.settings import load
from mesh.supervisor import Supervisor

Say = Callable[[str], None]
Figures = dict[str, Any]

RUNS = 3
IN_FLIGHT = (1, 64, 256)
_STALLED_S = 90.0


def medians(runs: Iterable[Measured]) -> Figures:
    """The median of each figure over the runs."""
    found = list(runs)
    return {
        "tasks_per_s": round(statistics.median(run.per_s for run in found), 1),
        "p50_ms": round(statistics.median(run.p50_ms for run in found), 1),
        "p99_ms": round(statistics.median(run.p99_ms for run in found), 1),
    }


async def at_rest(folder: Path) -> Figures:
    """Seconds until a site is ready, and the memory of each process at rest in MB."""
    async with bench_site(folder) as found:
        rss = {name: item.rss_mb for name, item in found.usage().items()}
        return {"ready_in_s": round(found.site.ready_in_s, 2), "rss_mb": rss}


async def group_commit(folder: Path) -> Figures:
    """Records a second and the server's CPU a record, by the size of a commit."""
    return {
        str(rate.size): {
            "records_per_s": round(rate.records_per_s),
            "server_us_per_record": round(rate.server_us_per_record),
        }
        for rate in await commits.measure(folder)
    }


async def shop(folder: Path) -> Figures:
    """The retail sample through a whole site, the shop over HTTP; the demonstration's own figures, which verify."""
    demo = load_demo("retail")
    lines = read_lines((demo.sample / "events.jsonl").read_bytes())
    plan = DemoPlan("retail", demo, demo.sample, lines, approve=True)
    run = await run_demo(plan, folder, lambda *_: None)
    figures = report(run, demo.sample / "expected.jsonl").summary
    return {name: figures[name] for name in ("events", "tasks_per_s", "p50_ms", "p99_ms", "lost", "duplicate_effects")}


async def floor_and_loop(folder: Path, tasks: int, say: Say) -> Figures:
    """The loop with a tool that does nothing against the floor, in turns, at 1, 64 and 256 tasks in flight."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        bare_settings = with_state_dir(load(None, {}), folder / "floor")
        bare_site = await enter(running(bare_settings, roles=()))
        await enter(floor.running(bare_site.url, folder / "floor" / "keys", folder / "floor"))
        bare = await enter(loading(bare_site.site, bare_site.url))
        loop = await enter(bench_site(folder / "loop"))
        await bare.run(100, 16, floor.event)
        await loop.load.run(100, 16, nothing)
        figures: Figures = {"floor": {}, "loop": {}, "ratio": {}}
        for in_flight in IN_FLIGHT:
            count = 100 if in_flight == 1 else tasks
            runs: dict[str, list[Measured]] = {"floor": [], "loop": []}
            for number in range(RUNS):
                runs["floor"].append(await bare.run(count, in_flight, floor.event, stalled_s=_STALLED_S))
                runs["loop"].append(await loop.load.run(count, in_flight, nothing, stalled_s=_STALLED_S))
                say(f"{in_flight} in flight, run {number + 1} of {RUNS}: " + _pair(runs))
            for name, found in runs.items():
                figures[name][in_flight] = medians(found)
            figures["ratio"][in_flight] = _ratio(runs)
            if in_flight == 1:
                figures["stages_ms"] = loop.load.stage_times()
        figures["costs"] = await _costs(loop, tasks)
        return figures


def _pair(runs: dict[str, list[Measured]]) -> str:
    return f"floor {runs['floor'][-1].per_s:.0f}/s, loop {runs['loop'][-1].per_s:.0f}/s"


def _ratio(runs: dict[str, list[Measured]]) -> float:
    """The median over the pairs: each pair ran one after the other."""
    pairs = zip(runs["loop"], runs["floor"], strict=True)
    return round(statistics.median(ours.per_s / bare.per_s for ours, bare in pairs), 2)


async def _costs(loop: BenchSite, tasks: int) -> Figures:
    """CPU seconds and journal bytes of 1,000 tasks, at 256 in flight."""
    before, size = loop.usage(), loop.journal_bytes()
    await loop.load.run(tasks, IN_FLIGHT[-1], nothing, stalled_s=_STALLED_S)
    after = loop.usage()
    cpu = {name: round(1000 * spent / tasks, 2) for name, spent in cpu_between(before, after).items()}
    return {
        "cpu_s_per_1000_tasks": cpu | {"all": round(sum(cpu.values()), 2)},
        "journal_mb_per_1000_tasks": round((loop.journal_bytes() - size) / tasks / 1000, 2),
    }


async def backlog(folder: Path, marks: tuple[int, ...], say: Say) -> Figures:
    """A backlog of events, an executor killed before it, then throughput and memory as it is worked off.

    ``marks`` are numbers of tasks done, ascending; the last is the backlog.
    """
    async with bench_site(folder) as found:
        await found.load.run(200, 64, nothing)
        accepted_in = await found.load.backlog(marks[-1], nothing)
        say(f"{marks[-1]} events accepted in {accepted_in:.1f} s; the executor is killed")
        recovered = await _kill(found, "executor", marks[-1] // 50)
        figures: Figures = {
            "events": marks[-1],
            "accepted_per_s": round(marks[-1] / accepted_in),
            "recovery_s": round(recovered, 2),
            "at": {},
        }
        done, at = len(found.load.ended), time.perf_counter()
        for mark in marks:
            await _until(found.load, 200 + mark)
            now, count = time.perf_counter(), len(found.load.ended)
            rss = {name: item.rss_mb for name, item in found.usage().items()}
            rate = round((count - done) / (now - at), 1) if count > done else None
            figures["at"][mark] = {"tasks_per_s": rate, "rss_mb": rss}
            say(f"{mark} tasks done: {rate} tasks/s, executor {rss['executor']} MB, server {rss['nats-server']} MB")
            done, at = count, now
        figures["peak_rss_mb"] = {name: item.peak_mb for name, item in found.usage().items()}
        return figures


async def _kill(found: BenchSite, role: str, after: int) -> float:
    """Kill a role once so many tasks more have ended; seconds until the next outcome."""
    load, start = found.load, len(found.load.ended)
    await _until(load, start + min(after, 200))
    found.site.supervisor.kill(role, signal.SIGKILL)
    killed = time.perf_counter()
    await asyncio.sleep(0.1)  # what the dead one had committed may still be on its way to us
    quiet = len(load.ended)
    await _until(load, quiet + 1)
    return time.perf_counter() - killed


async def _until(load: Load, count: int) -> None:
    """Wait until so many tasks have ended; raises ``TimeoutError`` when nothing moves."""
    last, moved = len(load.ended), time.perf_counter()
    while len(load.ended) < count:
        await asyncio.sleep(0.005)
        if len(load.ended) != last:
            last, moved = len(load.ended), time.perf_counter()
        if time.perf_counter() - moved > _STALLED_S:
            raise TimeoutError(f"{last} tasks had ended, and no more for {_STALLED_S:g} s")


async def executors(folder: Path, tasks: int, counts: tuple[int, ...], say: Say) -> Figures:
    """Tasks a second at 256 in flight with several executors."""
    figures: Figures = {}
    for count in counts:
        async with bench_site(folder / f"executors-{count}", executors=count) as found:
            await found.load.run(200, 64, nothing)
            runs = [await found.load.run(tasks, 256, nothing, stalled_s=_STALLED_S) for _ in range(RUNS)]
        figures[str(count)] = medians(runs)
        say(f"{count} executors: {figures[str(count)]['tasks_per_s']} tasks/s")
    return figures


async def decisions(folder: Path, plans: int, say: Say) -> Figures:
    """Decisions a second of the policy service alone: one process, 200 policies, plans that wait in the journal."""
    async with bench_site(folder, roles=("perception", "planner")) as found:
        await found.load.backlog(plans, nothing)
        await _until_left(found, plans)
        say(f"{plans} plans wait for a decision")
        async with Supervisor([spec(folder, "policy")], folder / "policy-run") as supervisor:
            await supervisor.wait_ready(30)
            begun, started = plans - await _left(found), time.perf_counter()
            await _until_left(found, 0)
            seconds = time.perf_counter() - started
    rate = round((plans - begun) / seconds)
    say(f"{rate} decisions/s")
    return {"decisions_per_s": rate, "plans": plans, "policies": POLICIES}


async def _until_left(found: BenchSite, count: int) -> None:
    async with asyncio.timeout(10 * _STALLED_S):
        left = await _left(found)
        while left != count:
            await asyncio.sleep(0.02)
            left = await _left(found)


async def _left(found: BenchSite) -> int:
    """Plans that the policy stage has not acknowledged."""
    info = await found.load.bus.api(f"CONSUMER.INFO.{subjects.JOURNAL}.policy")
    left: int = info["num_pending"] + info["num_ack_pending"]
    return left
