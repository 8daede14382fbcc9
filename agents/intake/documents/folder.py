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
from hashlib import sha256
from pathlib import Path

import structlog

from agents.intake.arrival import CUT, Arrival, Take, shown_name
from mesh.clock import unix
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

    @classmethod
    def of(cls, status: os.stat_result) -> "_Seen":
        """What is seen of a file in its status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


async def watch_folder(name: str, setting: Folder, take: Take) -> None:
    """Take the files of a folder until cancelled; raises ``SettingsError`` when it is none."""
    folder = Path(setting.folder)
    done = Path(setting.done_to) if setting.done_to else folder / "taken"
    try:
        done.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"intake.sources.{name}: {done} cannot be made: {error.strerror}") from error
    before: dict[Path, _Seen] = {}
    passed_over: dict[Path, _Seen] = {}
    while True:
        found = dict(_files(folder, setting.pattern))
        passed_over = {path: seen for path, seen in passed_over.items() if found.get(path) == seen}
        for path, seen in sorted(found.items(), key=lambda each: (each[1].mtime_ns, each[0].name)):
            is_settled = before.get(path) == seen and unix() - seen.mtime_ns / 1e9 >= setting.settle_s
            if is_settled and path not in passed_over and not await _take_file(name, path, seen, done, take):
                passed_over[path] = seen
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
            yield Path(entry.path), _Seen.of(status)


async def _take_file(name: str, path: Path, seen: _Seen, done: Path, take: Take) -> bool:
    """Whether to look at this file again; false for one that stays where it is until it changes."""
    is_cut = seen.size > FILE_MAX
    try:
        data = await asyncio.to_thread(_read, path, seen, _HEAD if is_cut else FILE_MAX)
    except OSError as error:
        log.error("file_not_read", path=shown_name(str(path)), reason=error.strerror)
        return True
    if data is None:
        return True
    arrival = Arrival(
        source=name,
        key=f"{shown_name(path.name)}/{sha256(data).hexdigest()[:16]}",
        data=data,
        content_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        received_at=datetime.fromtimestamp(seen.mtime_ns / 1e9, UTC),
        headers={CUT: f"{seen.size} bytes, of which {FILE_MAX} are read"} if is_cut else {},
    )
    try:
        await take(arrival)
    except RetryableError as error:
        log.warning("file_not_taken_yet", path=shown_name(str(path)), reason=str(error))
        return True
    try:
        await asyncio.to_thread(_move, path, seen, done)
    except OSError as error:
        what = "it is taken again after a restart, as the same events"
        log.error("file_not_moved", path=shown_name(str(path)), to=str(done), reason=error.strerror, effect=what)
        return False
    return True


def _read(path: Path, seen: _Seen, most: int) -> bytes | None:
    """The bytes of the file that was seen; ``None`` where another is there now, such as a pipe, or it has changed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or _Seen.of(status) != seen:
            return None
        data = file.read(most)
        return data if _Seen.of(os.fstat(descriptor)) == seen else None


def _move(path: Path, seen: _Seen, to: Path) -> None:
    """Move the file that was seen into another folder, under a name of its own; what came in its place stays."""
    if not _is_still(path, seen):
        return
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = _free(to, path)
    path.rename(target)
    if not _is_still(target, seen):  # it was changed between the look and the move
        target.rename(_free(path.parent, path))


def _is_still(path: Path, seen: _Seen) -> bool:
    try:
        return _Seen.of(path.lstat()) == seen
    except FileNotFoundError:
        return False


def _free(folder: Path, path: Path) -> Path:
    target = folder / path.name
    number = 1
    while os.path.lexists(target):
        number += 1
        target = folder / f"{path.stem}.{number}{path.suffix}"
    return target
