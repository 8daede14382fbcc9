"""What the cells came to: totals, a table for people, and the table and picture of docs/reliability.md.

The rule: table and picture are made from results alone, and say which cells failed.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.chaos.cell import Result

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
PAGE, PICTURE = "reliability.md", "images/reliability.svg"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What ``workmesh chaos --json`` prints."""

    cells: int
    lost: int
    duplicates: int
    recovery_p95_s: float
    failed_cells: int


def summary(results: Sequence[Result]) -> Summary:
    """The totals. The 95th percentile is by nearest rank, over the cells that have a time to recover."""
    times = sorted(result.recovery_s for result in results if result.recovery_s is not None)
    p95 = times[math.ceil(0.95 * len(times)) - 1] if times else 0.0
    return Summary(
        cells=len(results),
        lost=sum(result.lost for result in results),
        duplicates=sum(result.duplicates for result in results),
        recovery_p95_s=round(p95, 3),
        failed_cells=sum(not result.passed for result in results),
    )


def show(results: Sequence[Result], console: Console) -> None:
    """All cells and the totals, for people."""
    table = Table("cell", "tasks", "lost", "duplicates", "time to recover", "")
    for result in results:
        shown = [str(n) for n in (result.tasks, result.lost, result.duplicates)]
        verdict = Text("ok", "green") if result.passed else Text("; ".join(result.problems)[:300], "bold red")
        table.add_row(result.name, *shown, _seconds(result), verdict)
    console.print(table)
    total = summary(results)
    console.print(
        f"{total.cells} cells: {total.lost} lost, {total.duplicates} duplicates, time to recover p95 "
        f"{total.recovery_p95_s:.2f} s, {total.failed_cells} failed"
    )


def _seconds(result: Result) -> str:
    return "-" if result.recovery_s is None else f"{result.recovery_s:.2f} s"


def write(results: Sequence[Result], seed: int, docs: Path) -> None:
    """Put the tables between the marks of the page, and the picture beside it."""
