"""``workmesh bench``: the figures in the docs come from it."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks import measure
from benchmarks.bench_pack.pack import install
from benchmarks.facts import facts
from benchmarks.latency import decision_latency
from benchmarks.recall import retrieval
from benchmarks.report import summary, tables, write_report
from mesh import logs
from mesh.cli import json_option, print_json, run_async, stdout
from mesh.embedded import find_binary
from mesh.settings import LogSettings

PARTS = ("rest", "commits", "loop", "backlog", "executors", "decisions", "latency", "shop", "memory", "facts")
_QUICK = 20


@click.command()
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Measure these parts only; can be repeated.")
@click.option("--quick", is_flag=True, help="A twentieth of the tasks: to see that it runs, not to quote.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write tables into this page.")
@json_option
def bench(only: tuple[str, ...], quick: bool, report: Path | None, as_json: bool) -> None:
    """Measure the whole product against bare nats-py, on this machine, in one run of under ten minutes."""
    logs.configure(LogSettings(level="error"), role="bench", instance="bench")
    install()
    found = run_async(_measure(only or PARTS, _QUICK if quick else 1))
    result = {"machine": _machine(), **summary(found), "parts": found}
    if report is not None:
        write_report(report, result)
    if as_json:
        print_json(result)
    else:
        for table in tables(result):
            stdout().print(table)


async def _measure(parts: Sequence[str], divisor: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wm-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        measures: dict[str, Callable[[], Awaitable[Any]]] = {
            "rest": lambda: measure.at_rest(folder / "rest"),
            "commits": lambda: measure.group_commit(folder / "commits"),
            "loop": lambda: measure.floor_and_loop(folder / "loop", 3000 // divisor, _say),
            "backlog": lambda: measure.backlog(
                folder / "backlog", (1000 // divisor, 10_000 // divisor, 50_000 // divisor), _say
            ),
            "executors": lambda: measure.executors(folder / "executors", 2000 // divisor, (1, 2, 4), _say),
            "decisions": lambda: measure.decisions(folder / "decisions", 20_000 // divisor, _say),
            "latency": lambda: decision_latency(folder / "latency", 2000 // divisor, _say),
            "shop": lambda: measure.shop(folder / "shop"),
            "memory": lambda: retrieval(folder / "memory", 100_000 // divisor, _say),
            "facts": lambda: facts(folder / "facts", 100_000 // divisor, _say),
        }
        for part in parts:
            _say(f"measuring: {part}")
            found[part] = await measures[part]()
    return found


def _say(text: str) -> None:
    click.echo(text, err=True)


def _machine() -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": f"workmesh {version('workmesh')}, {_nats_version()}, nats-py {version('nats-py')}",
        "durability": "sync_interval always, checked by every process at its start",
    }


def _nats_version() -> str:
    said = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip()
