"""Where letters to customers go: a folder of e-mail files (RFC 5322), or an SMTP server.

The rule: a file appears whole, under its key, and once; of an SMTP server nobody can ask later what it took.
"""

import asyncio
import os
import tempfile
from email.policy import SMTP
from pathlib import Path

from mesh.errors import NotSentError, UncertainError
from mesh.mounts import smtp
from mesh.mounts.smtp import Letter, Notice, SmtpServer, check_key, compose, message_id
from packs.retail.arguments import NotifyArgs


class FolderOutbox:
    """Writes each letter as ``<key>.eml``, for another program to send."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, args: NotifyArgs, key: str) -> Notice:
        """Write the letter unless its key was used before: then the first one stands."""
        data = compose(_letter(args), key, self._sender).as_bytes(policy=SMTP)
        fresh = await asyncio.to_thread(self._write, f"{key}.eml", data)
        return Notice(message_id=message_id(key, self._sender), replayed=not fresh)

    async def find(self, key: str) -> Notice | None:
        """The letter under this key, or ``None``."""
        check_key(key)
        found = await asyncio.to_thread((self._folder / f"{key}.eml").is_file)
        return Notice(message_id=message_id(key, self._sender), replayed=True) if found else None

    def _write(self, name: str, data: bytes) -> bool:
        """Put a whole file on disk under a name that is free; a crash before leaves at most a hidden ``.tmp`` file."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", suffix=".tmp") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                fresh = _link(file.name, self._folder / name)
        except OSError as error:
            raise NotSentError(f"{self._folder / name} cannot be written: {error}") from error
        try:
            _fsync_folder(self._folder)  # also for a file found there: who linked it may have died before this
        except OSError as error:
            raise UncertainError(f"{self._folder / name} may not outlast a power cut: {error}") from error
        return fresh


class SmtpOutbox:
    """Hands letters to an SMTP server."""

    def __init__(self, server: SmtpServer, sender: str) -> None:
        self._outbox = smtp.SmtpOutbox(server, sender)

    async def send(self, args: NotifyArgs, key: str) -> Notice:
        """Send the letter; a server that knows ``Message-ID`` drops a second one."""
        return await self._outbox.send(_letter(args), key)


def _letter(args: NotifyArgs) -> Letter:
    return Letter(to=args.email, subject=args.subject, body=args.body)


def _link(source: str, target: Path) -> bool:
    """Give a file a second name; false when the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
