"""What drives an engine from inside its own environment: N tasks, so many in flight, every one timed.

Standard library only: this module runs in each peer's environment, where Workmesh is not installed.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

NOTE = "x" * 200  # what each step of a task adds to its record


def arguments() -> argparse.ArgumentParser:
    """What every worker takes; a peer adds its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True, help="URL that the effects are posted to")
    parser.add_argument("--store", default="", help="where the engine keeps its records")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--warm", type=int, default=0, help="tasks that run first, and are not timed")
    parser.add_argument("--in-flight", type=int, required=True)
    return parser


async def drive(
    args: argparse.Namespace, run: Callable[[str], Awaitable[object]], settings: Callable[[], Awaitable[dict[str, str]]]
) -> None:
    """Run the tasks through ``run`` and write the report, at once and whole; ``.started`` marks the first timed task.

    ``run`` takes a task's id and returns when the engine says that the task has ended; it must be harmless to call
    it for a task that ended in an earlier life of this process.
    """
    await _all([f"warm-{number}" for number in range(args.warm)], run, args.in_flight)
    names = [str(number) for number in range(args.tasks)]
    args.report.with_suffix(".started").touch()
    started = time.perf_counter()
    latencies, errors = await _all(names, run, args.in_flight)
    report = {
        "seconds": time.perf_counter() - started,
        "latencies_ms": [round(1000 * latency, 2) for latency in latencies.values()],
        "ended": list(latencies),
        "errors": errors[:5],
        "settings": await settings(),
    }
    part = args.report.with_suffix(".part")
    part.write_text(json.dumps(report), encoding="utf-8")
    part.rename(args.report)


async def _all(
    names: list[str], run: Callable[[str], Awaitable[object]], in_flight: int
) -> tuple[dict[str, float], list[str]]:
    slots = asyncio.Semaphore(in_flight)
    latencies: dict[str, float] = {}
    errors: list[str] = []

    async def one(name: str) -> None:
        async with slots:
            started = time.perf_counter()
            try:
                await run(name)
            except Exception as error:  # noqa: BLE001 - a task that failed is a figure, whatever the engine raised
                errors.append(f"{name}: {error!r}")
            else:
                latencies[name] = time.perf_counter() - started

    await asyncio.gather(*(one(name) for name in names))
    return latencies, errors
