"""``workmesh keys tls``: a private authority for the bus, and certificates of its servers and clients."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from mesh.certificates import Authority, Certificate, listed
from mesh.cli import json_option, print_json, stdout

_SOON_DAYS = 30


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tls"),
    show_default=True,
    help="Of the authority (ca.pem, ca.key) and all it issues; private keys have mode 0600.",
)
@click.option(
    "--server",
    "servers",
    metavar="NAME=HOST[,HOST]...",
    multiple=True,
    help="A certificate for a server: the names and addresses by which clients and other servers reach it.",
)
@click.option("--client", "clients", metavar="NAME[=HOST]", multiple=True, help="A certificate for a client.")
@click.option("--days", type=click.IntRange(min=1, max=3650), default=365, show_default=True, help="How long it lasts.")
@click.option("--renew", is_flag=True, help="Replace certificates that are there; without it nothing is overwritten.")
@json_option
def tls(
    folder: Path, servers: tuple[str, ...], clients: tuple[str, ...], days: int, renew: bool, as_json: bool
) -> None:
    """Make certificates for the bus, and list those of a folder and when they end.

    The authority is made with the first certificate. Servers read a renewed one with `nats-server --signal reload`,
    processes at their next connection.
    """
    wanted = [*_parsed(servers, server=True), *_parsed(clients, server=False)]
    if wanted:
        authority = Authority.opened(folder)
        for name, hosts, server in wanted:
            authority.issue(name, hosts, server=server, days=days, renew=renew)
    elif renew:
        raise click.UsageError("say which certificates to renew, as --server and --client")
    found = listed(folder)
    if as_json:
        print_json([_plain(each) for each in found])
        return
    table = Table("certificate", "kind", "stands for", "ends", "days left")
    for each in found:
        left = f"{each.days_left}" if each.days_left > _SOON_DAYS else f"{each.days_left}: renew it"
        table.add_row(each.name, each.kind, ", ".join(each.names), f"{each.expires:%Y-%m-%d}", left)
    stdout().print(table)


def _parsed(given: tuple[str, ...], *, server: bool) -> Iterator[tuple[str, list[str], bool]]:
    for text in given:
        name, _, hosts = text.partition("=")
        names = [host.strip() for host in hosts.split(",") if host.strip()]
        if not name or (server and not names):
            raise click.UsageError(f"{text!r}: a server is NAME=HOST[,HOST]..., a client NAME")
        yield name, names, server


def _plain(certificate: Certificate) -> dict[str, Any]:
    return {
        "name": certificate.name,
        "kind": certificate.kind,
        "names": certificate.names,
        "expires": certificate.expires,
        "days_left": certificate.days_left,
    }
