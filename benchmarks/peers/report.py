"""The comparison as a table, as one JSON document, and as the section of the page on performance."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.peers.engine import IN_FLIGHT
from benchmarks.peers.measure import KILLS, Row
from benchmarks.peers.tally import Kills

BEGIN, END = "<!-- peers -->", "<!-- /peers -->"
BUSY = 0.2  # cores
SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
COLUMNS = (
    "engine",
    "tasks/s",
    "p50 ms",
    "p99 ms",
    "CPU ms a task",
    "syncs a task",
    "no key at the target",
    "key at the target",
)


class Result(msgspec.Struct, frozen=True):
    """The whole comparison. ``others_cores``: cores that other processes of the machine used meanwhile."""

    machine: str
    date: str
    tasks: int
    in_flight: int
    others_cores: float
    rows: list[Row]


def machine() -> str:
    """What the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def result(rows: Sequence[Row], tasks: int, others_cores: float) -> Result:
    """The rows with what they were measured on."""
    return Result(machine(), date.today().isoformat(), tasks, IN_FLIGHT, round(others_cores, 2), list(rows))


def table(shown: Result) -> Table:
    """For a terminal."""
    made = Table(*COLUMNS, title=f"{shown.tasks} tasks, {shown.in_flight} in flight; {shown.machine}")
    for row in shown.rows:
        made.add_row(*_cells(row))
    return made


def document(shown: Result) -> dict[str, Any]:
    """The one JSON document."""
    built: dict[str, Any] = msgspec.to_builtins(shown)
    return built


def write_section(file: Path, shown: Result) -> None:
    """Put the section between its two markers; a file without them gets it at its end."""
    text = file.read_text(encoding="utf-8") if file.exists() else "# Performance\n"
    section = f"{BEGIN}\n{markdown(shown)}{END}\n"
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if begin and end:
        text = f"{before}{section}{after}"
    elif BEGIN in text or END in text:
        raise ValueError(f"{file} needs a line {BEGIN} and behind it a line {END}, or neither")
    else:
        text = f"{text.rstrip()}\n\n{section}"
    file.write_text(text, encoding="utf-8")


def markdown(shown: Result) -> str:
    """The section of the page."""
    lines = [f"## Peers\n\n{_method(shown)}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_cells(row)) for row in shown.rows]
    lines += ["", KEY, "", "**What each needed**", "", _line(("engine", "versions", "needed", "durability in force"))]
    lines.append(_line(["---"] * 4))
    lines += [_line((row.name, _pairs(row.versions), row.needed, _durability(row))) for row in shown.rows]
    return "\n".join(lines) + "\n"


KEY = f"""Columns:

- *tasks/s*, *p50*, *p99*: each the median of the runs; latency is from submission to the known end of a task, under
  that load.
- *CPU ms a task*: of all processes of the engine, the submitter and the target, while the timed tasks ran; it says more
  than the rate when other processes are at work too.
- *syncs a task*: calls of the process that writes the records that sync a file, as strace counts them, in a run of
  its own; in brackets flushes of the whole disk in the timed runs, with those of other processes.
- *no key* and *key at the target*: after {KILLS} kills, the tasks whose effect happened *twice* or more, and those
  *lost*: without effect, or without end. *Victims* are the tasks whose effect had happened and whose answer was
  withheld when the process died; others that were under way may be repeated too. All engines send a stable key; the
  target ignores it, or honours it. Workmesh alone asks the target whether a key took effect before it calls again,
  which this target can tell in both columns; the others have no such declaration, but a step of theirs could ask by
  its own code. With a target that can do neither, a task of Workmesh waits for a person."""


def _method(shown: Result) -> str:
    busy = "" if shown.others_cores < BUSY else ", so rates are lower and latencies higher than on a quiet machine"
    return (
        f"`make bench-peers` on {shown.date}: {shown.machine}. Other processes used {shown.others_cores} of the cores "
        f"meanwhile{busy}.\n\nEach engine runs in an environment of its own with its documented settings: "
        f"{shown.tasks} tasks, {shown.in_flight} in flight, four durable steps each, the last posts an effect to an "
        "HTTP service. The service keeps its log in memory, for all alike. The engines take turns. For the kills the "
        "service withholds its answers at moments drawn from a seed; the process that makes the effects gets SIGKILL "
        "while it waits for them, and is started again."
    )


def _cells(row: Row) -> tuple[str, ...]:
    if row.speed is None:
        reason = f"skipped: {row.skipped}" if row.skipped else f"failed: {row.failed}"
        return (row.name, reason, *[""] * (len(COLUMNS) - 2))
    speed = (str(row.speed.tasks_per_s), str(row.speed.p50_ms), str(row.speed.p99_ms), str(row.speed.cpu_ms))
    calls = "-" if row.sync_calls_per_task is None else str(row.sync_calls_per_task)
    flushes = "-" if row.disk_flushes_per_task is None else str(row.disk_flushes_per_task)
    return (row.name, *speed, f"{calls} ({flushes})", _kills(row.keys_ignored), _kills(row.keys_honoured))


def _kills(kills: Kills | None) -> str:
    if kills is None:
        return "-"
    lost = kills.without_effect + kills.without_end
    waiting = f", {kills.waiting} wait for a person" if kills.waiting else ""
    return f"{kills.duplicated} twice, {lost} lost{waiting}; {kills.victims} victims"


def _durability(row: Row) -> str:
    return _pairs(row.settings) if not row.skipped else f"skipped: {row.skipped}"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {_named(name, value)}" for name, value in values.items())


def _named(name: str, value: str) -> str:
    """SQLite answers with the number of its ``synchronous`` (https://sqlite.org/pragma.html#pragma_synchronous)."""
    return SYNCHRONOUS.get(value, value) if name == "synchronous" else value


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
