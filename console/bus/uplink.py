"""``workmesh bus uplink`` at a site, and ``workmesh bus site`` at its hub: the site's records are kept there too."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import click
import structlog

from console.bus.linking import Linking
from mesh import downlink, logs, subjects
from mesh.bus import connect
from mesh.cli import config_option, run_async
from mesh.errors import BusUnavailableError
from mesh.facts import Level, Scope, parse_scope
from mesh.identity import Identity, is_public_key
from mesh.notify import notify
from mesh.operator import operating
from mesh.process import bus_url
from mesh.settings import Settings, load
from mesh.site import Site
from mesh.streams import ensure_streams
from mesh.tls import TlsFiles
from mesh.uplink import copies

log = structlog.get_logger(__name__)

ROLE = "uplink"
_RETRY_S = 1.0
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("public_key", metavar="KEY")
@click.option(
    "--facts",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="What of the hub's memory it is given, as organisation/DOMAIN/TENANT (- for none); may be repeated.",
)
@click.option("--again", is_flag=True, help="Give all of it again, from the first on: the site was restored.")
@config_option
def site(public_key: str, scopes: tuple[str, ...], again: bool, config: Path | None) -> None:
    """At a hub: make the streams for the copies of a site, and for what is sent to it.

    KEY is its uplink's public key, or the .pub file. Scopes that --facts does not name are not given any more.
    """
    key = read_public_key(public_key)
    given = [parse_scope(text) for text in dict.fromkeys(scopes)]
    if any(scope.level is not Level.ORGANISATION for scope in given):
        raise click.UsageError("a session's facts are gone with it: give scopes of the organisation")
    run_async(_make(load(config), key, given, again))
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

    Where the setting hub.site names the site, bundles and facts that the hub has for it come down, too. The site works
    on while the hub is away. Any number of uplinks may run: nothing is copied twice, and nothing counts twice.
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


async def _make(settings: Settings, key: str, scopes: Sequence[Scope], again: bool) -> None:
    options, url = Site(settings).admin.nats_options(), bus_url(settings)
    async with connect(url, name="admin/site", options=options, tls=settings.bus.tls, request_timeout_s=10) as bus:
        replicas = settings.bus.replicas
        await ensure_streams(bus, (*copies(key), downlink.STREAM), replicas=replicas)
        await downlink.ensure_site(bus, subjects.site_name(key), scopes, replicas=replicas, again=again)


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
                linking = Linking(settings, own, linked, identity)
                group = await stack.enter_async_context(asyncio.TaskGroup())
                for what, work in linking.work():
                    group.create_task(work, name=f"uplink-{what}")
                log.info("uplink_ready", hub=hub_url, site=settings.hub.site)
                notify("READY=1")
        except BusUnavailableError as error:
            log.warning("uplink_waits", error=str(error))
            await asyncio.sleep(_RETRY_S)
