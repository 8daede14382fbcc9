"""A site and its hub for tests: two whole installations of the ledger's domain, and the uplink between them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesh import service, subjects
from mesh.activation import standing
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.facts import SOURCE_ROLE, STEWARD_ROLE, Judged, Scope
from mesh.identity import Identity
from mesh.journal import Journal, committing
from mesh.link import Heartbeat, last_heard
from mesh.memory import FactsPage, FactsRequest
from mesh.permissions import BusUser
from mesh.ports import free_port
from mesh.settings import Settings
from mesh.site import Site
from mesh.supervisor import Child, ChildSpec, Supervisor
from mesh.trust import read_directory
from tests.ledger_pack.running import INSTALLED, WAIT_S, installed
from tests.ledger_pack.world import BUS, POLICIES, ROOT, World, world_in

SHARED = Scope(domain="ledger", tenant="group")
"""What the hub gives of its memory."""
CASES = """
- {name: small, tool: ledger.post, amount: 100,
   facts: &f {frozen: false, amount: 1}, expect: {policies: [small], verdict: allow}}
- {name: none, tool: ledger.post, amount: 2000000, facts: *f, expect: {verdict: deny}}
"""


class _HubSite(Site):
    guests: tuple[BusUser, ...] = ()

    def users(self) -> tuple[BusUser, ...]:
        """Its own users, and the uplinks of its sites."""
        return (*super().users(), *self.guests)


@dataclass
class Hub(World):
    """The hub: a bus, a memory, and its people; its server can be frozen."""

    server: EmbeddedNats = field(init=False)

    async def start_server(self) -> None:
        """Start the bus."""
        self.server = EmbeddedNats(self.site.settings.state_dir / "nats", self.site.users())
        self.url = (await self.servers.enter_async_context(self.server)).url


class Wire:
    """What lies between the site and its hub: it can be cut, be frozen (nothing goes through, and nobody is told), and
    be joined again."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def join(self) -> None:
        """Have it pass on what comes."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """End every connection, and take no new one."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.close()
        self._open.clear()

    def freeze(self) -> None:
        """Pass nothing on."""
        self._flows.clear()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@dataclass
class Hybrid:
    """Both, the wire between them, the uplink's key, and people with one key at both; ``uwe`` is the hub's alone."""

    folder: Path
    hub: Hub
    site: World
    key: Identity
    other: Identity
    petra: Identity
    stella: Identity
    uwe: Identity
    erp: Identity
    wire: Wire

    @property
    def name(self) -> str:
        """The site as its hub names it."""
        return subjects.site_name(self.key.public_key)

    @asynccontextmanager
    async def uplink(self, name: str = "uplink-1") -> AsyncIterator[Child]:
        """The uplink as a process of its own, started again whenever it dies."""
        hub = f"nats://127.0.0.1:{self.wire.port}"
        argv = (sys.executable, "-m", "console.main", "bus", "uplink", "--hub", hub, "--key", str(self.key.path))
        env = {**self.site.env, "WORKMESH_ROLE_INSTANCE": name}
        spec = ChildSpec(name, argv, self.folder / f"{name}.log", env)
        async with Supervisor([spec], self.folder / f"u{next(self.site.numbers)}") as supervisor:
            await supervisor.wait_ready(WAIT_S)
            yield supervisor.children[name]

    @asynccontextmanager
    async def at_hub(self, key: Identity, *, timeout_s: float = 1.0) -> AsyncIterator[Bus]:
        """The hub's bus under a key of a site."""
        async with connect(self.hub.url, name="x", options=key.nats_options(), request_timeout_s=timeout_s) as bus:
            yield bus

    def bundle(self, name: str, *, site: bool = False, cedar: str = "") -> Path:
        """A folder with the ledger's policies, told from others by a comment."""
        folder = self.folder / "bundles" / name
        (folder / "cases").mkdir(parents=True)
        for path in POLICIES.iterdir():
            (folder / path.name).write_text(path.read_text() + (cedar if path.suffix == ".cedar" else ""))
        (folder / "cases" / "ledger.yaml").write_text(f"# {name}\n{CASES}")
        return folder

    async def send(self, folder: Path, *args: str, code: int = 0) -> dict[str, Any]:
        """``workmesh policy send`` at the hub, under petra's key."""
        said = await typed(
            self.hub, "policy", "send", self.name, str(folder), "--domain", "ledger", "--json", *args,
            "--key", str(self.petra.path), code=code,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    async def in_force(self) -> str:
        """The digest that is in force at the site."""
        found = await standing(self.site.bus, "ledger")
        return found.activation.digest if found else ""

    async def facts(self, subject: str, scope: Scope = SHARED) -> list[Judged]:
        """What the site's memory holds of a subject, retracted or not."""
        request = FactsRequest(scope=scope, subject=subject, status=None)
        return list((await service.ask(self.site.bus, "memory", "facts", request, FactsPage)).facts)

    async def heard(self) -> Heartbeat | None:
        """The last sign of life of the hub that the site has."""
        trust = await read_directory(self.site.bus, self.site.site.admin.public_key)
        return await last_heard(self.site.bus, trust, self.name)


async def typed(world: World, *args: str, code: int = 0) -> str:
    """A command as a person types it there; its stdout."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "console.main", *args,
        env={**os.environ, **world.env}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == code, (args, out.decode(), err.decode())
    return out.decode()


@asynccontextmanager
async def hybrid_in(folder: Path, *roles: str) -> AsyncIterator[Hybrid]:
    """The hub with its memory, the site with these roles, and everything enrolled; no uplink runs yet."""
    key, other, petra, stella, uwe, erp = (
        Identity.create(folder / "people" / f"{name}.nk", name)
        for name in ("uplink", "other", "petra", "stella", "uwe", "erp")
    )
    name = subjects.site_name(key.public_key)
    people: dict[Identity, tuple[str, ...]] = {petra: ("policy_admin",), stella: (STEWARD_ROLE,)}
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            _hub(folder / "hub", (key, other), people | {uwe: (STEWARD_ROLE,), erp: (SOURCE_ROLE,)})
        )
        env = {"WORKMESH_HUB__SITE": name}
        site = await stack.enter_async_context(world_in(folder / "site", *roles, env=env))
        with installed():
            await site.site.bootstrap(site.url, people)
        await typed(hub, "bus", "site", f"{key.path}.pub", "--facts", SHARED.text)
        await typed(hub, "bus", "site", f"{other.path}.pub")
        roles_ = ("--role", SOURCE_ROLE, "--role", "uplink", "--kind", "service")
        await typed(site, "keys", "enroll", "hq", "--public-key", f"{key.path}.pub", *roles_)
        wire = Wire(urlsplit(hub.url).port or 0)
        await wire.join()
        stack.push_async_callback(wire.cut)
        yield Hybrid(folder, hub, site, key, other, petra, stella, uwe, erp, wire)


@asynccontextmanager
async def _hub(
    folder: Path, uplinks: tuple[Identity, ...], people: dict[Identity, tuple[str, ...]]
) -> AsyncIterator[Hub]:
    with installed():
        own = _HubSite(Settings(state_dir=folder / "state", bus=BUS))
    own.guests = tuple(BusUser(key.public_key, ("uplink",), key.name) for key in uplinks)
    env = {
        "WORKMESH_STATE_DIR": str(folder / "state"),
        "WORKMESH_METRICS__PORT": "-1",
        "WORKMESH_ENABLED_PACKS": "ledger",
        "WORKMESH_MEMORY__EMBEDDER": "none",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(INSTALLED))),
    }
    hub = Hub(folder, own, {}, free_port(), env)
    async with hub.servers:
        await hub.start_server()
        with installed():
            await own.bootstrap(hub.url, people)
        async with hub.connected("operator") as hub.bus, committing(hub.bus) as hub.committer:
            hub.journal = Journal(hub.bus, hub.committer)
            async with hub.roles("memory"):
                yield hub
