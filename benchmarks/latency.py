"""How long a decision takes on the bus: from the plan in the journal to the decision in the journal.

The rule: both times are the server's own, at which it stored the records; nothing is measured inside of a process.
"""

import statistics
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.bench_pack.pack import POLICIES
from benchmarks.load import nothing
from benchmarks.sites import bench_site
from mesh import subjects
from mesh.bus import Bus

IN_FLIGHT = (1, 64, 256)


async def decision_latency(folder: Path, tasks: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds (p50, p99) by tasks in flight, in the whole loop with one policy process."""
    figures: dict[str, Any] = {"policies": POLICIES, "in_flight": {}}
    async with bench_site(folder) as found:
        await found.load.run(100, 16, nothing)
        for in_flight in IN_FLIGHT:
            start = await _end(found.load.bus)
            ran = await found.load.run(max(tasks // 5, 20) if in_flight == 1 else tasks, in_flight, nothing)
            took = sorted(await _latencies(found.load.bus, start + 1))
            figures["in_flight"][in_flight] = {
                "decisions": len(took),
                "tasks_per_s": round(ran.per_s, 1),
                "p50_ms": round(statistics.median(took), 1),
                "p99_ms": round(took[min(len(took) - 1, round(0.99 * len(took)))], 1),
            }
            say(f"{in_flight} in flight: a decision takes {figures['in_flight'][in_flight]['p50_ms']} ms (p50)")
    return figures


async def _end(bus: Bus) -> int:
    """The last sequence of the journal."""
    info = await bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
    last: int = info["state"]["last_seq"]
    return last


async def _latencies(bus: Bus, start: int) -> list[float]:
    """Milliseconds between the first plan and the first decision of each task from this sequence on."""
    plans, decisions = await _times(bus, "plan", start), await _times(bus, "decision", start)
    return [1000 * (at - plans[task]).total_seconds() for task, at in decisions.items() if task in plans]


async def _times(bus: Bus, kind: str, start: int) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    while page := await bus.read(subjects.JOURNAL, start, 256, subjects.kind(kind)):
        for message in page:
            found.setdefault(message.subject.split(".")[3], datetime.fromisoformat(message.time))
        start = page[-1].seq + 1
    return found
