"""``workmesh backup`` and ``workmesh restore``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn

from console.backup import manifest, restoring, taking
from console.backup.manifest import Manifest
from console.backup.taking import Seen
from mesh.bus import Bus, connect
from mesh.cli import config_option, json_option, print_json, run_async
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.journal import Committer, committing
from mesh.operator import operator_bus
from mesh.process import bus_url
from mesh.restored import RESTORED, Restoration
from mesh.settings import Settings, load
from mesh.site import ADMIN, Site

_folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("folder", type=_folder)
@click.option(
    "--with-keys", is_flag=True, help="Also keep the site's private keys. Guard the folder as you guard them."
)
@json_option
@config_option
def backup(folder: Path, with_keys: bool, as_json: bool, config: Path | None) -> None:
    """Take a backup of the running site into FOLDER: journal, events, memory, policy, trust, audit."""
    made = run_async(_backup(folder, with_keys, load(config)))
    if as_json:
        print_json(_summary(folder, made))
        return
    messages = sum(each.messages for each in made.streams)
    click.echo(f"{folder}: {len(made.streams)} streams, {messages:,} messages, {made.bytes / 1e6:.1f} MB")
    if not with_keys:
        click.echo("The site's keys are not in it: keep a copy of its folder keys elsewhere (or use --with-keys).")


@click.command()
@click.argument("folder", type=_folder, required=False)
@click.option("--check", is_flag=True, help="Only check the files against the signed manifest, without a bus.")
@click.option("--root", default="", help="With --check: the public root key that the backup must be of.")
@click.option("--keys", type=_folder, help="The site's private keys, where its state folder does not have them.")
@click.option("--over", is_flag=True, help="Say that nothing from after the backup can come again; without FOLDER.")
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="With --over: your own private key."
)
@json_option
@config_option
def restore(
    folder: Path | None,
    check: bool,
    root: str,
    keys: Path | None,
    over: bool,
    key: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Restore the backup in FOLDER into an empty site, and leave it paused.

    After `workmesh up`, look at what waits, then `workmesh resume`. Until you say --over, the target of an effect is
    asked whether it has happened before it is called.
    """
    if over:
        if folder is not None or key is None:
            raise click.UsageError("--over goes with --key, and without a folder")
        run_async(_over(key, config))
        click.echo("the restoration is over: effects are called at once again")
        return
    if folder is None:
        raise click.UsageError("name the folder of the backup")
    settings = load(config)
    made = manifest.read_manifest(folder, root)
    with _bar("checking", made.bytes) as seen:
        for each in manifest.check_files(folder, made):
            seen(each.name, each.bytes)
    aside = None if check else _restore(folder, made, keys, settings)
    if as_json:
        print_json({**_summary(folder, made), "restored": not check})
        return
    click.echo(f"{folder} is whole: the site {made.trust_root} at {made.taken_at:%Y-%m-%d %H:%M:%S} UTC")
    if not check:
        click.echo("restored and paused: `workmesh up`, look, then `workmesh resume --key KEY`")
        if aside:
            click.echo(f"what processes kept on disk was of another journal, and stands in {aside}")


async def _backup(folder: Path, with_keys: bool, settings: Settings) -> Manifest:
    site = _site(settings)
    url, options, tls = bus_url(settings), site.admin.nats_options(), settings.bus.tls
    with _bar("taking", None) as seen:
        async with connect(url, name="admin/backup", options=options, tls=tls, request_timeout_s=30) as bus:
            return await taking.take(bus, site, folder, with_keys=with_keys, seen=seen)


def _site(settings: Settings) -> Site:
    if not (settings.state_dir / "keys" / f"{ADMIN}.nk").exists():
        raise WorkmeshError(f"a backup is signed by the root key, and {settings.state_dir / 'keys'} does not have it")
    return Site(settings)


def _restore(folder: Path, made: Manifest, keys: Path | None, settings: Settings) -> Path | None:
    restoring.prepare_keys(settings, folder, made, keys)
    with _bar("restoring", made.bytes) as seen:
        return run_async(restoring.restore(settings, folder, made, seen)).aside


async def _over(key: Path, config: Path | None) -> None:
    async with operator_bus(config) as (settings, bus), committing(bus) as committer:
        await end(bus, committer, settings.root_key(), Identity.load(key))


async def end(bus: Bus, committer: Committer, root: str, person: Identity) -> None:
    """Have a person say that the restoration is over.

    Raises ``WorkmeshError`` where none stands, and ``SignatureError`` for a person who may not say it.
    """
    controls = Controls(bus, root, RESTORED)
    await controls.refresh()
    standing = next((item.act for item in controls.standing(RESTORED) if not item.act.over), None)
    if standing is None:
        raise WorkmeshError("this site was not restored, or that is over")
    act = Restoration(person=person.name, at=now(), backup_at=standing.backup_at, over=True)
    await controls.put(committer, RESTORED, act, person)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Seen]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda name, size: progress.update(task, description=f"{what} {name}", advance=size)


def _summary(folder: Path, made: Manifest) -> dict[str, object]:
    streams = [{"name": each.name, "messages": each.messages, "last_seq": each.last_seq} for each in made.streams]
    return {
        "folder": str(folder),
        "trust_root": made.trust_root,
        "taken_at": made.taken_at,
        "bytes": made.bytes,
        "keys": made.keys,
        "streams": streams,
    }
