"""``workmesh audit``: where the log stands, exports and proofs of it, their check, and a report for a regulator."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from console.audit import document, reading
from console.audit.document import Export, Message
from console.audit.gather import gather
from console.audit.report import Case, render
from console.audit.verify import Pinned, Verdict, verify_export, verify_proof
from console.journal import history
from mesh import audit as words
from mesh import subjects
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.operator import operator_bus
from mesh.records import Struct
from mesh.settings import Settings
from mesh.signed_note import VerifierKey, split_notes

_OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write (0600)."
)


class Written(Struct, frozen=True, kw_only=True):
    """What ``--json`` says of a file that was written."""

    file: str
    messages: int
    size: int


@click.group()
def audit() -> None:
    """Prove that the journal is what was written: export it, check it offline, report on a task."""


@audit.command()
@json_option
@config_option
def status(as_json: bool, config: Path | None) -> None:
    """Show how far the log reaches, and what contradicts it. Exit 1 when something does."""
    found = run_async(_status(config))
    if as_json:
        print_json(found)
    else:
        console = stdout()
        console.print(f"log       {found.origin}")
        console.print(
            f"signed    {found.size} sequences at {found.signed_at or 'no time yet'}, root {found.root or '-'}"
        )
        console.print(f"journal   {found.journal} sequences, {found.behind} not covered yet")
        for key in found.keys:
            console.print(f"key       {key}")
        console.print(f"problems  {len(found.problems) or 'none'}")
        for problem in found.problems:
            console.print(f"  {problem.kind} {_span(problem.seq, problem.last)} {problem.subject} {problem.detail}")
    if found.problems:
        raise SystemExit(1)


async def _status(config: Path | None) -> reading.Status:
    async with operator_bus(config) as (settings, bus):
        return await reading.status(bus, settings.root_key())


@audit.command()
@_OUT
@json_option
@config_option
def export(out: Path, as_json: bool, config: Path | None) -> None:
    """Write the journal, the auditor's lines and its signed checkpoints to a file that `verify` checks offline."""
    written = run_async(_export(out, config))
    if as_json:
        print_json(written)
    else:
        click.echo(f"{out}: {written.messages} messages, {written.size} of them in the audit log")


async def _export(out: Path, config: Path | None) -> Written:
    async with operator_bus(config) as (settings, bus):
        descriptor = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            return await _write(file, out, bus, settings)


async def _write(file: BinaryIO, out: Path, bus: Bus, settings: Settings) -> Written:
    root = settings.root_key()
    directory, envelopes = await reading.trust(bus, root)
    state = (await bus.api(f"STREAM.INFO.{subjects.JOURNAL}"))["state"]
    head = document.Head(
        format=document.EXPORT_FORMAT,
        origin=words.origin(root),
        keys=tuple(str(key) for key in reading.auditor_keys(directory)),
        trust_root=root,
        exported_at=now(),
        first_seq=state["first_seq"],
        last_seq=state["last_seq"],
    )
    file.write(document.encode(head))
    for envelope in envelopes:
        file.write(document.encode(document.Trusted(envelope=msgspec.Raw(envelope))))
    for stored in await reading.notes(bus):
        file.write(document.encode(document.Note(note=stored.data.decode("utf-8", "replace"))))
    entries = count = 0
    async for lines in _chunks(words.read_lines(bus)):
        file.write(document.encode(document.Lines(first=entries + 1, lines=lines)))
        entries += len(lines)
    with _progress() as progress:
        task = progress.add_task("journal", total=state["messages"])
        async for message in reading.messages(bus, subjects.JOURNAL):
            file.write(document.encode(Message.of(message)))
            count += 1
            progress.advance(task)
    file.write(document.encode(document.End(messages=count, entries=entries)))
    return Written(file=str(out), messages=count, size=entries)


async def _chunks(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, ...]]:
    chunk: list[str] = []
    async for line in lines:
        chunk.append(line)
        if len(chunk) == words.CHUNK:
            yield tuple(chunk)
            chunk.clear()
    if chunk:
        yield tuple(chunk)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@audit.command()
@click.argument("task")
@_OUT
@click.option("--since", type=click.IntRange(1), default=None, help="Size of an older checkpoint to be extended.")
@json_option
@config_option
def prove(task: str, out: Path, since: int | None, as_json: bool, config: Path | None) -> None:
    """Write a proof that all records of TASK are in the log of the newest signed checkpoint."""
    proof = run_async(_prove(task, since or 0, config))
    _open_private(out).write_bytes(document.encode(proof))
    if as_json:
        print_json(Written(file=str(out), messages=len(proof.messages), size=len(proof.messages)))
    else:
        click.echo(f"{out}: {len(proof.messages)} records of task {proof.task_id}")


async def _prove(task: str, since: int, config: Path | None) -> document.Proof:
    async with operator_bus(config) as (settings, bus):
        items = await history(bus, task)
        return await reading.prove(bus, settings.root_key(), items[0].record.header.task_id, since)


@audit.command()
@click.argument("task")
@_OUT
@json_option
@config_option
def report(task: str, out: Path, as_json: bool, config: Path | None) -> None:
    """Write one HTML page on TASK for a regulator: who, what, why, on which facts, approved by whom, and the proof."""
    case = run_async(_report(task, config))
    _open_private(out).write_text(render(case), encoding="utf-8")
    size = len(case.proved.included or {})
    if as_json:
        print_json(Written(file=str(out), messages=len(case.items), size=size))
    else:
        click.echo(f"{out}: {len(case.items)} records of task {case.items[0].record.header.task_id}, {size} audited")


async def _report(task: str, config: Path | None) -> Case:
    async with operator_bus(config) as (settings, bus):
        items = await history(bus, task)
        return await gather(bus, settings.root_key(), items[0].record.header.task_id)


def _open_private(path: Path) -> Path:
    """The path, made for its owner alone where it is not there yet."""
    path.touch(mode=0o600)
    return path


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--key", "keys", multiple=True, metavar="KEY", help="A public key that you trust (`audit status` at home)."
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The auditor's file of checkpoints, from outside of the broker: the log must fit all of them.",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The auditor's own file of lines: names a forged line exactly.",
)
@click.option("--first", type=click.IntRange(1), default=1, help="Records before this sequence were let go by age.")
@click.option("--root", default="", help="The root of trust that you know: it enrolled the keys of policy and people.")
@json_option
def verify(
    file: Path,
    keys: tuple[str, ...],
    checkpoints: Path | None,
    log_file: Path | None,
    first: int,
    root: str,
    as_json: bool,
) -> None:
    """Check FILE, an export or a proof, with public keys alone. Exit 0 intact, 1 not."""
    try:
        trusted = tuple(VerifierKey.parse(key) for key in keys)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--key") from error
    notes = _notes(checkpoints) if checkpoints else ()
    lines = tuple(log_file.read_text(encoding="utf-8", errors="replace").splitlines()) if log_file else ()
    pinned = Pinned(trusted, notes, lines, first, root)
    found = document.read(file)
    verdict = verify_export(found, pinned) if isinstance(found, Export) else verify_proof(found, pinned)
    if as_json:
        print_json(verdict)
    else:
        _tell(verdict, pinned)
    if not verdict.intact:
        raise SystemExit(1)


def _notes(path: Path) -> tuple[str, ...]:
    notes, rest = split_notes(path.read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n\n")
    if rest or not notes:
        raise WorkmeshError(f"{path} is no file of signed checkpoints: {rest[:80]!r} stands in it")
    return tuple(notes)


def _tell(verdict: Verdict, pinned: Pinned) -> None:
    console = stdout()
    table = Table("what", "sequence", "task", "subject", "detail")
    for finding in verdict.findings:
        where = _span(finding.seq, finding.last)
        table.add_row(finding.kind, where, finding.task_id, finding.subject, finding.detail)
    if verdict.findings:
        console.print(table)
    said = "given by you" if pinned.keys else "as the file itself says"
    said += ", checkpoints given by you" if pinned.notes else ""
    said += "" if pinned.is_something else ": give --key or --checkpoints to be sure"
    console.print(f"keys      {said}")
    for key in verdict.keys:
        console.print(f"          {key}")
    console.print(f"log       {verdict.origin}, {verdict.checkpoints} signed checkpoints, {verdict.covered} sequences")
    what = f"records of task {verdict.task_id}" if verdict.task_id else "records"
    later = "" if verdict.task_id else f", {verdict.uncovered} after the last checkpoint (not covered yet)"
    console.print(f"checked   {verdict.messages} {what}{later}")
    if not verdict.task_id:
        unknown = f", {verdict.unknown_keys} of keys that are not enrolled now" if verdict.unknown_keys else ""
        console.print(f"signed    {verdict.signatures} permits and words of people hold{unknown}")
    console.print("intact" if verdict.intact else f"NOT intact: {len(verdict.findings)} findings")


def _span(first: int, last: int) -> str:
    if not first:
        return "-"
    return str(first) if first == last else f"{first} to {last}"
