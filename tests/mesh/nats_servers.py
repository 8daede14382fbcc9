"""Real nats-servers for tests, each from a configuration of its own; started, stopped and killed by the test."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.embedded import find_binary
from mesh.identity import Identity
from mesh.permissions import ROLES, BusUser
from mesh.ports import free_port

_READY_S = 15.0


def identities(folder: Path, roles: Sequence[str] = tuple(ROLES)) -> dict[str, Identity]:
    """A key for each role."""
    return {role: Identity.create(folder / f"{role}.nk", role) for role in roles}


def users(keys: dict[str, Identity]) -> list[BusUser]:
    """The users of these keys."""
    return [BusUser(identity.public_key, (role,), role) for role, identity in keys.items()]


@dataclass
class Server:
    """One server, by its configuration; it stays away until it is started."""

    config: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @classmethod
    def of(cls, folder: Path, config: bytes) -> "Server":
        """The server of this configuration, not yet started."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "nats-server.conf"
        path.write_bytes(config)
        return cls(path, int(json.loads(config)["listen"].rpartition(":")[2]))

    async def start(self) -> None:
        """Start it, and return when it greets clients."""
        with (self.config.parent / "nats-server.err").open("ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                str(find_binary()), "-c", str(self.config), stdout=said, stderr=said
            )
        async with asyncio.timeout(_READY_S):
            while not await _greets(self.port):
                assert self.process.returncode is None, (self.config.parent / "nats-server.err").read_text()
                await asyncio.sleep(0.02)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, and return when it is gone."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            try:
                async with asyncio.timeout(5):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()

    def reload(self) -> None:
        """Have it read its configuration again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def started(*servers: Server) -> AsyncIterator[None]:
    """These servers, all started; ended on leaving."""
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


async def _greets(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        return (await reader.readline()).startswith(b"INFO ")
    except OSError:
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
