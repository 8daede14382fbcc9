"""``workmesh bus config``: the configuration files of the NATS servers of a site, one for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from console.bus.uplink import ROLE, read_public_key
from mesh.cli import config_option, json_option, print_json
from mesh.errors import SettingsError
from mesh.identity import is_public_key
from mesh.natsconf import Cluster, Leaf, Quotas, Tls, render
from mesh.permissions import ROLES, BusUser
from mesh.settings import load
from mesh.site import Site

_CLIENTS, _ROUTES = 4222, 6222
_SUFFIX = ".nk.pub"


@dataclass(frozen=True, slots=True)
class _Server:
    """A server: its name, and where clients and the other servers reach it."""

    name: str
    host: str
    port: int
    routes: int


@click.command()
@click.option(
    "--server",
    "servers",
    metavar="NAME=HOST[:PORT[:ROUTES]]",
    multiple=True,
    required=True,
    help=f"A server, where clients ({_CLIENTS}) and the other servers ({_ROUTES}) reach it. One, or three, or five.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="For <server>.conf.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option("--cluster", "cluster_name", default="workmesh", show_default=True, help="The cluster's name.")
@click.option("--store", type=Path, default=Path("/var/lib/nats"), show_default=True, help="Of the streams.")
@click.option("--log-file", type=Path, help="Instead of stderr; 3 files of 16 MiB are kept.")
@click.option("--tls", "tls_dir", type=Path, help="The folder of ca.pem, <server>.pem and <server>.key on its host.")
@click.option("--plain", is_flag=True, help="No TLS, where something else encrypts, or nothing leaves the host.")
@click.option("--client-certificates/--no-client-certificates", default=True, show_default=True, help="Ask for them.")
@click.option("--public-keys", type=click.Path(path_type=Path, exists=True, file_okay=False), help="See below.")
@click.option("--uplink", "uplinks", multiple=True, metavar="KEY", help="Of a site whose hub this is: its public key.")
@click.option(
    "--max-file-store", type=click.IntRange(min=0), default=0, help="Bytes; 0: three quarters of what is free."
)
@click.option("--max-disk", type=click.IntRange(min=-1), default=-1, help="Bytes of all streams, each replica counted.")
@click.option("--max-streams", type=click.IntRange(min=-1), default=32, show_default=True)
@click.option("--max-consumers", type=click.IntRange(min=-1), default=1024, show_default=True, help="Of one stream.")
@click.option("--max-connections", type=click.IntRange(min=-1), default=256, show_default=True, help="Of one role.")
@click.option(
    "--monitor-port", type=click.IntRange(0, 65_535), default=0, help="On loopback, of every server; 0: none."
)
@click.option(
    "--leaf-port", type=click.IntRange(0, 65_535), default=0, help="For leaf nodes (`workmesh bus leaf`); 0: none."
)
@json_option
@config_option
def config(
    servers: tuple[str, ...],
    out: Path,
    listen: str,
    cluster_name: str,
    store: Path,
    log_file: Path | None,
    tls_dir: Path | None,
    plain: bool,
    client_certificates: bool,
    public_keys: Path | None,
    uplinks: tuple[str, ...],
    max_file_store: int,
    max_disk: int,
    max_streams: int,
    max_consumers: int,
    max_connections: int,
    monitor_port: int,
    leaf_port: int,
    as_json: bool,
    config: Path | None,
) -> None:
    """Write the configuration of each NATS server: accounts, keys with their roles' subjects, TLS, quotas.

    The keys are those of the site's folder. Where roles have keys on other hosts, collect their public parts in a
    folder and give it as --public-keys: the files are named ROLE.nk.pub, or ROLE@ANYTHING.nk.pub.
    """
    if plain == (tls_dir is not None):
        raise click.UsageError("say --tls FOLDER (see `workmesh keys tls`), or --plain")
    users = _of_files(public_keys) if public_keys else Site(load(config)).users()
    users += tuple(BusUser(read_public_key(key), (ROLE,), ROLE) for key in uplinks)
    members = [_parsed(text) for text in servers]
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for member in members:
        tls = _tls(tls_dir, member.name, client_certificates) if tls_dir else None
        text = render(
            name=member.name,
            host=listen,
            port=member.port,
            store=store,
            log_file=log_file,
            users=users,
            max_file_store=max_file_store,
            cluster=_cluster(cluster_name, member, members),
            tls=tls,
            quotas=Quotas(max_disk, max_streams, max_consumers, max_connections),
            monitor_port=monitor_port,
            leaf=Leaf(leaf_port) if leaf_port else None,
        )
        path = out / f"{member.name}.conf"
        path.write_bytes(text)
        written.append(path)
    _tell(written, members, users, "nats" if plain else "tls", as_json)


def _tell(
    written: Sequence[Path], members: Sequence[_Server], users: Sequence[BusUser], scheme: str, as_json: bool
) -> None:
    url = ",".join(f"{scheme}://{member.host}:{member.port}" for member in members)
    replicas = 3 if len(members) >= 3 else 1
    if as_json:
        print_json({"files": [str(path) for path in written], "users": len(users), "url": url, "replicas": replicas})
        return
    for path in written:
        click.echo(f"{path}: {len(users)} users; check it with `nats-server -t -c {path}`")
    click.echo(f"settings of the processes: bus.url = {url!r}, bus.replicas = {replicas}")


def _parsed(text: str) -> _Server:
    name, _, address = text.partition("=")
    host, *ports = address.split(":")
    if not name or not host or len(ports) > 2 or not all(port.isdigit() for port in ports):
        raise click.UsageError(f"--server {text}: expected NAME=HOST[:PORT[:ROUTES]]")
    numbers = [int(port) for port in ports]
    return _Server(name, host, *(numbers + [_CLIENTS, _ROUTES][len(numbers) :]))


def _cluster(name: str, own: _Server, members: Sequence[_Server]) -> Cluster | None:
    others = tuple(f"nats://{other.host}:{other.routes}" for other in members if other is not own)
    return Cluster(name, own.routes, others) if others else None


def _tls(folder: Path, name: str, clients: bool) -> Tls:
    return Tls(str(folder / f"{name}.pem"), str(folder / f"{name}.key"), str(folder / "ca.pem"), clients)


def _of_files(folder: Path) -> tuple[BusUser, ...]:
    return tuple(_users(folder))


def _users(folder: Path) -> Iterator[BusUser]:
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    if not paths:
        raise SettingsError(f"no public keys in {folder}: expected files named ROLE{_SUFFIX}")
    for path in paths:
        role = path.name.removesuffix(_SUFFIX).partition("@")[0]
        key = path.read_text(encoding="utf-8").split(maxsplit=1)[0]
        if role not in ROLES:
            raise SettingsError(f"{path}: there is no role {role!r}: the roles are {', '.join(ROLES)}")
        if not is_public_key(key):
            raise SettingsError(f"{path} does not begin with a public key ('U...')")
        yield BusUser(key, (role,), role)
