"""``workmesh intake``: the tokens of senders, and the originals of what came in."""

import sys
from pathlib import Path

import click
from rich.table import Table

from agents.intake.process import tokens_path
from agents.intake.tokens import add_token, remove_token, tokens_of
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.operator import operator_bus
from mesh.originals import Originals
from mesh.settings import load


@click.group()
def intake() -> None:
    """What comes in by HTTP, mail, files and tables."""


@intake.command()
@click.argument("name")
@click.option("--domain", "domains", multiple=True, help="Only events of this domain (several are possible).")
@json_option
@config_option
def token(name: str, domains: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Make a token for the sender NAME. It is shown once."""
    given = add_token(tokens_path(load(config)), name, domains)
    if as_json:
        print_json({"name": name, "domains": list(domains), "token": given})
    else:
        click.echo(given)


@intake.command()
@click.argument("name")
@config_option
def revoke(name: str, config: Path | None) -> None:
    """Take the token of NAME away, at once."""
    remove_token(tokens_path(load(config)), name)
    click.echo(f"{name} may send no more")


@intake.command()
@json_option
@config_option
def tokens(as_json: bool, config: Path | None) -> None:
    """List who has a token."""
    found = tokens_of(tokens_path(load(config))).read()
    if as_json:
        print_json([{"name": each.name, "domains": list(each.domains)} for each in found])
        return
    table = Table("sender", "domains")
    for each in found:
        table.add_row(each.name, ", ".join(each.domains) or "all")
    stdout().print(table if found else "nobody has a token: `workmesh intake token NAME`")


@intake.command()
@click.argument("digest")
@config_option
def original(digest: str, config: Path | None) -> None:
    """Write the bytes of the original with this DIGEST (SHA-256) to standard output."""
    sys.stdout.buffer.write(run_async(_original(digest, config)))


async def _original(digest: str, config: Path | None) -> bytes:
    async with operator_bus(config) as (_, bus):
        return await Originals(bus).read(digest)
