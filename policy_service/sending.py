"""``workmesh policy send``: at a hub, put a bundle in force at one of its sites, which may be cut off just now.

The rule: what is sent is signed for that site alone and for what was in force there; the site's own policy service
decides whether to take it.
"""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import click
import msgspec

from mesh import subjects
from mesh.activation import Activation
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async
from mesh.clock import now
from mesh.downlink import Told
from mesh.errors import WorkmeshError
from mesh.operator import operator_bus
from mesh.records import Struct
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, open_envelope, sign
from policy_service.bundle import BundleContents
from policy_service.gate import pass_gate
from policy_service.releases import comment_option, key_option, signer
from policy_service.sources import locate

_LOOK_S = 0.2
_SITE = re.compile(r"U[A-Z2-7]{15}")  # the beginning of a public key


class SendReport(Struct, frozen=True, kw_only=True):
    """What was sent, where the hub has it, and what the site said of it; ``told`` is None while it has not looked."""

    site: str
    domain: str
    digest: str
    over: str
    seq: int
    told: Told | None = None


@click.command()
@click.argument("site")
@click.argument("source", metavar="DIR")
@click.option("--domain", help="The domain; by default the name of the pack or of the folder.")
@click.option("--over", metavar="DIGEST", help="What is in force there. Default: what was sent last, or what it told.")
@click.option("--end-old", is_flag=True, help="Permits given under the bundle before permit nothing any more.")
@click.option("--wait", "wait_s", default=5.0, show_default=True, help="Seconds to wait for the site's answer.")
@comment_option
@key_option
@json_option
@config_option
def send(
    site: str,
    source: str,
    domain: str | None,
    over: str | None,
    end_old: bool,
    wait_s: float,
    comment: str,
    key: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """At a hub: sign the bundle in DIR for SITE, and have it in force there as soon as it is linked.

    SITE is its name, as `workmesh bus site` prints it. Sign with a key that is a policy admin at that site. Exit status
    1 when the site refused.
    """
    if not _SITE.fullmatch(site):
        raise click.UsageError(f"{site!r} is no site: give its name as `workmesh bus site` prints it")
    folder, guessed = locate(source)
    contents = BundleContents.read(folder, domain or guessed)
    pass_gate(contents)
    report = run_async(_send(site, contents, over, end_old, comment, key, config, wait_s))
    if as_json:
        print_json(report)
    else:
        click.echo(_line(report))
    if report.told is not None and report.told.refused:
        raise SystemExit(1)


async def _send(
    site: str,
    contents: BundleContents,
    over: str | None,
    end_old: bool,
    comment: str,
    key: Path | None,
    config: Path | None,
    wait_s: float,
) -> SendReport:
    domain, digest = contents.domain, contents.digest
    async with operator_bus(config) as (settings, bus):
        who = signer(settings, key)
        last = await last_sent(bus, site, domain)
        previous = await _in_force(bus, site, domain, last) if over is None else over
        wanted = Activation(
            domain=domain,
            digest=digest,
            activated_at=max(now(), last[0].activated_at + timedelta(microseconds=1)) if last else now(),
            accepted=(previous,) if previous and previous != digest and not end_old else (),
            previous=previous,
            by=who.name,
            comment=comment,
            chosen=True,
            site=site,
        )
        await bus.store(subjects.down(site, "bundle", domain), bytes(sign(contents, BUNDLE_TYPE, who)))
        seq = await bus.store(subjects.down(site, "active", domain), bytes(sign(wanted, ACTIVATION_TYPE, who)))
        told = await _answer(bus, site, domain, seq, wait_s)
        return SendReport(site=site, domain=domain, digest=digest, over=previous, seq=seq, told=told)


async def last_sent(bus: Bus, site: str, domain: str) -> tuple[Activation, int] | None:
    """The last activation that was sent to a site, and its sequence."""
    message = await bus.last(subjects.SITES, subjects.down(site, "active", domain))
    if message is None:
        return None
    return open_envelope(message.data, ACTIVATION_TYPE, Activation, lambda key: None)[0], message.seq


async def last_told(bus: Bus, site: str, domain: str) -> Told | None:
    """What the site said last of a domain."""
    message = await bus.last(subjects.SITES, subjects.told(site, domain))
    return msgspec.json.decode(message.data, type=Told) if message else None


async def _in_force(bus: Bus, site: str, domain: str, last: tuple[Activation, int] | None) -> str:
    told = await last_told(bus, site, domain)
    if last is not None and (told is None or told.seen < last[1]):
        return last[0].digest  # it has not looked at that yet, and will before it looks at this one
    if told is None:
        raise WorkmeshError(f"the site {site} has not told what is in force in {domain}: say it with --over")
    return told.digest


async def _answer(bus: Bus, site: str, domain: str, seq: int, wait_s: float) -> Told | None:
    end = asyncio.get_running_loop().time() + wait_s
    while True:
        told = await last_told(bus, site, domain)
        if told is not None and told.seen >= seq:
            return told
        if asyncio.get_running_loop().time() >= end:
            return None
        await asyncio.sleep(_LOOK_S)


def _line(report: SendReport) -> str:
    sent = f"{report.domain} {report.digest} is sent to {report.site}"
    if report.told is None:
        return f"{sent}; it has not looked at it yet"
    if report.told.refused:
        return f"{sent}; it refused: {report.told.refused}"
    return f"{sent}; {report.told.digest} is in force there"
