"""``python -m benchmarks.peers``, which is ``make bench-peers``: the comparison, one row after the other."""

import sys
from pathlib import Path

import click

from benchmarks.peers import report
from benchmarks.peers.cpu import Others
from benchmarks.peers.dbos.peer import DbosOnPostgres, DbosOnSqlite
from benchmarks.peers.engine import Peer
from benchmarks.peers.langgraph.peer import LangGraph
from benchmarks.peers.measure import Plan, compare
from benchmarks.peers.processes import ROOT
from benchmarks.peers.restate.peer import Restate
from benchmarks.peers.workmesh import Workmesh
from mesh.cli import json_option, print_json, run_async, stdout

PEERS: dict[str, type[Peer]] = {
    "workmesh": Workmesh,
    "restate": Restate,
    "langgraph": LangGraph,
    "dbos-postgres": DbosOnPostgres,
    "dbos-sqlite": DbosOnSqlite,
}


@click.command()
@click.option("--tasks", default=1000, show_default=True, type=click.IntRange(min=400), help="Tasks a run.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="Timed runs; the median counts.")
@click.option("--only", multiple=True, type=click.Choice(list(PEERS)), help="This peer; may be given more than once.")
@click.option(
    "--cache",
    default=ROOT / ".peers",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where environments and data folders go: a disk, not memory.  [default: .peers]",
)
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the section between the markers of this page.",
)
@json_option
def main(tasks: int, runs: int, only: tuple[str, ...], cache: Path, page: Path | None, as_json: bool) -> None:
    """Measure the same work on Workmesh and on its peers, and what comes of it under kills."""
    others = Others()
    rows = run_async(compare([PEERS[name]() for name in only or PEERS], Plan(tasks, runs, cache.resolve())))
    shown = report.result(rows, tasks, others.cores())
    if page is not None:
        report.write_section(page, shown)
    if as_json:
        print_json(report.document(shown))
    else:
        stdout().print(report.table(shown))
    sys.exit(1 if any(row.failed for row in rows) or all(row.skipped for row in rows) else 0)


if __name__ == "__main__":
    main()
