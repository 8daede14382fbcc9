"""``workmesh bus make``: what a site needs on a bus of its own servers, made without ``workmesh up``.

The rule: doing it again changes nothing; it is also how a new release brings what it needs.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from mesh import streams
from mesh.bus import Bus, connect
from mesh.cli import config_option, json_option, print_json, run_async
from mesh.errors import BusUnavailableError, SettingsError, WorkmeshError
from mesh.pack import load_packs
from mesh.settings import load
from mesh.site import ADMIN, RENEWABLE, Site
from mesh.trust import read_directory

_RETRY_S = 0.5


@click.command("make")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, help="Seconds for the bus to be there.")
@json_option
@config_option
def make(wait_s: float, as_json: bool, config: Path | None) -> None:
    """Make what a site needs on the bus of bus.url: streams, buckets, consumers, trust, the packs' policies.

    Needs the site's keys with the root key (keys/ of the state folder). Doing it twice changes nothing; do it after
    each upgrade.
    """
    settings = load(config)
    if not settings.bus.url:
        raise SettingsError("bus.url is not set: `workmesh up` makes what the embedded bus needs by itself")
    root = settings.state_dir / "keys" / f"{ADMIN}.nk"
    if not root.exists():
        raise WorkmeshError(f"{root} is not there: `workmesh bus config` makes the keys of a new site")
    missing = [name for name in RENEWABLE if not (root.with_name(f"{name}.nk")).exists()]
    made = run_async(_make(Site(settings), wait_s)) | {"new_keys": missing}
    if as_json:
        print_json(made)
        return
    new = ", ".join(made["created"]) or "nothing, all was there"
    click.echo(f"{made['url']}: made {new}")
    if missing:
        click.echo(f"new keys in {root.parent}, which the servers do not know yet: {', '.join(missing)}")
    click.echo(f"trusted: {', '.join(made['trusted'])}; policies of {', '.join(made['policies']) or 'no pack'}")


async def _make(site: Site, wait_s: float) -> dict[str, Any]:
    bus_settings = site.settings.bus
    options = site.admin.nats_options()
    await _answering(site, wait_s)
    async with connect(
        bus_settings.url, name="admin/make", options=options, tls=bus_settings.tls, request_timeout_s=10
    ) as bus:
        before = await _there(bus)
        await site.bootstrap(bus_settings.url)
        after = await _there(bus)
        trust = await read_directory(bus, site.admin.public_key)
    return {
        "url": bus_settings.url,
        "root": site.admin.public_key,
        "replicas": bus_settings.replicas,
        "created": sorted(after - before),
        "trusted": sorted(entry.name for entry in trust.entries() if entry.revoked_at is None),
        "policies": sorted(load_packs()),
    }


async def _answering(site: Site, wait_s: float) -> None:
    """Return when JetStream answers: servers of a new cluster need some seconds to choose a leader."""
    settings, end = site.settings.bus, time.monotonic() + wait_s
    while True:
        try:
            options = site.admin.nats_options()
            async with connect(settings.url, name="admin/make", options=options, tls=settings.tls) as bus:
                answer = await bus.api("INFO")
            if "error" not in answer:
                return
            reason = str(answer["error"].get("description"))
        except BusUnavailableError as error:
            reason = str(error)
        if time.monotonic() >= end:
            raise BusUnavailableError(f"JetStream of {settings.url} does not answer: {reason}")
        await asyncio.sleep(_RETRY_S)


async def _there(bus: Bus) -> set[str]:
    """The streams, buckets and consumers of a site that exist."""
    names = (*streams.STREAM_NAMES, *(f"KV_{bucket.name}" for bucket in streams.BUCKETS))
    found = {name for name in names if "error" not in await bus.api(f"STREAM.INFO.{name}")}
    for stage in streams.STAGES:
        if "error" not in await bus.api(f"CONSUMER.INFO.{stage.stream}.{stage.stage}"):
            found.add(f"{stage.stream}/{stage.stage}")
    return found
