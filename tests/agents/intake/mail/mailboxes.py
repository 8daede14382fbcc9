"""A real IMAP server (pymap, in memory), what takes arrivals in tests, and a poller to be killed.

Run as a module it polls once, with its marks and what it took in a folder, and kills itself after so many messages,
between taking and marking.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from agents.intake.arrival import Arrival
from agents.intake.mail.imap import ImapAccount, poll_imap

PASSWORD = "let me in 7"


class Taken:
    """Takes what arrives; what is done before each can be set."""

    def __init__(self, first: Callable[[Arrival], Awaitable[None]] | None = None) -> None:
        self.all: list[Arrival] = []
        self._first = first

    async def __call__(self, arrival: Arrival) -> None:
        if self._first is not None:
            await self._first(arrival)
        self.all.append(arrival)

    def keys(self) -> list[str]:
        return [arrival.key for arrival in self.all]


class FileMarks:
    """Marks as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    async def put(self, name: str, value: bytes) -> None:
        (self._folder / name).write_bytes(value)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def account(port: int, folder: Path, poll_s: float = 0.0, **more: str | int) -> ImapAccount:
    """The mailbox of the server on that port."""
    secret = folder / "password"
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    settings: dict[str, str | int] = {"tls": "none", **more}
    return ImapAccount(
        name="support",
        host="localhost",
        port=port,
        user="ann",
        password_file=str(secret),
        poll_s=poll_s,
        timeout_s=5.0,
        **settings,  # type: ignore[arg-type]
    )


@contextmanager
def imap_server(port: int, *options: str) -> Iterator[None]:
    """The server; its mailbox is empty, under a new UIDVALIDITY each time."""
    command = [str(Path(sys.executable).parent / "pymap"), "--host", "127.0.0.1", "--port", str(port), *options]
    command += [] if "--cert" in options else ["--no-tls"]
    command += ["dict", "--demo-user", "ann", "--demo-password", PASSWORD]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < ends and process.poll() is None, "pymap did not start"
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def client(port: int) -> Iterator[IMAPClient]:
    """A mail program at the mailbox."""
    found = IMAPClient("127.0.0.1", port, ssl=False)
    try:
        found.login("ann", PASSWORD)
        yield found
    finally:
        try:
            found.logout()
        except (OSError, IMAPClientError):
            found.shutdown()


def append(port: int, *messages: bytes) -> None:
    """Put messages into the inbox."""
    with client(port) as program:
        for each in messages:
            program.append("INBOX", each)


async def _poll(port: int, folder: Path, kill_at: int) -> None:
    count = 0

    async def take(arrival: Arrival) -> None:
        nonlocal count
        count += 1
        with (folder / "taken").open("a", encoding="utf-8") as file:
            file.write(f"{arrival.source} {arrival.key} {arrival.digest}\n")
            file.flush()
            os.fsync(file.fileno())
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    await poll_imap(account(port, folder), take, FileMarks(folder))


if __name__ == "__main__":
    asyncio.run(_poll(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
