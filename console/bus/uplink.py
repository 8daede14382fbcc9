"""``workmesh bus uplink`` at a site, and ``workmesh bus site`` at its hub: the site's records are kept there too."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import click
import structlog

from mesh import logs, subjects
from mesh.bus import connect
from mesh.cli import config_option, run_async
from mesh.errors import BusUnavailableError
from mesh.identity import Identity, is_public_key
from mesh.notify import notify
from mesh.operator import operating
from mesh.process import bus_url
from mesh.settings import Settings, load
from mesh.site import Site
from mesh.streams import ensure_streams
from mesh.tls import TlsFiles
from mesh.uplink import Uplink, copies

log = structlog.get_logger(__name__)

ROLE = "uplink"
_RETRY_S = 1.0
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("public_key", metavar="KEY")
@config_option
def site(public_key: str, config: Path | None) -> None:
    """At a hub: make the streams for the copies of a site. KEY is its uplink's public key, or the .pub file."""
    key = read_public_key(public_key)
    run_async(_make(load(config), key))
    name = subjects.site_name(key)
    click.echo(f"site {name}: {', '.join(subjects.site_stream(name, stream) for stream in subjects.UPLINKED)}")


@click.command()
@click.option("--hub", required=True, help="The address of the hub's bus, or of all its servers, joined by commas.")
@click.option("--key", type=_FILE, required=True, help="The uplink's own key, as `workmesh keys new` made it.")
@click.option("--hub-ca", type=_FILE, help="The authority of the hub's servers.")
@click.option("--hub-cert", type=_FILE, help="The certificate to show to them.")
@click.option("--hub-key", type=_FILE, help="Its key.")
@config_option
def uplink(
    hub: str, key: Path, hub_ca: Path | None, hub_cert: Path | None, hub_key: Path | None, config: Path | None
) -> None:
    """At a site: copy its journal and audit to the hub, now and as they grow, until it is stopped.

    The site works on while the hub is away. Any number of uplinks may run: nothing is copied twice.
    """
    settings = load(config)
    logs.configure(settings.log, role=ROLE, instance=settings.instance)
    files = [str(path or "") for path in (hub_ca, hub_cert, hub_key)]
    tls = TlsFiles(*files) if any(files) else None
    run_async(_run(settings, hub, Identity.load(key), tls))


def read_public_key(text: str) -> str:
    """The public key, or what stands in the ``.pub`` file of this name."""
    if Path(text).is_file():
        text = Path(text).read_text(encoding="utf-8").partition(" ")[0]
    if not is_public_key(text):
        raise click.UsageError(f"{text!r} is not a public key ('U...', 56 characters)")
    return text


async def _make(settings: Settings, key: str) -> None:
    options, url = Site(settings).admin.nats_options(), bus_url(settings)
    async with connect(url, name="admin/site", options=options, tls=settings.bus.tls, request_timeout_s=10) as bus:
        await ensure_streams(bus, copies(key), replicas=settings.bus.replicas)


async def _run(settings: Settings, hub_url: str, identity: Identity, tls: TlsFiles | None) -> None:
    copying = asyncio.create_task(_copy(settings, hub_url, identity, tls), name="uplink")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, copying.cancel)
    try:
        await copying
    except asyncio.CancelledError:
        log.info("uplink_stopped")


async def _copy(settings: Settings, hub_url: str, identity: Identity, tls: TlsFiles | None) -> None:
    name = f"{ROLE}/{settings.instance}"
    while True:
        try:
            async with AsyncExitStack() as stack:
                own = await stack.enter_async_context(operating(settings))
                hub = connect(hub_url, name=name, options=identity.nats_options(), tls=tls)
                linked = await stack.enter_async_context(hub)
                group = await stack.enter_async_context(asyncio.TaskGroup())
                for stream in subjects.UPLINKED:
                    group.create_task(Uplink(own, linked, identity.public_key, stream).run(), name=f"uplink-{stream}")
                log.info("uplink_ready", hub=hub_url)
                notify("READY=1")
        except BusUnavailableError as error:
            log.warning("uplink_waits", error=str(error))
            await asyncio.sleep(_RETRY_S)
