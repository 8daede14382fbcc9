"""A watched folder: files are taken when nobody writes to them any more, and moved away when they are durable.

The rule: a file is never deleted, and never taken in half: ``settle_s`` says how long it must have been left alone.
"""

import asyncio
import fnmatch
import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from agents.intake.arrival import CUT, Arrival, Take
from mesh.clock import now, unix
from mesh.errors import RetryableError, SettingsError
from mesh.sources import Folder

log = structlog.get_logger(__name__)

FILE_MAX = 64 * 1024 * 1024
_HEAD = 64 * 1024  # of a file that is too large: what a person is shown
_HALF_WRITTEN = (".part", ".tmp", ".filepart", ".crdownload", ".swp", "~")


@dataclass(frozen=True, slots=True)
class _Seen:
    size: int
    mtime_ns: int
    inode: int


async def watch_folder(name: str, setting: Folder, take: Take) -> None:
    """Take the files of a folder until cancelled; raises ``SettingsError`` when it is none."""
    folder = Path(setting.folder)
    done = Path(setting.done_to) if setting.done_to else folder / "taken"
    try:
        done.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"intake.sources.{name}: {done} cannot be made: {error.strerror}") from error
    before: dict[Path, _Seen] = {}
    while True:
        found = dict(_files(folder, setting.pattern))
        for path, seen in sorted(found.items(), key=lambda each: (each[1].mtime_ns, each[0].name)):
            is_settled = before.get(path) == seen and unix() - seen.mtime_ns / 1e9 >= setting.settle_s
            if is_settled:
                await _take_file(name, path, seen, done, take)
        before = found
        await asyncio.sleep(setting.poll_s)


def _files(folder: Path, pattern: str) -> Iterator[tuple[Path, _Seen]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        log.error("folder_not_read", folder=str(folder), reason=error.strerror)
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith(_HALF_WRITTEN):
            continue
        if not fnmatch.fnmatchcase(entry.name, pattern):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # it went away meanwhile
        if stat.S_ISREG(status.st_mode):
            yield Path(entry.path), _Seen(status.st_size, status.st_mtime_ns, status.st_ino)


async def _take_file(name: str, path: Path, seen: _Seen, done: Path, take: Take) -> None:
    is_cut = seen.size > FILE_MAX
    try:
        data = await asyncio.to_thread(_read, path, _HEAD if is_cut else FILE_MAX)
    except OSError as error:
        log.error("file_not_read", path=str(path), reason=error.strerror)
        return
    digest = Arrival(source=name, key="", data=data, content_type="", received_at=now()).digest
    arrival = Arrival(
        source=name,
        key=f"{path.name}/{digest[:16]}",
        data=data,
        content_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        received_at=datetime.fromtimestamp(seen.mtime_ns / 1e9, UTC),
        headers={CUT: f"{seen.size} bytes, of which {FILE_MAX} are read"} if is_cut else {},
    )
    try:
        await take(arrival)
    except RetryableError as error:
        log.warning("file_not_taken_yet", path=str(path), reason=str(error))
        return
    _move(path, done)


def _read(path: Path, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)


def _move(path: Path, to: Path) -> None:
    """Move a file into another folder, under a name of its own."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = to / path.name
    number = 1
    while target.exists():
        number += 1
        target = to / f"{path.stem}.{number}{path.suffix}"
    path.replace(target)
