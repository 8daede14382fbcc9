"""``workmesh bench`` and ``workmesh chaos``: the figures in the docs come from these."""

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import click
from rich.table import Table

from benchmarks import commits, loop
from benchmarks.kills import MODES, run_cell
from mesh import logs
from mesh.cli import json_option, print_json, run_async, stdout
from mesh.embedded import find_binary
from mesh.settings import LogSettings


@click.command()
@json_option
def bench(as_json: bool) -> None:
    """Measure group commit, the loop on the sample, start-up and memory, all on this machine in one run."""
    logs.configure(LogSettings(level="error"), role="bench", instance="bench")
    with tempfile.TemporaryDirectory(prefix="wm-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        rates = run_async(commits.measure(folder / "commits"))
        rest = run_async(loop.at_rest(folder / "rest"))
        summary = run_async(loop.on_sample(folder / "loop"))
    result = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": f"workmesh {version('workmesh')}, {_nats_version()}, nats-py {version('nats-py')}",
        "durability": "sync_interval always",
        "commits_one_by_one_per_s": round(rates.one_by_one),
        "commits_gathered_per_s": round(rates.gathered),
        "commit_ratio": round(rates.ratio, 1),
        "ready_in_s": round(rest.ready_in_s, 2),
        "rss_mb": rest.rss_mb,
        "loop_tasks_per_s": summary["tasks_per_s"],
        "p50_ms": summary["p50_ms"],
        "p99_ms": summary["p99_ms"],
    }
    if as_json:
        print_json(result)
        return
    table = Table("figure", "value")
    for key, value in result.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(key, shown)
    stdout().print(table)


@click.command()
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 1 on.")
@click.option("--keys", type=click.Choice([*MODES, "both"]), default="both", show_default=True)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Other data than the sample."
)
@json_option
def chaos(seeds: int, keys: str, data: Path | None, as_json: bool) -> None:
    """Run the demonstration under kills; exit 1 when anything was lost, repeated or not as expected."""
    logs.configure(LogSettings(level="error"), role="chaos", instance="chaos")
    modes = list(MODES) if keys == "both" else [keys]
    table = Table("seed", "keys", "kills", "lost", "duplicates", "recovery median s", "recovery most s", "problems")
    cells = []
    for mode in modes:
        for seed in range(1, seeds + 1):
            with tempfile.TemporaryDirectory(prefix="wm-chaos-", ignore_cleanup_errors=True) as name:
                cell = run_async(run_cell(Path(name), seed, mode, data))
            cells.append(cell)
            numbers = cell.summary
            shown = [numbers[key] for key in ("kills", "lost", "duplicate_effects", "recovery_p50_s", "recovery_max_s")]
            table.add_row(str(seed), mode, *map(str, shown), "; ".join(cell.problems)[:80])
            if sys.stderr.isatty():
                click.echo(f"seed {seed}, keys {mode}: {len(cell.problems)} problems", err=True)
    failed = sum(bool(cell.problems) for cell in cells)
    if as_json:
        print_json(
            {
                "cells": len(cells),
                "kills": sum(cell.summary["kills"] for cell in cells),
                "lost": sum(cell.summary["lost"] for cell in cells),
                "duplicates": sum(cell.summary["duplicate_effects"] for cell in cells),
                "recovery_max_s": max(cell.summary["recovery_max_s"] for cell in cells),
                "failed_cells": failed,
            }
        )
    else:
        stdout().print(table)
    sys.exit(1 if failed else 0)


def _nats_version() -> str:
    said = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip()
