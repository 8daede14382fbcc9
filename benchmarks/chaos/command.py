"""``workmesh chaos``: the command line of the crash matrix."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.chaos.cell import LOAD_S, Result
from benchmarks.chaos.matrix import cells
from benchmarks.chaos.report import show, summary, write
from benchmarks.chaos.runner import chosen, run_cells
from mesh import logs
from mesh.cli import json_option, print_json, run_async, stdout
from mesh.settings import LogSettings


@click.command()
@click.option("--seed", default=1, show_default=True, help="What events, victims and moments are drawn from.")
@click.option("--only", metavar="TEXT", multiple=True, help="Only cells with TEXT in their name; again: all of them.")
@click.option("--list", "as_list", is_flag=True, help="Say which cells there are, and run none.")
@click.option(
    "--report", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Write the table and picture there."
)
@click.option(
    "--load-s",
    default=LOAD_S,
    show_default=True,
    help="How long the overload lasts; it takes ten times as long to end.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep all state in this folder.")
@json_option
def chaos(
    seed: int,
    only: tuple[str, ...],
    as_list: bool,
    report: Path | None,
    load_s: float,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Kill and stop every process at every boundary; exit 1 when anything was lost, repeated or not as expected."""
    wanted = chosen(cells(), only)
    if not wanted:
        raise click.UsageError(f"no cell has {' and '.join(map(repr, only))} in its name: see --list")
    if as_list:
        for cell in wanted:
            click.echo(f"{cell.group}: {cell.name}")
        return
    logs.configure(LogSettings(level="error"), role="chaos", instance="chaos")
    with _folder(keep) as folder:
        results = run_async(run_cells(wanted, seed, folder, _Progress(len(wanted)).tell, load_s))
    total = summary(results)
    if report is not None:
        write(results, seed, report)  # also of cells that failed: the page says which
    if as_json:
        print_json(total)
    else:
        show(results, stdout())
    sys.exit(1 if total.failed_cells else 0)


class _Progress:
    """One line a cell on stderr."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def tell(self, result: Result) -> None:
        """Say what came of a cell."""
        self._done += 1
        recovery = "-" if result.recovery_s is None else f"{result.recovery_s:.2f} s"
        says = "ok" if result.passed else "FAILED: " + "; ".join(result.problems)[:400]
        numbers = f"{result.tasks} tasks, {result.lost} lost, {result.duplicates} duplicates, recovery {recovery}"
        told = "".join(f"; {note}" for note in result.notes)
        line = f"{self._done}/{self._total} {result.name} ({result.seconds:.1f} s): {numbers}: {says}{told}"
        click.echo(line, err=True)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="wm-chaos-", ignore_cleanup_errors=True) as name:
        yield Path(name)
