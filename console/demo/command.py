"""``workmesh demo PACK``: the command line of the demonstration."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console.demo.driver import DemoPlan, Run, run_demo, systems_folder
from console.demo.report import Report, report, show
from console.demo.twice import gains, renamed, show_gains
from console.publish import read_lines
from console.up import Running
from mesh import logs
from mesh.cli import print_json, run_async, stdout
from mesh.demo import Demo, load_demo
from mesh.settings import LogSettings

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("pack", default="retail")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Data of the systems.")
@click.option("--events", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Events (JSON lines).")
@click.option("--text", is_flag=True, help="Requests in customers' own words, read by a scripted model.")
@click.option(
    "--conversations",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="What the scripted model says. Default with --text: conversations.yaml beside the sample's events.",
)
@click.option("--approve", type=click.Choice(["all", "none"]), default="all", show_default=True)
@click.option("--outcomes", type=click.Path(path_type=Path, dir_okay=False), help="Write one JSON line an event.")
@click.option("--world", type=click.Path(path_type=Path, dir_okay=False), help="Write the systems' final state.")
@click.option("--kill", type=int, metavar="SEED", help="Kill a random process every one to two seconds.")
@click.option("--faults", metavar="JSON", help="Faults of the systems, for tests.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep all state in this folder.")
@click.option("--again", type=_FOLDER, help="Run once more on the state that --keep left in this folder.")
@click.option("--twice", is_flag=True, help="Run twice: the second run uses what the first taught, once approved.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def demo(
    pack: str,
    data: Path | None,
    events: Path | None,
    text: bool,
    conversations: tuple[Path, ...],
    approve: str,
    outcomes: Path | None,
    world: Path | None,
    kill: int | None,
    faults: str | None,
    keep: Path | None,
    again: Path | None,
    twice: bool,
    as_json: bool,
) -> None:
    """Run a whole site on PACK's data in a temporary folder, and verify that nothing was lost or repeated."""
    logs.configure(
        LogSettings(level="error" if keep is None and again is None else "info"), role="demo", instance="demo"
    )
    shown = load_demo(pack)
    events = events or _events_of(shown, data, "messages.jsonl" if text else "events.jsonl")
    if text and not conversations:
        conversations = (_conversations_of(events),)
    if again and (keep or twice):
        raise click.UsageError("--again goes on with a kept folder: neither --keep nor --twice goes with it")
    number = _runs_in(again) if again else 0
    plan = DemoPlan(
        pack=pack,
        demo=shown,
        data=data or shown.sample,
        lines=renamed(read_lines(events.read_bytes()), number),
        approve=approve == "all",
        kill_seed=kill,
        faults=_parse_faults(faults),
        number=number,
        learn=twice,
        conversations=conversations,
    )
    expected = events.with_name("messages-expected.jsonl" if text else "expected.jsonl")
    plans = [plan, replace(plan, lines=renamed(plan.lines, 1), number=1, learn=False)] if twice else [plan]
    runs = []
    with _folder(keep, again) as folder:
        for each in plans:
            with _Bar(as_json) as bar:
                runs.append(run_async(run_demo(each, folder, bar.update)))
    results = [report(run, expected if expected.exists() else None) for run in runs]
    _write(results[-1], runs[-1], outcomes, world)
    if twice:
        _tell_twice(runs, results, as_json)
    else:
        _tell(runs[0], results[0], as_json)
    sys.exit(1 if any(result.problems for result in results) else 0)


def _tell(run: Run, result: Report, as_json: bool) -> None:
    if not as_json:
        show(result, run, stdout())
        return
    print_json(result.summary)
    _problems(result)


def _tell_twice(runs: Sequence[Run], results: Sequence[Report], as_json: bool) -> None:
    found = gains(runs[0].ledger, runs[1].ledger)
    if as_json:
        summaries = [result.summary for result in results]
        print_json({"runs": summaries, "learned": runs[0].learned, "gains": found})
        for result in results:
            _problems(result)
        return
    for run, result in zip(runs, results, strict=True):
        show(result, run, stdout())
    show_gains(found, runs[0].learned, stdout())


def _problems(result: Report) -> None:
    for problem in result.problems[:50]:
        click.echo(f"problem: {problem}", err=True)


def _runs_in(folder: Path) -> int:
    """How many runs have left their systems in this folder."""
    number = 0
    while systems_folder(folder, number).exists():
        number += 1
    if not number:
        raise click.UsageError(f"--again {folder}: there is no run in it: make one with --keep")
    return number


def _events_of(shown: Demo, data: Path | None, name: str) -> Path:
    path = (data or shown.sample) / name
    if not path.exists():
        raise click.UsageError(f"{path} does not exist: name the events with --events FILE")
    return path


def _conversations_of(events: Path) -> Path:
    path = events.with_name("conversations.yaml")
    if not path.exists():
        raise click.UsageError(f"{path} does not exist: name what the model says with --conversations FILE")
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
def _folder(keep: Path | None, again: Path | None) -> Iterator[Path]:
    if again is not None:
        yield again.resolve()
        return
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
