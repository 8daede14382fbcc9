"""A NATS cluster of three on loopback, whose servers can be killed and started again one by one.

The rule: a server that was killed stays away until it is started, on its own data.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.site import until
from mesh.bus import Bus, connect
from mesh.embedded import find_binary
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from mesh.natsconf import Cluster, render
from mesh.permissions import BusUser

SERVERS = 3
_UP_S = 30.0
_STOP_S = 5.0
_CLUSTER = "workmesh"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


@dataclass
class Member:
    """One server of the cluster, by its server name."""

    name: str
    config: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start it on what data it has; it may not answer yet."""
        self.process = await asyncio.create_subprocess_exec(
            str(find_binary()),
            "-c",
            str(self.config),
            preexec_fn=_die_with_parent,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None and self.is_up:
            os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class NatsCluster:
    """Its servers, and who leads what."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)

    @property
    def url(self) -> str:
        """All addresses, as ``bus.url`` takes them."""
        return ",".join(f"nats://127.0.0.1:{member.port}" for member in self.members)

    def member(self, name: str) -> Member:
        """The server of this name."""
        return next(member for member in self.members if member.name == name)

    async def leader(self, bus: Bus, stream: str) -> Member:
        """The server that leads a stream now; raises ``BusUnavailableError`` when none does."""
        info = await bus.api(f"STREAM.INFO.{stream}")
        name = info.get("cluster", {}).get("leader", "")
        if not name:
            raise BusUnavailableError(f"{stream} has no leader")
        return self.member(name)


@asynccontextmanager
async def clustered(folder: Path, users: Sequence[BusUser], admin: Identity) -> AsyncIterator[NatsCluster]:
    """Three servers with these users, entered when they have a leader for JetStream."""
    cluster = NatsCluster(_members(folder, users))
    try:
        for member in cluster.members:
            await member.start()
        await until(lambda: _is_led(cluster.url, admin), _UP_S, "the cluster has a leader")
        yield cluster
    finally:
        for member in cluster.members:
            await member.kill()


def _members(folder: Path, users: Sequence[BusUser]) -> list[Member]:
    ports, routes = _free_ports(SERVERS), _free_ports(SERVERS)
    members = []
    for number, (port, route) in enumerate(zip(ports, routes, strict=True), 1):
        own = folder / f"n{number}"
        own.mkdir(mode=0o700, parents=True)
        others = tuple(f"nats://127.0.0.1:{other}" for other in routes if other != route)
        config = render(
            port=port,
            store=own / "store",
            log_file=own / "nats-server.log",
            users=users,
            name=f"n{number}",
            cluster=Cluster(_CLUSTER, route, others),
        )
        (own / "nats-server.conf").write_bytes(config)
        members.append(Member(f"n{number}", own / "nats-server.conf", port))
    return members


async def _is_led(url: str, admin: Identity) -> bool:
    """Whether JetStream answers, and knows of all servers."""
    try:
        async with connect(url, name="admin/chaos", options=admin.nats_options(), connect_timeout_s=1.0) as bus:
            return "error" not in await bus.api("INFO")
    except (BusUnavailableError, json.JSONDecodeError):
        return False


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
