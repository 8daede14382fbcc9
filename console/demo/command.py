"""``workmesh demo PACK``: the command line of the demonstration."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console.demo.driver import DemoPlan, Run, run_demo
from console.demo.report import Report, report, show
from console.publish import read_lines
from console.up import Running
from mesh import logs
from mesh.cli import print_json, run_async, stdout
from mesh.demo import Demo, load_demo
from mesh.settings import LogSettings


@click.command()
@click.argument("pack", default="retail")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Data of the systems.")
@click.option("--events", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Events (JSON lines).")
@click.option("--approve", type=click.Choice(["all", "none"]), default="all", show_default=True)
@click.option("--outcomes", type=click.Path(path_type=Path, dir_okay=False), help="Write one JSON line an event.")
@click.option("--world", type=click.Path(path_type=Path, dir_okay=False), help="Write the systems' final state.")
@click.option("--kill", type=int, metavar="SEED", help="Kill a random process every one to two seconds.")
@click.option("--faults", metavar="JSON", help="Faults of the systems, for tests.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep all state in this folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def demo(
    pack: str,
    data: Path | None,
    events: Path | None,
    approve: str,
    outcomes: Path | None,
    world: Path | None,
    kill: int | None,
    faults: str | None,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run a whole site on PACK's data in a temporary folder, and verify that nothing was lost or repeated."""
    logs.configure(LogSettings(level="error" if keep is None else "info"), role="demo", instance="demo")
    shown = load_demo(pack)
    events = events or _events_of(shown, data)
    plan = DemoPlan(
        pack=pack,
        demo=shown,
        data=data or shown.sample,
        lines=read_lines(events.read_bytes()),
        approve=approve == "all",
        kill_seed=kill,
        faults=_parse_faults(faults),
    )
    expected = events.with_name("expected.jsonl")
    with _folder(keep) as folder, _Bar(as_json) as bar:
        run = run_async(run_demo(plan, folder, bar.update))
    result = report(run, expected if expected.exists() else None)
    _write(result, run, outcomes, world)
    if as_json:
        print_json(result.summary)
        for problem in result.problems[:50]:
            click.echo(f"problem: {problem}", err=True)
    else:
        show(result, run, stdout())
    sys.exit(1 if result.problems else 0)


def _events_of(shown: Demo, data: Path | None) -> Path:
    folder = data or shown.sample
    path = folder / "events.jsonl"
    if not path.exists():
        raise click.UsageError(f"{path} does not exist: name the events with --events FILE")
    return path


def _parse_faults(text: str | None) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object]) if text else {}
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--faults: {error}") from error


def _write(result: Report, run: Run, outcomes: Path | None, world: Path | None) -> None:
    if outcomes is not None:
        outcomes.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in result.outcomes))
    if world is not None:
        world.write_bytes(bytes(run.world))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise click.UsageError(f"--keep {keep}: the folder is not empty; a demonstration needs a fresh one")
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="workmesh-", ignore_cleanup_errors=True) as name:
        yield Path(name)


class _Bar:
    """Live progress on stderr; nothing with ``--json``."""

    def __init__(self, silent: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=silent,
        )
        self._task = self._progress.add_task("starting the site", total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, settled: int, total: int, site: Running) -> None:
        """Show how many events have come to something."""
        restarts = sum(child.restarts for child in site.supervisor.children.values())
        text = f"site up in {site.ready_in_s:.1f} s; events done" + (f" ({restarts} restarts)" if restarts else "")
        self._progress.update(self._task, description=text, completed=max(settled, 0), total=total)
