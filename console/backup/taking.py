"""Taking a backup of a site that runs.

The rule of order: a stream is taken before what its readers made of it, and whatever refers to something before that.
So a restored site may do work again, which is recognised, and never takes something for done that is not.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import msgspec

from console.backup import content, manifest
from console.backup.manifest import Floor, Manifest, StreamFile
from mesh import snapshots, streams, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.permissions import kv_stream
from mesh.site import Site

Seen = Callable[[str, int], None]
"""Told of each stream's name, and of the bytes that have come of it."""

ORDER = (
    kv_stream(subjects.INTAKE_BUCKET),  # marks: what they say was taken stands in EVENTS
    subjects.AUDIT,  # its lines are of what stands in JOURNAL
    subjects.EVENTS,
    subjects.JOURNAL,
    subjects.QUARANTINE,
    subjects.ORIGINALS,
    subjects.MEMORY,
    kv_stream(subjects.POLICY_BUCKET),
    kv_stream(subjects.TRUST_BUCKET),
    kv_stream(subjects.MODELS_BUCKET),
    kv_stream(subjects.WORKING_BUCKET),
    kv_stream(subjects.SESSION_BUCKET),
)
"""All streams but the registry of live processes, in the order of taking."""

# Messages of the others may go while the backup is taken: by age, by newer values, or since the law asks for it.
_KEPT = (subjects.AUDIT, subjects.EVENTS, subjects.JOURNAL, subjects.QUARANTINE)


async def take(bus: Bus, site: Site, folder: Path, *, with_keys: bool, seen: Seen) -> Manifest:
    """Take a backup into a folder that is new or empty; ``bus`` is connected as ``admin``.

    Raises ``WorkmeshError`` where that is not so, and as ``snapshots.take`` does; then there is no manifest.
    """
    _make(folder)
    taken = tuple([await _take(bus, name, folder, seen) for name in ORDER])
    if with_keys:
        _copy_keys(site, folder / manifest.KEYS)
    info = bus.client.connected_server_version
    made = Manifest(
        format=manifest.FORMAT,
        trust_root=site.admin.public_key,
        taken_at=now(),
        workmesh=version("workmesh"),
        server=f"{info.major}.{info.minor}.{info.patch}",
        streams=taken,
        keys=with_keys,
    )
    manifest.write_manifest(folder, made, site.admin)
    return made


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if any(folder.iterdir()):
        raise WorkmeshError(f"{folder} is not empty: give each backup a folder of its own")


async def _take(bus: Bus, name: str, folder: Path, seen: Seen) -> StreamFile:
    floors = tuple([await _floor(bus, stage) for stage in streams.STAGES if stage.stream == name])
    path = folder / f"{name}.tar.s2"
    with _written(path) as file:

        def write(chunk: bytes) -> None:
            file.write(chunk)
            seen(name, len(chunk))

        taken = await snapshots.take(bus, name, write)
    state = taken.state
    first, last, messages = (int(state[key]) for key in ("first_seq", "last_seq", "messages"))
    size, sha256 = await asyncio.to_thread(_measured, path)
    digest, count = await content.digest_of(bus, name, first, last) if name in _KEPT else ("", 0)
    return StreamFile(
        name=name,
        file=path.name,
        bytes=size,
        sha256=sha256,
        config=msgspec.Raw(msgspec.json.encode(taken.config)),
        state=msgspec.Raw(msgspec.json.encode(state)),
        messages=messages,
        first_seq=first,
        last_seq=last,
        floors=floors,
        digest=digest if count == messages else "",
    )


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _measured(path: Path) -> tuple[int, str]:
    return path.stat().st_size, manifest.sha256_of(path)


async def _floor(bus: Bus, stage: streams.ConsumerSpec) -> Floor:
    """Read before the stream's snapshot begins: what is acknowledged by then has its outputs in what is taken."""
    info = await bus.api(f"CONSUMER.INFO.{stage.stream}.{stage.stage}")
    if error := info.get("error"):
        raise WorkmeshError(f"consumer {stage.stage} of {stage.stream}: {error.get('description')}")
    return Floor(stage=stage.stage, seq=int(info["ack_floor"]["stream_seq"]))


def _copy_keys(site: Site, to: Path) -> None:
    to.mkdir(mode=0o700)
    for path in sorted(site.keys.iterdir()):
        shutil.copyfile(path, to / path.name)
        (to / path.name).chmod(0o600)
