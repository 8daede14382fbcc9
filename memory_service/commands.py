"""The command line of memory, over the bus as the operator; what needs it is signed with a person's own key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.tree import Tree

from memory_service.asking import Asker, read_value, said_by, utc
from memory_service.evaluation.command import evaluate
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import WorkmeshError
from mesh.facts import Cardinality, Claim, FactStatus, Judged, Scope, Slot, Source, SourceKind, ValueType, parse_scope
from mesh.memory import (
    ChangeAnswer,
    FactsRequest,
    ForgetRequest,
    Grounds,
    HistoryLine,
    HistoryRequest,
    MemoryStatus,
    ProbeReport,
    ProbeRequest,
    Question,
    RecallAnswer,
    RecallRequest,
    RememberAnswer,
    RememberRequest,
    ResolveRequest,
    RetractRequest,
    RevokeRequest,
    StatusRequest,
    WhyRequest,
)

_KEY = click.Path(path_type=Path, dir_okay=False, exists=True)
_key = click.option("--key", type=_KEY, envvar="WORKMESH_KEY", help="Your own private key, to sign what needs it.")
_steward = click.option(
    "--key", type=_KEY, envvar="WORKMESH_KEY", required=True, help="Your own private key (role memory_steward)."
)
_reason = click.option("--reason", default="", help="Kept on record.")
_when = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"))
_scope = click.option(
    "--scope",
    "scope",
    default="organisation/-/-",
    show_default=True,
    callback=lambda ctx, param, text: _read_scope(text),
    help="A DOMAIN, organisation/DOMAIN/TENANT or session/DOMAIN/TENANT/SESSION, - for none.",
)


_TYPES = [kind.value for kind in ValueType]
_STATUSES = [*(status.value for status in FactStatus), "any"]


@click.group()
def memory() -> None:
    """What the mesh remembers: facts with their source, their times, and what memory makes of them.

    A SUBJECT that ends in / names all subjects under it.
    """


memory.add_command(evaluate)


@memory.command()
@click.argument("subject")
@click.argument("predicate")
@click.argument("value")
@_scope
@click.option("--source", default="", help="Where this comes from, as a URI; by default you.")
@click.option("--digest", default="", help="Of the source's content: with another one a source corrects itself.")
@click.option("--kind", default="person", type=click.Choice([kind.value for kind in SourceKind]), show_default=True)
@click.option("--authority", default=1, show_default=True, type=click.IntRange(0, 3), help="Above 1 it needs --key.")
@click.option(
    "--type", "type_", default="text", type=click.Choice([kind.value for kind in ValueType]), show_default=True
)
@click.option("--many", is_flag=True, help="The predicate can have several values at a time.")
@click.option("--text", default="", help="The fact in words, to find it by.")
@click.option("--from", "valid_from", type=_when, help="True from this time on (UTC); by default from now.")
@click.option("--to", "valid_to", type=_when, help="True until this time (UTC).")
@click.option("--rests-on", multiple=True, help="The id of a fact that this one is derived from.")
@_key
@config_option
@json_option
def remember(subject: str, predicate: str, value: str, key: Path | None, config: Path | None, as_json: bool,
             **options: Any) -> None:  # fmt: skip
    """Remember that PREDICATE of SUBJECT is VALUE (text, or JSON with --type)."""
    who = said_by(key)
    claim = Claim(
        scope=options["scope"],
        subject=subject,
        predicate=predicate,
        value=read_value(value, ValueType(options["type_"])),
        type=ValueType(options["type_"]),
        text=options["text"],
        cardinality=Cardinality.MANY if options["many"] else Cardinality.ONE,
        source=Source(
            uri=options["source"] or f"{who}:said",
            digest=options["digest"],
            kind=SourceKind(options["kind"]),
            authority=options["authority"],
        ),
        derived_from=options["rests_on"],
        valid_from=utc(options["valid_from"]),
        valid_to=utc(options["valid_to"]),
    )
    request = RememberRequest(claims=(claim,), by=who)
    answer = run_async(Asker(config, key).may_sign("remember", request, RememberAnswer))
    _tell(answer, as_json, lambda: click.echo(_line(answer.facts[0])))


@memory.command()
@click.argument("query", default="")
@_scope
@click.option("--subject", default="", help="Of this subject only; a prefix ends in /.")
@click.option("--predicate", default="", help="Of this predicate only.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 100), help="At most so many facts.")
@click.option("--tokens", default=0, type=click.IntRange(0), help="At most so many tokens of text; 0 is no bound.")
@click.option("--min-authority", default=0, type=click.IntRange(0, 3), help="Of this authority or more.")
@click.option("--valid-at", type=_when, help="What was true then (UTC).")
@click.option("--known-at", type=_when, help="What memory held then (UTC).")
@config_option
@json_option
def recall(query: str, config: Path | None, as_json: bool, **options: Any) -> None:
    """Find facts that stand: the best for the words of QUERY, or else the newest."""
    asked = Question(
        scope=options["scope"],
        subject=options["subject"],
        predicate=options["predicate"],
        query=query,
        limit=options["limit"],
        token_budget=options["tokens"],
        min_authority=options["min_authority"],
        valid_at=utc(options["valid_at"]),
        known_at=utc(options["known_at"]),
    )
    answer = run_async(Asker(config).ask("recall", RecallRequest(questions=(asked,)), RecallAnswer))
    found = answer.facts[0]
    columns = ("fact", "subject", "predicate", "text", "version", "authority", "source", "score")
    rows = [
        (f.id, f.subject, f.predicate, f.text, str(f.version), str(f.authority), f.source, f"{f.score:.3f}")
        for f in found
    ]
    _tell(found, as_json, lambda: _print_table(columns, rows, "nothing stands that fits"))


@memory.command()
@click.argument("subject", default="")
@_scope
@click.option(
    "--status",
    default="current",
    type=click.Choice([*(status.value for status in FactStatus), "any"]),
    show_default=True,
)
@config_option
@json_option
def facts(subject: str, scope: Scope, status: str, config: Path | None, as_json: bool) -> None:
    """List facts of SUBJECT, or of the whole scope."""
    wanted = None if status == "any" else FactStatus(status)
    _list(Asker(config), FactsRequest(scope=scope, subject=subject, status=wanted), as_json)


@memory.command()
@_scope
@config_option
@json_option
def contested(scope: Scope, config: Path | None, as_json: bool) -> None:
    """List what waits for a person: claims that contradict each other, and which of them stands until then."""
    _list(Asker(config), FactsRequest(scope=scope, status=FactStatus.CONTESTED), as_json)


@memory.command()
@click.argument("subject")
@click.argument("predicate")
@_scope
@config_option
@json_option
def history(subject: str, predicate: str, scope: Scope, config: Path | None, as_json: bool) -> None:
    """Tell all that was recorded of PREDICATE of SUBJECT, oldest first, and what is made of it now."""
    request = HistoryRequest(slot=Slot(scope=scope, subject=subject, predicate=predicate))
    lines = run_async(Asker(config).ask("history", request, tuple[HistoryLine, ...]))
    rows: list[tuple[str, ...]] = []
    for line in lines:
        when, reason = f"{line.at:%Y-%m-%d %H:%M:%S}", line.reason
        rows += [
            (when, line.by, "asserted", f.fact.id, bytes(f.fact.value).decode(), f.status, f.reason) for f in line.facts
        ] or [(when, line.by, line.what, "", "", "", reason)]
    columns = ("at", "by", "what", "fact", "value", "is now", "because")
    _tell(lines, as_json, lambda: _print_table(columns, rows, ""))


@memory.command()
@click.argument("fact")
@config_option
@json_option
def why(fact: str, config: Path | None, as_json: bool) -> None:
    """Show what FACT rests on: its source, the records, and the facts that it was derived from."""
    grounds = run_async(Asker(config).ask("why", WhyRequest(id=fact), Grounds))
    _tell(grounds, as_json, lambda: stdout().print(_tree(grounds)))


@memory.command()
@click.argument("fact", nargs=-1, required=True)
@_reason
@_key
@config_option
@json_option
def retract(fact: tuple[str, ...], reason: str, key: Path | None, config: Path | None, as_json: bool) -> None:
    """Retract FACTs of one authority or less, or with --key: what was derived from them becomes contested."""
    request = RetractRequest(ids=fact, by=said_by(key), reason=reason)
    _changed(run_async(Asker(config, key).may_sign("retract", request, ChangeAnswer)), as_json)


@memory.command()
@click.argument("fact")
@click.option("--none", "is_none", is_flag=True, help="Have none of the facts stand beside FACT, nor FACT itself.")
@_reason
@_steward
@config_option
@json_option
def resolve(fact: str, is_none: bool, reason: str, key: Path, config: Path | None, as_json: bool) -> None:
    """Have FACT stand, and what contradicts it not; canonical or not."""

    async def choose() -> ChangeAnswer:
        asker = Asker(config, key)
        seen = await asker.slot_of(fact)
        request = ResolveRequest(
            slot=seen[-1].fact.slot, chosen="" if is_none else fact, seen=seen[-1].fact.version, reason=reason
        )
        return await asker.sign("resolve", request, ChangeAnswer)

    _changed(run_async(choose()), as_json)


@memory.command()
@click.option("--source", required=True, help="The URI of the source, as facts have it.")
@_reason
@_steward
@config_option
@json_option
def revoke(source: str, reason: str, key: Path, config: Path | None, as_json: bool) -> None:
    """Believe a source no more: all it said and will say is retracted, with what was derived from it."""
    request = RevokeRequest(source=source, reason=reason)
    _changed(run_async(Asker(config, key).sign("revoke", request, ChangeAnswer)), as_json)


@memory.command()
@click.argument("subject")
@_scope
@_reason
@_steward
@config_option
@json_option
def forget(subject: str, scope: Scope, reason: str, key: Path, config: Path | None, as_json: bool) -> None:
    """Forget SUBJECT for good: out of the stream, the tables, the index and what agents keep."""
    request = ForgetRequest(scope=scope, subject=subject, reason=reason)
    answer = run_async(Asker(config, key).sign("forget", request, ChangeAnswer, timeout_s=30))
    _tell(answer, as_json, lambda: click.echo(f"{subject}: forgotten ({answer.changed} events erased)"))


@memory.command()
@config_option
@json_option
def status(config: Path | None, as_json: bool) -> None:
    """Show how many facts there are, what is contested, and how the index is."""
    _status(run_async(Asker(config).ask("status", StatusRequest(), MemoryStatus)), as_json)


@memory.command()
@config_option
@json_option
def probe(config: Path | None, as_json: bool) -> None:
    """Ask questions with known answers now, and show how many were found, in which order, and how fast."""
    found = run_async(Asker(config).ask("probe", ProbeRequest(), ProbeReport, timeout_s=30))
    text = (
        f"{found.probes} probes: recall@10 {found.recall_10:.3f}, nDCG@10 {found.ndcg_10:.3f}, "
        f"{found.stale_hits} stale hits, p99 {found.p99_ms:.1f} ms"
    )
    _tell(found, as_json, lambda: click.echo(text))


@memory.command()
@click.option("--wait", is_flag=True, help="Return when it is done, and show how far it is until then.")
@config_option
@json_option
def reindex(wait: bool, config: Path | None, as_json: bool) -> None:
    """Build the index anew from the facts; answers go on meanwhile."""
    _status(run_async(Asker(config).reindex(wait=wait)), as_json)


def _list(asker: Asker, request: FactsRequest, as_json: bool) -> None:
    found = run_async(asker.pages(request))
    rows = [
        (
            *(judged.fact.id, judged.fact.subject, judged.fact.predicate, bytes(judged.fact.value).decode()),
            *(judged.status, judged.fact.source.uri, judged.reason),
        )
        for judged in found
    ]
    columns = ("fact", "subject", "predicate", "value", "status", "source", "because")
    _tell(found, as_json, lambda: _print_table(columns, rows, "no facts"))


def _changed(answer: ChangeAnswer, as_json: bool) -> None:
    _tell(answer, as_json, lambda: click.echo("\n".join(_line(judged) for judged in answer.facts) or "nothing changed"))


def _line(judged: Judged) -> str:
    fact = judged.fact
    because = f" ({judged.reason})" if judged.reason else ""
    return f"{fact.id}: {fact.subject} {fact.predicate} {bytes(fact.value).decode()} is {judged.status}{because}"


def _tree(grounds: Grounds) -> Tree:
    fact = grounds.judged.fact
    tree = Tree(_line(grounds.judged))
    tree.add(f"source {fact.source.uri} ({fact.source.kind}, authority {fact.source.authority})")
    tree.add(f"said by {fact.asserted_by} at {fact.recorded_at:%Y-%m-%d %H:%M:%S} (MEMORY {grounds.seq})")
    for record in fact.evidence:
        tree.add(f"record {record.subject} ({record.stream} {record.seq})")
    for ground in grounds.grounds:
        tree.add(_tree(ground))
    return tree


def _status(found: MemoryStatus, as_json: bool) -> None:
    text = (
        f"{found.facts} facts, {found.contested} contested; index {found.index} ({found.model}): "
        f"{found.indexed} of {found.documents} documents; read to {found.seq}"
    )
    _tell(found, as_json, lambda: click.echo(text))


def _tell(found: Any, as_json: bool, show: Any) -> None:
    if as_json:
        print_json(found)
    else:
        show()


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], nothing: str) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    stdout().print(table if rows else nothing)


def _read_scope(text: str) -> Scope:
    try:
        return parse_scope(text) if "/" in text else Scope(domain=text)
    except WorkmeshError as error:
        raise click.BadParameter(str(error)) from error
