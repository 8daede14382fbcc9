"""The memory process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from memory_service.erasing import Eraser
from memory_service.histories import Histories
from memory_service.probing import Prober, read_probes
from memory_service.retrieval.opening import open_parts, weights_of
from memory_service.service import Memory
from memory_service.session_service import SessionMemory
from memory_service.sessions import Sessions
from memory_service.store import FactStore
from memory_service.telling import Teller
from memory_service.view import FactView
from memory_service.voices import Voices
from mesh import metrics
from mesh.bus import Bus
from mesh.journal import Committer
from mesh.lifetime import background
from mesh.process import opened
from mesh.projection import following
from mesh.service import serving
from mesh.settings import MemorySettings, Settings
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)

_MEASURE_S = 10.0
_DEFAULT = MemorySettings()


async def run(settings: Settings) -> None:
    """Serve memory until asked to stop; answers begin when the view has caught up with the stream."""
    async with opened(settings, "memory") as process:
        vectors, embedder = open_parts(settings.memory, process.folder)
        view = FactView(
            process.bus,
            process.folder / "facts.db",
            vectors=vectors,
            embedder=embedder,
            weights=weights_of(settings.memory),
        )
        async with remembering(process.bus, process.committer, process.trust, view, settings.memory) as memory:
            if not await _first(view.projection.caught_up, process.stopping):
                return
            log.info("memory_ready", seq=view.projection.seq)
            async with serving(process.bus, "memory", memory.verbs()):
                process.ready()
                await process.stopping.wait()


@asynccontextmanager
async def remembering(
    bus: Bus, committer: Committer, trust: TrustDirectory, view: FactView, settings: MemorySettings = _DEFAULT
) -> AsyncIterator[Memory]:
    """Memory over this view: followed, indexed, probed and swept while the block runs, and closed behind it."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(view.close)
        teller = Teller(bus)
        view.on_change(teller.changed)
        store = FactStore(bus, committer, view)
        eraser = Eraser(bus, view, store.append)
        prober = Prober(view, read_probes(Path(settings.probes)) if settings.probes else ())
        for work, name in (
            (teller.run(), "teller"),
            (view.retriever.run(), "retriever"),
            (eraser.run(), "eraser"),
            (prober.run(settings.probe_s), "prober"),
            (_measure(view), "measures"),
        ):
            await stack.enter_async_context(background(work, name))
        await stack.enter_async_context(following(view.projection))
        sessions = SessionMemory(Sessions(bus))
        yield Memory(store, view, Voices(trust, view), Histories(bus, view), eraser, sessions, prober)


async def _measure(view: FactView) -> None:
    """Tell how much there is, every few seconds."""
    while True:
        facts, contested = view.counts()
        metrics.MEMORY_FACTS.set(facts)
        metrics.MEMORY_CONTESTED.set(contested)
        metrics.MEMORY_WITHOUT_VECTORS.set(view.retriever.lag)
        await asyncio.sleep(_MEASURE_S)


async def _first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either event; whether the wanted one is set."""
    waits = [asyncio.create_task(event.wait(), name="wait") for event in (wanted, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return wanted.is_set()
