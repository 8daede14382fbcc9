"""A maildir as a source: what is in ``new`` and ``cur`` without the flag S is taken, and then gets it.

Nothing is deleted. What a mail program marked as seen counts as taken. ``tmp`` belongs to whoever delivers, and is
not looked into.
"""

import asyncio
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from agents.intake.arrival import Arrival, Take, shown_name
from agents.intake.mail.mail import MailLimits
from agents.intake.mail.message import mail_key
from agents.intake.mail.taking import until_done

log = structlog.get_logger(__name__)

_INFO = ":2,"


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    size: int
    modified: datetime


async def watch_maildir(
    folder: Path, take: Take, *, poll_s: float, source: str = "maildir", most_bytes: int = MailLimits().message_bytes
) -> None:
    """Take what arrives in ``folder``, looking every ``poll_s``; with 0 it looks once and returns.

    A file larger than ``most_bytes`` is handed on cut one byte above it, so that its reader refuses it, and with the
    header ``cut``. What cannot be read, or is no plain file, is logged once and left where it is.
    """
    passed_over: set[str] = set()
    while True:
        names = await asyncio.to_thread(_waiting, folder)
        passed_over &= set(names)
        for name in names:
            if name not in passed_over and not await _take_one(folder, name, take, source, most_bytes):
                passed_over.add(name)
        if not poll_s:
            return
        await asyncio.sleep(poll_s)


async def _take_one(folder: Path, name: str, take: Take, source: str, most_bytes: int) -> bool:
    """Whether nothing is left to do with this file; false for one to be passed over from now on."""
    path = folder / name
    try:
        file = await asyncio.to_thread(_read, path, most_bytes)
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("mail_file_refused", file=shown_name(str(path)), error=str(error))
        return False
    headers = {"file": shown_name(name), "size": str(file.size)} | ({"cut": "true"} if file.size > most_bytes else {})
    arrival = Arrival(
        source=source, key=mail_key(file.data), data=file.data, headers=headers, received_at=file.modified
    )
    await until_done(lambda: take(arrival), arrival.key)
    try:
        await asyncio.to_thread(_mark_taken, folder, name)
    except FileNotFoundError:
        return True  # another program moved it meanwhile: under its new name it may come again, with the same key
    except OSError as error:
        told = "it is taken again after a restart"
        log.error("mail_file_not_marked", file=shown_name(str(path)), error=str(error), effect=told)
        return False
    return True


def _waiting(folder: Path) -> list[str]:
    """Names below the folder of all files to be taken, those in ``new`` first, each in the order of their names."""
    found: list[str] = []
    for part in ("new", "cur"):
        try:
            names = sorted(os.listdir(folder / part))
        except FileNotFoundError:
            continue
        found += [f"{part}/{name}" for name in names if not name.startswith(".") and not _seen(part, name)]
    return found


def _seen(part: str, name: str) -> bool:
    return part == "cur" and "S" in name.rpartition(_INFO)[2] and _INFO in name


def _read(path: Path, most_bytes: int) -> _File:
    """At most one byte more than ``most_bytes``; never through a link, never from a pipe or device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("not a plain file")
        return _File(file.read(most_bytes + 1), found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _mark_taken(folder: Path, name: str) -> None:
    part, _, own = name.partition("/")
    base, _, flags = own.rpartition(_INFO) if part == "cur" and _INFO in own else (own, "", "")
    base = base.partition(_INFO)[0]
    flags = "".join(sorted({*flags, "S"}))
    target, number = folder / "cur" / f"{base}{_INFO}{flags}", 0
    while target.exists():  # never over another message
        number += 1
        target = folder / "cur" / f"{base}_{number}{_INFO}{flags}"
    os.rename(folder / name, target)
