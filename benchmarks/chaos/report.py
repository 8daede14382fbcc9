"""What the cells came to: totals, a table for people, and the table and picture of docs/reliability.md.

The rule: table and picture are made from results alone, and say which cells failed.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.chaos.cell import BOUNDARIES, Result
from mesh.errors import WorkmeshError

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
    """Put the tables between the marks of the page, and the picture where it shows it.

    Raises ``WorkmeshError`` when the page has no marks.
    """
    page = docs / PAGE
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise WorkmeshError(f"{page} has no place for the table: put {BEGIN} and {END} into it")
    page.write_text(f"{head}{BEGIN}\n\n{markdown(results, seed)}\n{END}{tail}", encoding="utf-8")
    (docs / PICTURE).parent.mkdir(exist_ok=True)
    (docs / PICTURE).write_text(picture(grids(results)), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Grid:
    """One group of cells as a table: by row, column and fault."""

    group: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    faults: tuple[str, ...]
    cells: Mapping[tuple[str, str, str], Result]


def grids(results: Sequence[Result]) -> list[Grid]:
    """The groups in the order they came, boundaries in the order of a task."""
    found = []
    for group in dict.fromkeys(result.group for result in results):
        own = [result for result in results if result.group == group]
        columns = dict.fromkeys(result.column for result in own)
        known = [column for column in BOUNDARIES if column in columns]
        found.append(
            Grid(
                group=group,
                rows=tuple(dict.fromkeys(result.row for result in own)),
                columns=tuple(dict.fromkeys([*known, *columns])),
                faults=tuple(dict.fromkeys(result.fault for result in own)),
                cells={(result.row, result.column, result.fault): result for result in own},
            )
        )
    return found


def markdown(results: Sequence[Result], seed: int) -> str:
    """The totals and a table a group; a cell reads tasks · lost · duplicates · time to recover."""
    total = summary(results)
    lines = [
        f"{total.cells} cells with seed {seed}: {total.lost} lost, {total.duplicates} duplicates, time to recover "
        f"{total.recovery_p95_s:.2f} s at the 95th percentile, {total.failed_cells} cells failed. On "
        f"{os.cpu_count()} cores, with a load average of {os.getloadavg()[2]:.1f} over the last 15 minutes. "
        "A cell reads: tasks · lost · duplicates · time to recover.",
    ]
    for grid in grids(results):
        lines += ["", f"**{grid.group}**", "", f"| | fault | {' | '.join(grid.columns)} |"]
        lines.append("| --- " * (len(grid.columns) + 2) + "|")
        for row in grid.rows:
            for fault in grid.faults:
                cells = [_cell(grid.cells.get((row, column, fault))) for column in grid.columns]
                lines.append(f"| {row} | {fault} | {' | '.join(cells)} |")
    failed = [result for result in results if not result.passed]
    lines += ["", *(f"- {result.name}: {'; '.join(result.problems)}" for result in failed)] if failed else []
    noted = [result for result in results if result.notes]
    lines += ["", *(f"- {result.name}: {'; '.join(result.notes)}" for result in noted)] if noted else []
    return "\n".join(lines) + "\n"


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    shown = f"{result.tasks} · {result.lost} · {result.duplicates} · {_seconds(result)}"
    return shown if result.passed else f"**failed** {shown}"


_LEFT, _TOP, _WIDE, _HIGH, _GAP = 190, 64, 116, 34, 40
_GREEN, _AMBER, _RED, _NONE = "#2e8b57", "#d9a441", "#c0392b", "#e4e4e4"
_SLOW_S = 5.0  # what the 95th percentile must stay under


def picture(groups: Sequence[Grid]) -> str:
    """The grids as SVG: green passed, amber passed but slow, red failed, grey makes no sense; seconds to recover."""
    width = _LEFT + max(len(grid.columns) for grid in groups) * _WIDE + 20
    parts: list[str] = []
    top = 20
    for grid in groups:
        parts += _drawn(grid, top)
        top += _TOP + len(grid.rows) * _HIGH + _GAP
    style = "font-family='Helvetica, Arial, sans-serif' font-size='12'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{top}' {style}>"
    return "\n".join([head, f"<rect width='{width}' height='{top}' fill='#ffffff'/>", *parts, "</svg>"]) + "\n"


def _drawn(grid: Grid, top: int) -> list[str]:
    faults = ", ".join(f"{place} {fault}" for place, fault in zip(("left", "right"), grid.faults, strict=False))
    title = f"{grid.group}{f' ({faults})' if len(grid.faults) > 1 else ''}: seconds to recover"
    parts = [f"<text x='10' y='{top + 14}' font-weight='bold' font-size='14'>{escape(title)}</text>"]
    for number, column in enumerate(grid.columns):
        for line, words in enumerate(_wrapped(column)):
            x, y = _LEFT + number * _WIDE + (_WIDE - 4) / 2, top + 36 + 14 * line
            parts.append(f"<text x='{x}' y='{y}' text-anchor='middle'>{escape(words)}</text>")
    for down, row in enumerate(grid.rows):
        y = top + _TOP + down * _HIGH
        parts.append(f"<text x='{_LEFT - 10}' y='{y + 20}' text-anchor='end'>{escape(row)}</text>")
        for across, column in enumerate(grid.columns):
            for part, fault in enumerate(grid.faults):
                wide = (_WIDE - 4) / len(grid.faults)
                x = _LEFT + across * _WIDE + part * wide
                parts += _box(grid.cells.get((row, column, fault)), x, y, wide - 1)
    return parts


def _box(result: Result | None, x: float, y: int, wide: float) -> list[str]:
    fill, says = _NONE, "-"
    if result is not None:
        says = "" if result.recovery_s is None else f"{result.recovery_s:.1f}"
        fill = _GREEN if (result.recovery_s or 0.0) <= _SLOW_S else _AMBER
        if not result.passed:
            fill, says = _RED, "failed"
    ink = "#777777" if result is None else "#ffffff"
    return [
        f"<rect x='{x:.1f}' y='{y}' width='{wide:.1f}' height='{_HIGH - 4}' rx='3' fill='{fill}'/>",
        f"<text x='{x + wide / 2:.1f}' y='{y + 20}' text-anchor='middle' fill='{ink}'>{says}</text>",
    ]


def _wrapped(text: str) -> list[str]:
    """Two lines at most."""
    words = text.split()
    half = max(1, (len(words) + 1) // 2)
    return [" ".join(words[:half]), " ".join(words[half:])] if len(text) > 16 else [text]
