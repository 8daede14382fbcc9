"""``workmesh bus leaf``: the configuration of a leaf node, a server without streams beside some systems."""

from pathlib import Path

import click

from mesh import files
from mesh.cli import config_option
from mesh.natsaccounts import account_of
from mesh.natsconf import Remote, Tls, render
from mesh.permissions import ROLES, BusUser
from mesh.settings import load
from mesh.site import PROCESSES, Site

AT_THE_HUB = tuple(role for role in PROCESSES if ROLES[role].answers)
"""The roles that answer requests: the hub allows answers to clients, not to leaf nodes."""


@click.command()
@click.argument("name")
@click.option("--hub", "urls", multiple=True, required=True, metavar="URL", help="Where it listens for leaf nodes.")
@click.option("--role", "roles", multiple=True, required=True, help="Whose process runs there; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="For <NAME>.conf.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=4222, show_default=True, help="For the roles.")
@click.option("--tls", "tls_dir", type=Path, help="The folder of ca.pem, NAME.pem and NAME.key on its host.")
@click.option("--plain", is_flag=True, help="No TLS, where something else encrypts, or nothing leaves the host.")
@config_option
def leaf(
    name: str,
    urls: tuple[str, ...],
    roles: tuple[str, ...],
    out: Path,
    listen: str,
    port: int,
    tls_dir: Path | None,
    plain: bool,
    config: Path | None,
) -> None:
    """Write the configuration of the leaf node NAME, on which processes of some roles stand beside their systems.

    Run it where the site's keys are. The file has the seeds of these roles' keys, by which the hub knows who speaks:
    it is its owner's alone.
    """
    if plain == (tls_dir is not None):
        raise click.UsageError("say --tls FOLDER (see `workmesh keys tls`), or --plain")
    site = Site(load(config))
    for role in roles:
        if role not in PROCESSES:
            raise click.UsageError(f"--role {role}: the roles are {', '.join(PROCESSES)}")
        if role in AT_THE_HUB:
            raise click.UsageError(
                f"--role {role}: it answers requests, which the hub allows to clients alone: run it there"
            )
    keys = [site.identity(role) for role in dict.fromkeys(roles)]
    users = [BusUser(key.public_key, (key.name,), key.name) for key in keys]
    remotes = [
        Remote(urls, account_of(user), key.path.read_text(encoding="utf-8").strip())
        for key, user in zip(keys, users, strict=True)
    ]
    tls = Tls(str(tls_dir / f"{name}.pem"), str(tls_dir / f"{name}.key"), str(tls_dir / "ca.pem")) if tls_dir else None
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = out / f"{name}.conf"
    files.put(path, render(name=name, host=listen, port=port, store=None, users=users, tls=tls, remotes=remotes))
    click.echo(f"{path}: {', '.join(key.name for key in keys)}; check it with `nats-server -t -c {path}`")
    scheme = "nats" if plain else "tls"
    click.echo(f"settings of the processes there: bus.url = '{scheme}://localhost:{port}'")
