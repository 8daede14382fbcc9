"""The memory process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from memory_service.erasing import Eraser
from memory_service.histories import Histories
from memory_service.retrieval import Embedder, VectorIndex, opened_embedder, opened_vectors
from memory_service.service import Memory
from memory_service.store import FactStore
from memory_service.telling import Teller
from memory_service.view import FactView
from memory_service.voices import Voices
from mesh.bus import Bus
from mesh.journal import Committer
from mesh.lifetime import background
from mesh.process import opened
from mesh.projection import following
from mesh.service import serving
from mesh.settings import Settings
from mesh.trust import TrustDirectory

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve memory until asked to stop; answers begin when the view has caught up with the stream."""
    async with opened(settings, "memory") as process:
        embedder = opened_embedder(settings.memory)
        vectors = opened_vectors(settings.memory, process.folder, embedder)
        async with remembering(
            process.bus, process.committer, process.trust, process.folder / "facts.db", vectors, embedder
        ) as (memory, view):
            if not await _first(view.projection.caught_up, process.stopping):
                return
            log.info("memory_ready", seq=view.projection.seq)
            async with serving(process.bus, "memory", memory.verbs()):
                process.ready()
                await process.stopping.wait()


@asynccontextmanager
async def remembering(
    bus: Bus,
    committer: Committer,
    trust: TrustDirectory,
    path: Path,
    vectors: VectorIndex | None = None,
    embedder: Embedder | None = None,
) -> AsyncIterator[tuple[Memory, FactView]]:
    """Memory with its view in ``path``, followed, indexed and swept while the block runs."""
    async with AsyncExitStack() as stack:
        view = FactView(bus, path, vectors=vectors, embedder=embedder)
        stack.callback(view.close)
        teller = Teller(bus)
        view.on_change(teller.changed)
        store = FactStore(bus, committer, view)
        eraser = Eraser(bus, view, store.append)
        await stack.enter_async_context(background(teller.run(), "teller"))
        await stack.enter_async_context(background(view.retriever.run(), "retriever"))
        await stack.enter_async_context(following(view.projection))
        await stack.enter_async_context(background(eraser.run(), "eraser"))
        yield Memory(store, view, Voices(trust, view), Histories(bus, view), eraser), view


async def _first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either event; whether the wanted one is set."""
    waits = [asyncio.create_task(event.wait(), name="wait") for event in (wanted, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return wanted.is_set()
