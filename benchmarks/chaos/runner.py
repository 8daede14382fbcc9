"""Runs cells one after another, and says of each what came of it.

The rule: a cell that fails costs its site, so that it cannot spoil the next one; a cell never hangs.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import httpx2
from msgspec.structs import replace

from benchmarks.chaos.cell import KILLS, LOAD_S, Bench, Cell, NotHitError, Result
from benchmarks.chaos.site import Sites
from mesh.errors import WorkmeshError

STORM_S = 300.0

Progress = Callable[[Result], None]

# What a broken site raises, from the bus, the shop, its processes or a group of tasks around them.
_BROKEN = (WorkmeshError, TimeoutError, OSError, httpx2.HTTPError, ExceptionGroup)


def chosen(cells: Iterable[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells whose name or group has all of these texts in it."""
    return [cell for cell in cells if all(text in f"{cell.group} / {cell.name}" for text in only)]


async def run_cells(
    cells: Sequence[Cell], seed: int, folder: Path, progress: Progress, load_s: float = LOAD_S
) -> list[Result]:
    """Run these cells, their state in ``folder``. What a cell draws depends on the seed and its name alone."""
    results = []
    async with Sites(folder) as sites:
        for cell in cells:
            own = folder / slug(cell.name)
            bench = Bench(sites, own, random.Random(f"{seed}/{cell.name}"), seed, load_s)
            result = await run_cell(cell, bench)
            if not result.passed:
                try:
                    await sites.close()
                except _BROKEN as error:
                    result = replace(result, problems=(*result.problems, f"its site did not end well: {error!r}"))
            results.append(result)
            progress(result)
    return results


async def run_cell(cell: Cell, bench: Bench) -> Result:
    """Run one cell; whatever goes wrong in it is its problem, not ours."""
    started = time.monotonic()
    result = Result(group=cell.group, row=cell.row, column=cell.column, fault=cell.fault)
    bench.folder.mkdir(parents=True, exist_ok=True)
    try:
        async with asyncio.timeout(cell.limit_s if cell.fault != KILLS else STORM_S):
            verdict = await cell.run(bench)
    except NotHitError as error:
        result = replace(result, problems=(f"not tested: {error}",))
    except _BROKEN as error:
        result = replace(result, problems=(f"not finished: {error!r}",))
    else:
        result = replace(
            result,
            tasks=verdict.tasks,
            lost=verdict.lost,
            duplicates=verdict.duplicates,
            recovery_s=None if verdict.recovery_s is None else round(verdict.recovery_s, 3),
            problems=verdict.problems,
            notes=verdict.notes,
        )
    return replace(result, seconds=round(time.monotonic() - started, 2))


def slug(name: str) -> str:
    """A name as part of a file name or an event's id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
