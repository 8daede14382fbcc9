"""``workmesh keys``: people's own keys, and their enrollment with roles by the site's root key."""

from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.table import Table

from console.tls import tls
from mesh import subjects
from mesh.bus import connect
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.identity import Identity, is_public_key
from mesh.natsconf import render_user
from mesh.permissions import BusUser
from mesh.process import bus_url
from mesh.settings import Settings, load
from mesh.site import ADMIN, RENEWABLE, Site, entry_of
from mesh.trust import TrustEntry, enroll, read_directory, revoke

_PUBLISHER = "publisher"


@click.group()
def keys() -> None:
    """Make keys, enroll people, revoke, give processes new keys."""


keys.add_command(tls)


@keys.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path.home() / ".config" / "workmesh" / "keys",
    show_default=True,
    help="Where the private key is put (mode 0600).",
)
def new(name: str, folder: Path) -> None:
    """Make a key of your own. Give only the printed public key away."""
    identity = Identity.create(folder / f"{name}.nk", name)
    click.echo(f"private key {identity.path}")
    click.echo(f"public key  {identity.public_key}")


@keys.command("enroll")
@click.argument("name")
@click.option("--public-key", required=True, help="As `workmesh keys new` printed it ('U...'), or the .pub file.")
@click.option("--role", "roles", multiple=True, required=True, help="May be given several times.")
@click.option("--kind", type=click.Choice(["person", "agent", "service"]), default="person", show_default=True)
@config_option
def enroll_(
    name: str,
    public_key: str,
    roles: tuple[str, ...],
    kind: Literal["person", "agent", "service"],
    config: Path | None,
) -> None:
    """Trust NAME's key with roles; signed with the site's root key."""
    if Path(public_key).is_file():
        public_key = Path(public_key).read_text(encoding="utf-8").split()[0]
    if not is_public_key(public_key):
        raise click.UsageError(f"{public_key!r} is not a public key ('U...', 56 characters)")
    entry = TrustEntry(name=name, public_key=public_key, kind=kind, roles=roles, enrolled_at=now())
    run_async(_enroll(load(config), entry))
    click.echo(f"{name} is enrolled as {', '.join(roles)}")


@keys.command("revoke")
@click.argument("name")
@config_option
def revoke_(name: str, config: Path | None) -> None:
    """Take NAME's trust away, at once, until NAME is enrolled again; from a process of the site also the bus."""
    settings = load(config)
    if name != _PUBLISHER:
        run_async(_revoke(settings, name))
    click.echo(f"{name} is revoked")
    if name in RENEWABLE:
        site = Site(settings)
        site.cut_off(name)
        _tell_bus(settings, site.identity(name).public_key, None)


@keys.command()
@click.argument("role", type=click.Choice(RENEWABLE))
@config_option
def rotate(role: str, config: Path | None) -> None:
    """Give ROLE a new key, and take trust and the bus away from the old one, at once.

    What the old key signed is refused from now on: tasks that the old policy key permitted and that were not begun end
    as refused.
    """
    settings = load(config)
    old, user = run_async(_rotate(settings, role))
    click.echo(f"{role} has a new key {user.public_key}; {old} is revoked")
    _tell_bus(settings, old, user)


def _tell_bus(settings: Settings, old: str, new: BusUser | None) -> None:
    """Say what the bus makes of it: the embedded one by itself, another one must be told."""
    if not settings.bus.url:
        click.echo("a running `workmesh up` takes the bus away from the old key and restarts the process")
        return
    click.echo(f"now take the user {old} out of the configuration of your servers at {settings.bus.url}", err=True)
    if new is not None:
        click.echo("and put in its place:", err=True)
        click.echo(render_user(new).decode())
        click.echo("bring the new key file to the hosts where the role runs, and restart it there", err=True)
    click.echo("then have each server read it again: nats-server --signal reload", err=True)


@keys.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List who is trusted with what."""
    entries = run_async(_entries(load(config)))
    if as_json:
        print_json(entries)
        return
    table = Table("name", "kind", "roles", "public key", "enrolled", "revoked")
    for entry in entries:
        revoked = f"{entry.revoked_at:%Y-%m-%d %H:%M}" if entry.revoked_at else ""
        table.add_row(
            entry.name,
            entry.kind,
            ", ".join(entry.roles),
            entry.public_key,
            f"{entry.enrolled_at:%Y-%m-%d %H:%M}",
            revoked,
        )
    stdout().print(table)


def _admin(settings: Settings) -> Identity:
    path = settings.state_dir / "keys" / f"{ADMIN}.nk"
    if not path.exists():
        raise WorkmeshError(f"only the holder of the root key may do this: {path} is not there")
    return Identity.load(path)


async def _enroll(settings: Settings, entry: TrustEntry) -> None:
    root = _admin(settings)
    async with connect(bus_url(settings), name="admin/keys", options=root.nats_options(), tls=settings.bus.tls) as bus:
        await enroll(await bus.client.jetstream().key_value(subjects.TRUST_BUCKET), root, entry)


async def _revoke(settings: Settings, name: str) -> None:
    root = _admin(settings)
    async with connect(bus_url(settings), name="admin/keys", options=root.nats_options(), tls=settings.bus.tls) as bus:
        await revoke(await bus.client.jetstream().key_value(subjects.TRUST_BUCKET), root, name)


async def _rotate(settings: Settings, role: str) -> tuple[str, BusUser]:
    """The old key is refused before the new one is trusted; a crash between leaves the role without a key in force."""
    root = _admin(settings)
    site = Site(settings)
    async with connect(bus_url(settings), name="admin/keys", options=root.nats_options(), tls=settings.bus.tls) as bus:
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        old = site.identity(role).public_key
        enrolled = entry_of(site.identity(role))
        gone = msgspec.structs.replace(enrolled, name=f"{role}_{old[:16]}", revoked_at=now())
        await enroll(bucket, root, gone)
        _, identity = site.renew(role)
        if role != _PUBLISHER:  # it signs nothing
            await enroll(bucket, root, entry_of(identity))
    return old, BusUser(identity.public_key, (role,), role)


async def _entries(settings: Settings) -> tuple[TrustEntry, ...]:
    options = Identity.load(settings.identity_path("operator")).nats_options()
    async with connect(bus_url(settings), name="operator/keys", options=options, tls=settings.bus.tls) as bus:
        return (await read_directory(bus, settings.root_key())).entries()
