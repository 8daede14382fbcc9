"""The sites that cells run on: real processes, a real bus and the real shop, with hands on every process.

The rule: a cell gets a site on which everything is ready and idle, or a fresh one.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import httpx2
import structlog

from benchmarks.chaos.events import Orders
from console.up import Running, role_spec, running, systems_env, with_state_dir
from mesh import streams
from mesh.bus import Bus
from mesh.demo import Applied, Demo, load_demo
from mesh.errors import BusUnavailableError
from mesh.faultpoints import VARIABLE
from mesh.journal import Committer, committing
from mesh.operator import operating
from mesh.settings import Settings, load
from mesh.site import ROLES
from mesh.supervisor import Child, ChildSpec, ChildState, Supervisor

log = structlog.get_logger(__name__)

NATS = "nats"
SHOP = "shop"
PACK = "retail"
READY_S = 30.0
_POLL_S = 0.01
_SAGA = """[workmesh.packs]
saga = benchmarks.chaos.saga.pack:pack
"""


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A kind of site: with a second copy of each role or not, how the shop treats keys, how its tools are settled.

    ``recovery`` "" is as the shop allows: by the same key again, or by asking where keys are ignored.
    """

    copies: bool = False
    keys: Literal["honour", "ignore"] = "honour"
    recovery: Literal["", "idempotent", "verifiable"] = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A file by which a fault point says that it was reached, or is let go on."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_there(self) -> bool:
        """Whether it was made, and the time is in it."""
        return self.path.exists() and self.path.stat().st_size > 0

    @property
    def at(self) -> datetime:
        """The time that the fault point has written into it; a file's own time is some milliseconds late or early."""
        return datetime.fromtimestamp(float(self.path.read_text(encoding="ascii")), UTC)

    def make(self) -> None:
        """Let go on what waits for it."""
        self.path.touch()


async def until(condition: Callable[[], Awaitable[bool] | bool], limit_s: float, what: str) -> None:
    """Wait for a condition; raises ``TimeoutError`` saying what was waited for."""
    end = asyncio.get_running_loop().time() + limit_s
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        await asyncio.sleep(_POLL_S)


@dataclass
class Ground:
    """A running site and what a cell may do to it. ``children`` are the roles, their copies and the shop, by name."""

    spec: SiteSpec
    folder: Path
    running: Running
    children: Mapping[str, Child]
    bus: Bus
    committer: Committer
    demo: Demo
    options: Mapping[str, Any]
    orders: Orders
    settings: Settings
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def ack_wait_s(self) -> float:
        """The ack wait of the site's consumers."""
        return self.settings.bus.ack_wait_s

    def mark(self) -> Mark:
        """A new one, not yet made."""
        return Mark(self.folder / f"mark-{next(self.numbers)}")

    def pid(self, name: str) -> int:
        """The process id of a child, or of the bus."""
        server = self.running.server
        if name == NATS:
            return server.pid if server is not None else 0
        return self.children[name].pid

    def send(self, name: str, number: int) -> int:
        """Send a signal to a child or the bus; its process id."""
        if name == NATS:
            os.kill(self.pid(NATS), number)
            return self.pid(NATS)
        child = self.children[name]
        if number in (signal.SIGKILL, signal.SIGTERM):
            child.ready.clear()
        os.kill(child.pid, number)
        return child.pid

    def arm_next(self, name: str, points: str) -> None:
        """Arm fault points in the next life of a child."""
        child = self.children[name]
        child.spec = replace(child.spec, env={**child.spec.env, VARIABLE: points})

    async def arm(self, points: Mapping[str, str]) -> None:
        """Start children anew, each with its fault points armed; return when they are ready."""
        for name, armed in points.items():
            self.arm_next(name, armed)
        await self.renew(points)

    async def renew(self, names: Iterable[str]) -> None:
        """Start children anew; return when they are ready."""
        await asyncio.gather(*(self._restart(name) for name in names))

    async def ready(self) -> None:
        """Return when all is up and no consumer has anything left to do; raises ``TimeoutError``."""
        names = list(self.children.values())
        await until(lambda: all(child.state is ChildState.READY for child in names), READY_S, "all processes ready")
        await until(self.idle, READY_S, "all consumers idle")

    async def idle(self) -> bool:
        """Whether every stage has handled and acknowledged everything."""
        try:
            for stage in streams.STAGES:
                info = await self.bus.api(f"CONSUMER.INFO.{stage.stream}.{stage.stage}")
                if info.get("num_pending", 1) or info.get("num_ack_pending", 1):
                    return False
        except BusUnavailableError:
            return False
        return True

    async def applied(self) -> list[Applied]:
        """The shop's own log of changes."""
        return await self.demo.applied(self.options)

    async def shop_faults(self, **faults: Any) -> None:
        """Put faults in force in the shop's present life, beside the site's own."""
        own = {"keys": self.spec.keys}
        async with httpx2.AsyncClient(base_url=self.options["shop_url"], trust_env=False) as client:
            (await client.put("/faults", json=own | faults)).raise_for_status()

    def letters(self) -> frozenset[str]:
        """The tasks whose letter to the customer is in the outbox."""
        names = Path(self.options["outbox_dir"]).glob("wm-*-notify.eml")
        return frozenset(path.name.split("-")[1] for path in names)

    async def _restart(self, name: str) -> None:
        child = self.children[name]
        lives = child.restarts
        self.send(name, signal.SIGTERM)
        await until(lambda: child.restarts > lives and child.ready.is_set(), READY_S, f"{name} started anew")


class Sites:
    """The one site that is up: given again to who asks for its kind, replaced for another kind or after a failure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self._ground: Ground | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, spec: SiteSpec) -> Ground:
        """A site of this kind, ready and idle."""
        if self._ground is not None and self._ground.spec != spec:
            await self.close()
        if self._ground is None:
            folder = self._folder / f"s{next(self._numbers)}"
            self._ground = await self._stack.enter_async_context(ground_in(folder, spec))
        await self._ground.ready()
        return self._ground

    async def close(self) -> None:
        """Take the site down; the next one is fresh."""
        ground, self._ground = self._ground, None
        stack, self._stack = self._stack, AsyncExitStack()
        if ground is not None:
            wake(ground)
        await stack.aclose()


def wake(ground: Ground) -> None:
    """Have whatever a fault left stopped go on, so that it can be ended."""
    for name in (*ground.children, NATS):
        with contextlib.suppress(ProcessLookupError):
            if pid := ground.pid(name):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def saga_installed(folder: Path) -> Iterator[str]:
    """The saga pack installed for this process while the block runs; the folder for others to have it too."""
    about = folder / "workmesh_saga-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: workmesh-saga\nVersion: 0.1\n", encoding="ascii")
    (about / "entry_points.txt").write_text(_SAGA, encoding="ascii")
    sys.path.insert(0, str(folder))
    try:
        yield str(folder)
    finally:
        sys.path.remove(str(folder))


@asynccontextmanager
async def ground_in(
    folder: Path, spec: SiteSpec, *, env: Mapping[str, str] | None = None, binary: Path | None = None
) -> AsyncIterator[Ground]:
    """A site of this kind in a folder, with the sample's shop and the saga pack.

    ``env`` are further settings of all its processes; ``binary`` is the nats-server to run, if not the installed one.
    """
    demo = load_demo(PACK)
    systems = demo.systems(demo.sample, folder / "systems", {"keys": spec.keys})
    settings = with_state_dir(load(None, env or {}), folder / "site")
    options = {**systems.options, **({"recovery": spec.recovery} if spec.recovery else {})}
    saga = {name: value for name, value in options.items() if name in ("shop_url", "recovery")}
    async with AsyncExitStack() as stack:
        installed = stack.enter_context(saga_installed(folder / "installed"))
        paths = [installed, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **(env or {}),
            **systems_env(PACK, options),
            **systems_env("saga", saga),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        site = await stack.enter_async_context(running(settings, env=env, extra=systems.children, binary=binary))
        children = dict(site.supervisor.children)
        if spec.copies:
            specs = [_copy(role_spec(settings, role, None, env)) for role in ROLES]
            copies = await stack.enter_async_context(Supervisor(specs, settings.state_dir / "run2"))
            await copies.wait_ready(READY_S)
            children |= copies.children
        bus = await stack.enter_async_context(operating(settings))
        yield Ground(
            spec=spec,
            folder=folder,
            running=site,
            children=children,
            bus=bus,
            committer=await stack.enter_async_context(committing(bus)),
            demo=demo,
            options=options,
            orders=Orders(demo.sample),
            settings=settings,
        )


def copy_of(role: str) -> str:
    """The name of a role's second copy."""
    return f"{role}-2"


def _copy(spec: ChildSpec) -> ChildSpec:
    name = copy_of(spec.name)
    env = {**spec.env, "WORKMESH_ROLE_INSTANCE": name}
    return replace(spec, name=name, log_file=spec.log_file.with_name(f"{name}.log"), env=env)
