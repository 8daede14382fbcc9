"""``workmesh bench``: the figures in the docs come from it."""

import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import click
from rich.table import Table

from benchmarks import commits, loop
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


def _nats_version() -> str:
    said = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip()
