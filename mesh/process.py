"""A process of the mesh: what every role opens at start, in one place, and how it stops.

The rule: a role's entry reads settings, enters ``opened``, adds what is its own, and runs; nothing else connects.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from mesh import durability, exposition, faultpoints, logs, streams, subjects
from mesh.bus import Bus, connect
from mesh.checkpoint import Checkpoint, checkpoint
from mesh.disk import show_disk
from mesh.errors import BusUnavailableError, NotDurableError, SettingsError
from mesh.identity import Identity
from mesh.journal import Committer, Journal, committing
from mesh.lifetime import background
from mesh.middleware.dead_letter import dead_letter
from mesh.middleware.deadline import deadline
from mesh.middleware.recovery import recovery
from mesh.middleware.timing import timing
from mesh.notify import notify
from mesh.outbox import replay_outbox
from mesh.pack import Pack, load_packs, pack_names
from mesh.pump import Pump
from mesh.queues import watch_queue
from mesh.registry import registered
from mesh.runtime import Handler, Outputs, Stage, StageLimits, Work
from mesh.series import begin_stage
from mesh.settings import Settings
from mesh.trust import TrustDirectory, TrustWatcher, read_directory

log = structlog.get_logger(__name__)

_RETRY_CONNECT_S = 0.25
# Records and tasks live for milliseconds and form no cycles: a collection every 700 objects finds nothing.
_GC_OBJECTS = 20_000
# The streams that each role writes to or works from: those it must find durable.
_STREAMS = {
    "perception": (subjects.EVENTS, subjects.JOURNAL, subjects.QUARANTINE),
    "planner": (subjects.JOURNAL, subjects.QUARANTINE),
    "model": (subjects.JOURNAL, subjects.QUARANTINE),
    "policy": (subjects.JOURNAL, subjects.QUARANTINE),
    "executor": (subjects.JOURNAL, subjects.QUARANTINE),
    "learner": (subjects.JOURNAL, subjects.QUARANTINE),
    "memory": (subjects.MEMORY,),
    "intake": (subjects.EVENTS, subjects.JOURNAL, subjects.QUARANTINE, subjects.ORIGINALS),
    "auditor": (subjects.JOURNAL, subjects.AUDIT),
    "console": (subjects.EVENTS, subjects.JOURNAL, subjects.QUARANTINE),
    "tracer": (subjects.JOURNAL,),
}


@dataclass(frozen=True, slots=True)
class Process:
    """What a role has: its settings, identity, bus, journal, checkpoint, trust and packs."""

    role: str
    settings: Settings
    identity: Identity
    bus: Bus
    committer: Committer
    journal: Journal
    checkpoint: Checkpoint
    trust: TrustDirectory
    packs: Mapping[str, Pack]
    stopping: asyncio.Event
    exit: AsyncExitStack
    options: Mapping[str, Any] = field(default_factory=dict)
    works: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def writer(self) -> str:
        """Who signs for the records of this process, as their header says it."""
        return f"{self.role}/{self.settings.instance}"

    @property
    def folder(self) -> Path:
        """This process's own folder for local state."""
        return self.settings.state_dir / "state" / (self.settings.role_instance or self.role)

    def ready(self) -> None:
        """Tell whoever started this process that it works."""
        gc.freeze()  # what was made at the start stays: no collection need look at it again
        gc.set_threshold(_GC_OBJECTS, 50, 100)
        log.info("process_ready", role=self.role)
        self.works.set()
        notify("READY=1")

    async def run_stage(self, handler: Handler, *, places: int = 0, handler_timeout_s: float | None = None) -> None:
        """Run this role's stage until the process is asked to stop.

        ``places`` are for inputs that wait in the handler, beside those that it works on at once. A handler whose work
        is longer by nature has a ``handler_timeout_s`` of its own.
        """
        runtime, bus = self.settings.runtime, self.settings.bus
        spec = next(stage for stage in streams.STAGES if stage.stage == self.role)
        concurrency = runtime.concurrency + places
        capacity = concurrency + runtime.fetch_batch
        stage = Stage(
            self.role,
            spec.stream,
            handler,
            committer=self.committer,
            pump=Pump(
                self.bus,
                spec.stream,
                self.role,
                ack_wait_s=bus.ack_wait_s,
                batch=runtime.fetch_batch,
                capacity=capacity,
            ),
            writer=self.writer,
            limits=StageLimits(concurrency, runtime.drain_timeout_s, runtime.nak_delay_s, runtime.nak_delay_max_s),
            middleware=(
                _fault_points,
                timing,
                dead_letter(self.committer, max_attempts=runtime.max_attempts),
                recovery,
                deadline(handler_timeout_s or runtime.handler_timeout_s),
            ),
        )
        begin_stage(self.role, self.packs)
        self.ready()
        async with background(watch_queue(self.bus, spec), "queue"):
            await stage.run(self.stopping)

    async def connect_packs(self) -> dict[str, dict[str, Any]]:
        """Open the systems that each pack talks to; by pack, then by target."""
        return {
            name: dict(await self.exit.enter_async_context(pack.connect(self.options[name])))
            for name, pack in self.packs.items()
        }


def _fault_points(handler: Handler) -> Handler:
    """``<stage>.before_handling``, and ``<stage>.before_ack``: outputs committed, input not yet acknowledged."""

    async def reaching(work: Work) -> Outputs:
        await faultpoints.reach(f"{work.stage}.before_handling")
        outputs = await handler(work)
        await faultpoints.reach(f"{work.stage}.before_ack")
        return outputs

    return reaching


@asynccontextmanager
async def opened(settings: Settings, role: str) -> AsyncIterator[Process]:
    """Everything a role needs, opened in order and closed in reverse.

    Raises ``SettingsError`` for wrong settings and ``NotDurableError`` for a bus that may lose records; waits for a
    bus that is not there yet.
    """
    logs.configure(settings.log, role=role, instance=settings.instance)
    faultpoints.arm(os.environ.get(faultpoints.VARIABLE))
    stopping, works = asyncio.Event(), asyncio.Event()
    bus: Bus | None = None

    def unready() -> str:
        if stopping.is_set() or bus is None or not works.is_set():
            return "it is stopping" if stopping.is_set() else "it has not begun to work"
        return "" if bus.client.is_connected else "it has no connection to the bus"

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if unknown := set(settings.packs) - pack_names():
        raise SettingsError(f"[packs.{min(unknown)}]: no such pack is installed; there are {sorted(pack_names())}")
    packs = load_packs(settings.pack_names)
    options = {name: pack.read_options(settings.packs.get(name)) for name, pack in packs.items()}
    identity = Identity.load(settings.identity_path(role))
    async with AsyncExitStack() as stack:
        metrics_url = await stack.enter_async_context(exposition.serve(settings.metrics, ready=unready))
        log.info("metrics_served", url=metrics_url)
        bus = await _connect(stack, settings, identity, role, stopping)
        await _require_durable(bus, settings, role, stopping)
        committer = await stack.enter_async_context(committing(bus, batch_max=settings.runtime.batch_max))
        folder = settings.state_dir / "state" / (settings.role_instance or role)
        local = await stack.enter_async_context(checkpoint(folder / "checkpoint.db"))
        show_disk(folder)
        await faultpoints.reach(f"{role}.opening")
        await replay_outbox(local, committer)
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        root = settings.root_key()
        watcher = await stack.enter_async_context(TrustWatcher(bucket, root, known=await read_directory(bus, root)))
        await stack.enter_async_context(registered(bus, role, settings.instance, metrics_url))
        yield Process(
            role=role,
            settings=settings,
            identity=identity,
            bus=bus,
            committer=committer,
            journal=Journal(bus, committer),
            checkpoint=local,
            trust=watcher.directory,
            packs=packs,
            stopping=stopping,
            exit=stack,
            options=options,
            works=works,
        )
        log.info("process_stopping", role=role)


async def _connect(
    stack: AsyncExitStack, settings: Settings, identity: Identity, role: str, stopping: asyncio.Event
) -> Bus:
    url = bus_url(settings)
    while True:
        try:
            return await stack.enter_async_context(
                connect(
                    url,
                    name=f"{role}/{settings.instance}",
                    options=identity.nats_options(),
                    tls=settings.bus.tls,
                    connect_timeout_s=settings.bus.connect_timeout_s,
                    request_timeout_s=settings.bus.request_timeout_s,
                )
            )
        except BusUnavailableError as error:
            log.warning("bus_not_there_yet", error=str(error))
            if stopping.is_set():
                raise
            await asyncio.sleep(_RETRY_CONNECT_S)


async def _require_durable(bus: Bus, settings: Settings, role: str, stopping: asyncio.Event) -> None:
    stage = next((spec for spec in streams.STAGES if spec.stage == role), None)
    relaxed = settings.bus.durability == "relaxed"
    while True:
        try:
            faults = await durability.require(
                bus,
                _STREAMS[role],
                stage,
                replicas=settings.bus.replicas,
                ack_wait_s=settings.bus.ack_wait_s,
                relaxed=relaxed,
            )
        except BusUnavailableError as error:
            log.warning("durability_not_known_yet", error=str(error))
            if stopping.is_set():
                raise
            await asyncio.sleep(_RETRY_CONNECT_S)
            continue
        except NotDurableError:
            log.error("bus_not_durable", role=role)
            raise
        if faults:
            log.warning("durability_relaxed", faults=faults)
        return


def bus_url(settings: Settings) -> str:
    """The bus's address: of the settings, else of the embedded server that runs in the state folder."""
    if settings.bus.url:
        return settings.bus.url
    path = settings.state_dir / "nats" / "port"
    try:
        return f"nats://127.0.0.1:{path.read_text(encoding='utf-8').strip()}"
    except OSError as error:
        raise SettingsError(
            f"no bus: set bus.url, or start `workmesh up` with state_dir {settings.state_dir} first"
        ) from error
