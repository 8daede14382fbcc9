"""The commands that change which bundle is in force: ``publish``, ``activate``, ``rollback``, ``shadow``; and who did.

The rule: what a person signs is made from what stands now, and says so; if that changed meanwhile, it is refused.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.table import Table

from mesh import service
from mesh.activation import (
    ActivateAnswer,
    ActivateRequest,
    Activation,
    PublishAnswer,
    PublishRequest,
    Standing,
    last_on_record,
    recorded,
    standing,
)
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.operator import operator_bus
from mesh.settings import Settings
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, sign
from policy_service.bundle import BundleContents
from policy_service.gate import pass_gate
from policy_service.lint import lint
from policy_service.shelf import Listed, contents_of, listing, resolve, revert
from policy_service.sources import locate, tools_of

# Compiling a bundle of a thousand policies and running its cases takes seconds.
_PATIENCE_S = 60.0

key_option = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="WORKMESH_KEY",
    help="Your own private key, enrolled as policy_admin. Default: the site's root key, where it is.",
)
comment_option = click.option("--comment", default="", help="Why; kept with the record.")

Change = Callable[[Bus, Standing | None, Activation], Awaitable[Activation]]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What a command has put in force: the activation, and where the journal has it."""

    activation: Activation
    seq: int


@click.command()
@click.argument("source", metavar="DIR")
@click.option("--domain", help="The domain; by default the name of the pack or of the folder.")
@key_option
@json_option
@config_option
def publish(source: str, domain: str | None, key: Path | None, as_json: bool, config: Path | None) -> None:
    """Sign the bundle in DIR and put it on the shelf, once it is in order. It is not in force by that."""
    folder, guessed = locate(source)
    contents = BundleContents.read(folder, domain or guessed)
    bundle, _ = pass_gate(contents)
    for finding in lint(bundle, tools_of(contents.domain)):
        click.echo(finding.line, err=True)
    answer = run_async(_publish(contents, key, config))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{answer.domain} {answer.digest} is published: {answer.policies} policies, {answer.cases} cases")
        click.echo(f"it is in force after: workmesh policy activate {answer.domain} {answer.digest}")


async def _publish(contents: BundleContents, key: Path | None, config: Path | None) -> PublishAnswer:
    async with operator_bus(config) as (settings, bus):
        request = PublishRequest(signed=sign(contents, BUNDLE_TYPE, signer(settings, key)))
        return await service.ask(bus, "policy", "publish", request, PublishAnswer, timeout_s=_PATIENCE_S)


@click.command()
@click.argument("domain")
@click.argument("digest")
@click.option("--end-old", is_flag=True, help="Permits given under the bundle before permit nothing any more.")
@comment_option
@key_option
@json_option
@config_option
def activate(
    domain: str, digest: str, end_old: bool, comment: str, key: Path | None, as_json: bool, config: Path | None
) -> None:
    """Put the published bundle DIGEST (or the beginning of it) in force in DOMAIN, within a second everywhere."""

    async def change(bus: Bus, stands: Standing | None, start: Activation) -> Activation:
        wanted = await resolve(bus, domain, digest)
        before = stands.activation if stands else None
        if before is None or before.digest == wanted:
            accepted = () if before is None or end_old else before.accepted
            return msgspec.structs.replace(start, digest=wanted, accepted=accepted)
        return msgspec.structs.replace(
            start,
            digest=wanted,
            accepted=() if end_old else (before.digest,),
            previous=before.digest,
            shadow="" if before.shadow == wanted else before.shadow,
        )

    _tell(run_async(_change(domain, change, comment, key, config)), as_json)


@click.command()
@click.argument("domain")
@click.option("--accept-old", is_flag=True, help="Permits given under the bundle that is left stay accepted.")
@comment_option
@key_option
@json_option
@config_option
def rollback(domain: str, accept_old: bool, comment: str, key: Path | None, as_json: bool, config: Path | None) -> None:
    """Go back to the bundle that was in force in DOMAIN before this one; again, to the one before that.

    Permits given under the bundle that is left permit nothing any more: it is left because it was wrong.
    """

    async def change(bus: Bus, stands: Standing | None, start: Activation) -> Activation:
        return revert(start, stands, await recorded(bus, domain), accept_old=accept_old)

    _tell(run_async(_change(domain, change, comment, key, config)), as_json)


@click.command()
@click.argument("domain")
@click.argument("digest", required=False, default="")
@click.option("--off", is_flag=True, help="Try no bundle any more.")
@comment_option
@key_option
@json_option
@config_option
def shadow(
    domain: str, digest: str, off: bool, comment: str, key: Path | None, as_json: bool, config: Path | None
) -> None:
    """Try the published bundle DIGEST beside the one in force in DOMAIN: differences are counted, and that is all."""
    if off is bool(digest):
        raise click.UsageError("give the digest of a published bundle, or --off")

    async def change(bus: Bus, stands: Standing | None, start: Activation) -> Activation:
        if stands is None:
            raise WorkmeshError(f"no bundle is in force in {domain}: activate one first")
        wanted = "" if off else await resolve(bus, domain, digest)
        if wanted == start.digest:
            raise WorkmeshError(f"{wanted} is in force already: there is nothing to compare it with")
        return msgspec.structs.replace(start, shadow=wanted, chosen=stands.activation.chosen)

    _tell(run_async(_change(domain, change, comment, key, config)), as_json)


async def _change(domain: str, change: Change, comment: str, key: Path | None, config: Path | None) -> Changed:
    """Sign what ``change`` makes of what stands now, and have the policy service put it in force."""
    async with operator_bus(config) as (settings, bus):
        who = signer(settings, key)
        stands = await standing(bus, domain)
        after = await last_on_record(bus, domain)
        wanted = await change(bus, stands, _start(domain, stands, who, after, comment))
        request = ActivateRequest(signed=sign(wanted, ACTIVATION_TYPE, who))
        answer = await service.ask(bus, "policy", "activate", request, ActivateAnswer, timeout_s=_PATIENCE_S)
        return Changed(activation=wanted, seq=answer.seq)


def _start(domain: str, stands: Standing | None, signer: Identity, after: int, comment: str) -> Activation:
    """What stands now, as this signer would sign it anew, later than it by any clock."""
    at = now()
    if stands is None:
        start = Activation(domain=domain, digest="", activated_at=at, after=after, by=signer.name)
        return msgspec.structs.replace(start, comment=comment, chosen=True)
    return msgspec.structs.replace(
        stands.activation,
        activated_at=max(at, stands.activation.activated_at + timedelta(microseconds=1)),
        after=after,
        by=signer.name,
        comment=comment,
        chosen=True,
    )


def signer(settings: Settings, key: Path | None) -> Identity:
    """The key to sign with: the one that was given, or the site's root; raises ``WorkmeshError`` without any."""
    path = key or settings.state_dir / "keys" / "admin.nk"
    if not path.exists():
        raise WorkmeshError(f"no key to sign with: give yours with --key (the site's root key {path} is not there)")
    return Identity.load(path)


@click.command()
@click.argument("domain")
@click.argument("digest", required=False, default="")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new folder.")
@config_option
def fetch(domain: str, digest: str, folder: Path, config: Path | None) -> None:
    """Write the published bundle DIGEST of DOMAIN (by default the one in force) into a folder, to change it there."""
    contents = run_async(_fetch(domain, digest, config))
    if folder.exists():
        raise click.UsageError(f"{folder} exists already: name a new folder")
    for name, text in contents.files:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise WorkmeshError(f"the bundle {contents.digest} holds a file outside of its folder: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"{domain} {contents.digest}: {len(contents.files)} files in {folder}")


async def _fetch(domain: str, digest: str, config: Path | None) -> BundleContents:
    async with operator_bus(config) as (_, bus):
        stands = await standing(bus, domain)
        if not digest and stands is None:
            raise WorkmeshError(f"no bundle is in force in {domain}: name a published one")
        wanted = await resolve(bus, domain, digest) if digest or stands is None else stands.activation.digest
        return await contents_of(bus, domain, wanted)


@click.command("list")
@click.argument("domain", required=False, default="")
@json_option
@config_option
def list_(domain: str, as_json: bool, config: Path | None) -> None:
    """List the bundles on the shelf (of DOMAIN): which is in force, accepted or tried, by whom and since when."""
    found = run_async(_list(domain, config))
    if as_json:
        print_json(found)
        return
    table = Table("domain", "bundle", "state", "published", "by", "in force since", "by", "comment")
    for item in found:
        since, by = _time(item.since), item.activated_by
        table.add_row(
            item.domain,
            item.digest[:19],
            item.state,
            _time(item.published_at),
            item.published_by,
            since,
            by,
            item.comment,
        )
    stdout().print(table if found else "no bundle is published")


async def _list(domain: str, config: Path | None) -> list[Listed]:
    async with operator_bus(config) as (settings, bus):
        return await listing(bus, settings.root_key(), domain)


@click.command()
@click.argument("domain")
@json_option
@config_option
def history(domain: str, as_json: bool, config: Path | None) -> None:
    """Show every activation in DOMAIN that the journal has on record, newest first."""
    found = run_async(_history(domain, config))
    if as_json:
        print_json(found)
        return
    table = Table("seq", "at", "by", "in force", "accepted", "shadow", "comment")
    for item in found:
        act = item.activation
        accepted = ", ".join(digest[:19] for digest in act.accepted)
        table.add_row(
            str(item.seq), _time(act.activated_at), act.by, act.digest[:19], accepted, act.shadow[:19], act.comment
        )
    stdout().print(table if found else f"no activation in {domain} is on record")


async def _history(domain: str, config: Path | None) -> list[Standing]:
    async with operator_bus(config) as (_, bus):
        return list(reversed(await recorded(bus, domain)))


def _tell(done: Changed, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    act = done.activation
    click.echo(f"{act.domain}: {act.digest} is in force")
    click.echo(f"permits under {', '.join(act.accepted) or 'no other bundle'} stay accepted")
    if act.shadow:
        click.echo(f"{act.shadow} is tried beside it")


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
