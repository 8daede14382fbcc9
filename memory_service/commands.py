"""The command line of memory: ``memory remember|recall|facts|history|forget``, over the bus as the operator."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from memory_service.requests import FactsPage, FactsRequest, HistoryRequest
from mesh import logs, service
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, stdout
from mesh.facts import FactEvent, FactStatus, ForgetRequest, Provenance, RecalledFact, RecallRequest, RememberRequest
from mesh.operator import ROLE, operator_bus
from mesh.settings import LogSettings

_source = click.option("--source", default=ROLE, show_default=True, help="Where this comes from: a document, a URI.")


@click.group()
def memory() -> None:
    """What the mesh remembers: facts with where they came from. A SCOPE that ends in / names all scopes under it."""


@memory.command()
@click.argument("scope")
@click.argument("key")
@click.argument("text")
@_source
@config_option
@json_option
def remember(scope: str, key: str, text: str, source: str, config: Path | None, as_json: bool) -> None:
    """Remember TEXT under SCOPE and KEY, in place of what stands there."""
    request = RememberRequest(scope=scope, key=key, text=text, provenance=_provenance(source))
    fact = _on_bus(config, lambda bus: service.ask(bus, "memory", "remember", request, FactEvent))
    if as_json:
        print_json(fact)
    else:
        click.echo(f"{fact.scope} {fact.key}: version {fact.version}")


@memory.command()
@click.argument("scope")
@click.argument("query", default="")
@click.option("--key", default="", help="The fact of exactly this key.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 50), help="At most so many facts.")
@config_option
@json_option
def recall(scope: str, query: str, key: str, limit: int, config: Path | None, as_json: bool) -> None:
    """Find facts of SCOPE: the best for the words of QUERY, or else the newest."""
    request = RecallRequest(scope=scope, query=query, key=key, limit=limit)
    found = _on_bus(config, lambda bus: service.ask(bus, "memory", "recall", request, tuple[RecalledFact, ...]))
    if as_json:
        print_json(found)
    else:
        rows = [
            (fact.scope, fact.key, fact.text, str(fact.version), fact.source, f"{fact.score:.3f}") for fact in found
        ]
        _print_table(("scope", "key", "text", "version", "source", "score"), rows)


@memory.command()
@click.argument("scope")
@config_option
@json_option
def facts(scope: str, config: Path | None, as_json: bool) -> None:
    """List all facts of SCOPE."""
    found = _on_bus(config, lambda bus: all_facts(bus, scope))
    if as_json:
        print_json(found)
    else:
        rows = [(fact.scope, fact.key, fact.text, str(fact.version), fact.provenance.source) for fact in found]
        _print_table(("scope", "key", "text", "version", "source"), rows)


@memory.command()
@click.argument("scope")
@click.argument("key")
@config_option
@json_option
def history(scope: str, key: str, config: Path | None, as_json: bool) -> None:
    """List the versions of one fact (the last 50), oldest first: who wrote or forgot it, when, and from what."""
    request = HistoryRequest(scope=scope, key=key)
    found = _on_bus(config, lambda bus: service.ask(bus, "memory", "history", request, tuple[FactEvent, ...]))
    if as_json:
        print_json(found)
        return
    rows = []
    for fact in found:
        said = fact.provenance
        when = fact.at.isoformat(timespec="seconds")
        rows.append((str(fact.version), fact.status, when, said.person or said.writer, said.source, fact.text))
    _print_table(("version", "status", "at", "by", "source", "text"), rows)


@memory.command()
@click.argument("scope")
@click.argument("key")
@_source
@config_option
@json_option
def forget(scope: str, key: str, source: str, config: Path | None, as_json: bool) -> None:
    """Forget the fact of SCOPE and KEY: it is not recalled again, and that it was forgotten stays on record."""
    request = ForgetRequest(scope=scope, key=key, provenance=_provenance(source))
    fact = _on_bus(config, lambda bus: service.ask(bus, "memory", "forget", request, FactEvent))
    if as_json:
        print_json(fact)
    else:
        click.echo(f"{fact.scope} {fact.key}: {FactStatus.FORGOTTEN} (version {fact.version})")


async def all_facts(bus: Bus, scope: str) -> list[FactEvent]:
    """All current facts of a scope, page by page."""
    found: list[FactEvent] = []
    after = ("", "")
    while True:
        page = await service.ask(bus, "memory", "facts", FactsRequest(scope=scope, after=after), FactsPage)
        found += page.facts
        if not page.more:
            return found
        after = (found[-1].scope, found[-1].key)


def _on_bus(config: Path | None, ask: Callable[[Bus], Awaitable[Any]]) -> Any:
    """The answer of one conversation with the service; stdout is kept for it."""
    logs.configure(LogSettings(level="error"), role=ROLE, instance="cli")

    async def run() -> Any:
        async with operator_bus(config) as (_, bus):
            return await ask(bus)

    return asyncio.run(run())


def _provenance(source: str) -> Provenance:
    return Provenance(writer=ROLE, source=source, person=_person())


def _person() -> str:
    """The login name of whoever types; "" where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    stdout().print(table if rows else "no facts")
