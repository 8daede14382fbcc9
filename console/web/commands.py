"""``workmesh console``: the tokens that people sign in to the web console with."""

from datetime import timedelta
from pathlib import Path

import click
from rich.table import Table

from console.web.places import tokens_path
from console.web.tokens import add_token, read_tokens, remove_tokens
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import WorkmeshError
from mesh.operator import operator_bus
from mesh.settings import load
from mesh.trust import TrustDirectory, read_directory


@click.group()
def console() -> None:
    """Sign-in to the web console (which `workmesh up` starts, or `workmesh run console`)."""


@console.command()
@click.argument("person")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How long it lets in.")
@json_option
@config_option
def token(person: str, days: int, as_json: bool, config: Path | None) -> None:
    """Make a token for PERSON, who is enrolled. It is shown once."""
    entry = run_async(_directory(config)).find(person)
    if entry is None or entry.kind != "person" or entry.revoked_at is not None:
        raise WorkmeshError(f"no person {person} is enrolled: `workmesh keys enroll {person}` comes first")
    given = add_token(tokens_path(load(config)), person, timedelta(days=days))
    if as_json:
        print_json({"person": person, "days": days, "token": given})
    else:
        click.echo(given)


@console.command()
@json_option
@config_option
def tokens(as_json: bool, config: Path | None) -> None:
    """List who has a token, and until when."""
    found = read_tokens(tokens_path(load(config)))
    if as_json:
        print_json([{"id": each.id, "person": each.person, "expires_at": each.expires_at} for each in found])
        return
    table = Table("person", "token", "made", "until")
    for each in found:
        table.add_row(each.person, each.id, f"{each.made_at:%Y-%m-%d %H:%M}", f"{each.expires_at:%Y-%m-%d %H:%M}")
    stdout().print(table if found else "nobody has a token: `workmesh console token PERSON`")


@console.command()
@click.argument("person")
@config_option
def revoke(person: str, config: Path | None) -> None:
    """Take PERSON's tokens away, at once: who signed in with one is signed out."""
    count = remove_tokens(tokens_path(load(config)), person)
    click.echo(f"{count} token{'s' if count > 1 else ''} of {person} taken away")


async def _directory(config: Path | None) -> TrustDirectory:
    async with operator_bus(config) as (settings, bus):
        return await read_directory(bus, settings.root_key())
