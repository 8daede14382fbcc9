"""Restoring a backup into an empty site: streams as they were, consumers where they may begin, everything paused.

The rule: nothing acts before a person says so, and then targets are asked about every effect (``mesh.restored``).
"""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from console.backup import content, manifest
from console.backup.manifest import Manifest, StreamFile
from console.backup.taking import Seen
from mesh import snapshots, streams
from mesh.bus import Bus, connect
from mesh.clock import now
from mesh.control import Controls
from mesh.embedded import EmbeddedNats
from mesh.errors import WorkmeshError
from mesh.halts import HALT, Halt
from mesh.identity import Identity
from mesh.journal import committing
from mesh.restored import RESTORED, Restoration
from mesh.settings import Settings
from mesh.site import ADMIN, OPERATOR, Site, stream_specs

_LOCAL = "state"


@dataclass(frozen=True, slots=True)
class Done:
    """What was restored, and what became of the local state of a site that was there before."""

    manifest: Manifest
    aside: Path | None


def prepare_keys(settings: Settings, backup: Path, made: Manifest, keys: Path | None) -> None:
    """Have the site's keys in its state folder: its own, else those given, else those in the backup.

    Raises ``WorkmeshError`` when there are none, or they are another site's.
    """
    own = settings.state_dir / "keys"
    if not (own / f"{ADMIN}.nk").exists():
        given = keys or (backup / manifest.KEYS if made.keys else None)
        if given is None or not (given / f"{ADMIN}.nk").exists():
            where = f"{given} has no {ADMIN}.nk" if given else f"they are not in {backup}"
            raise WorkmeshError(f"the keys of the site are needed, and {where}: give their folder by --keys")
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(given.iterdir()):
            shutil.copyfile(path, own / path.name)
            (own / path.name).chmod(0o600)
    found = Identity.load(own / f"{ADMIN}.nk").public_key
    if found != made.trust_root:
        raise WorkmeshError(f"{own} holds the keys of the site {found}; the backup is of {made.trust_root}")


async def restore(settings: Settings, backup: Path, made: Manifest, seen: Seen) -> Done:
    """Restore into the site of these settings, whose keys are there and whose bus holds nothing.

    Raises ``WorkmeshError`` where it holds something, where the server refuses, and where what was restored is not
    what was taken.
    """
    _require_no_bus(settings)
    aside = _set_aside(settings.state_dir / _LOCAL)
    site = Site(settings)
    async with _server(settings, site) as url, _connected(url, site, ADMIN) as bus:
        await _require_empty(bus, made)
        for each in made.streams:
            await _restore(bus, settings, backup, each, seen)
        await _make_consumers(bus, settings, made)
        for each in made.streams:
            await _require_same(bus, each)
        await _hold(url, site, bus, settings, made)
    return Done(made, aside)


def _require_no_bus(settings: Settings) -> None:
    store = settings.state_dir / "nats"
    if not settings.bus.url and store.exists():
        raise WorkmeshError(f"{store} holds a bus already: restore into an empty site, or move it away")


def _set_aside(local: Path) -> Path | None:
    """What processes kept on disk is about another journal than the restored one."""
    if not local.exists():
        return None
    to = local.with_name(f"{_LOCAL}.before-{now():%Y%m%dT%H%M%S}")
    local.rename(to)
    return to


@asynccontextmanager
async def _server(settings: Settings, site: Site) -> AsyncIterator[str]:
    if settings.bus.url:
        yield settings.bus.url
        return
    limit = settings.bus.max_file_store_bytes
    async with EmbeddedNats(settings.state_dir / "nats", site.users(), max_file_store=limit) as server:
        yield server.url


@asynccontextmanager
async def _connected(url: str, site: Site, name: str) -> AsyncIterator[Bus]:
    options = site.identity(name).nats_options()
    tls = site.settings.bus.tls
    async with connect(url, name=f"{name}/restore", options=options, tls=tls, request_timeout_s=30) as bus:
        yield bus


async def _require_empty(bus: Bus, made: Manifest) -> None:
    there = [each.name for each in made.streams if "error" not in await bus.api(f"STREAM.INFO.{each.name}")]
    if there:
        raise WorkmeshError(f"the bus holds {', '.join(there)} already: restore into an empty site")


async def _restore(bus: Bus, settings: Settings, backup: Path, each: StreamFile, seen: Seen) -> None:
    config = json.loads(bytes(each.config)) | {"num_replicas": settings.bus.replicas}

    def chunks() -> Iterator[bytes]:
        with (backup / each.file).open("rb") as file:
            while chunk := file.read(snapshots.CHUNK):
                yield chunk
                seen(each.name, len(chunk))

    await snapshots.give_back(bus, snapshots.Taken(config, json.loads(bytes(each.state))), chunks())


async def _make_consumers(bus: Bus, settings: Settings, made: Manifest) -> None:
    """Each stage begins behind what it had acknowledged; what it did since then it finds done."""
    floors = {floor.stage: floor.seq for each in made.streams for floor in each.floors}
    given = settings.bus
    await streams.ensure(
        bus,
        stream_specs(given),
        replicas=given.replicas,
        ack_wait_s=given.ack_wait_s,
        max_ack_pending=given.max_ack_pending,
        floors=floors,
    )


async def _require_same(bus: Bus, each: StreamFile) -> None:
    if not each.digest:
        return  # some of its messages may have gone by age since
    state = (await bus.api(f"STREAM.INFO.{each.name}"))["state"]
    messages, last_seq = int(state["messages"]), int(state["last_seq"])
    if (messages, last_seq) != (each.messages, each.last_seq):
        raise WorkmeshError(
            f"{each.name} was restored with {messages} messages to {last_seq}, not {each.messages} to {each.last_seq}"
        )
    digest, _ = await content.digest_of(bus, each.name, each.first_seq, each.last_seq)
    if digest != each.digest:
        raise WorkmeshError(f"{each.name} was restored with other messages than were taken ({digest})")


async def _hold(url: str, site: Site, admin: Bus, settings: Settings, made: Manifest) -> None:
    """Put on record that the site stands on a backup, and pause everything."""
    root, reason = settings.root_key(), _reason(made.taken_at)
    async with committing(admin) as committer:
        act = Restoration(person=ADMIN, at=now(), reason=reason, backup_at=made.taken_at)
        await Controls(admin, root, RESTORED).put(committer, RESTORED, act, site.admin)
    async with _connected(url, site, OPERATOR) as bus, committing(bus) as committer:
        halt = Halt(person=OPERATOR, at=now(), reason=reason, halted=True)
        await Controls(bus, root, HALT).put(committer, HALT, halt, site.identity(OPERATOR))


def _reason(at: datetime) -> str:
    return f"restored from the backup of {at:%Y-%m-%d %H:%M:%S} UTC"
