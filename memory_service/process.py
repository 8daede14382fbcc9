"""The memory process."""

import asyncio

import structlog

from memory_service.service import Memory
from memory_service.store import FactStore
from memory_service.view import FactView
from mesh.process import opened
from mesh.projection import following
from mesh.service import serving
from mesh.settings import Settings

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve memory until asked to stop; answers begin when the view has caught up with the stream."""
    async with opened(settings, "memory") as process:
        view = FactView(process.bus, process.folder / "facts.db")
        process.exit.callback(view.close)
        memory = Memory(FactStore(process.bus, process.committer), view)
        async with following(view.projection) as projection:
            if not await _first(projection.caught_up, process.stopping):
                return
            log.info("memory_ready", seq=projection.seq)
            async with serving(process.bus, "memory", memory.verbs()):
                process.ready()
                await process.stopping.wait()


async def _first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either event; whether the wanted one is set."""
    waits = [asyncio.create_task(event.wait(), name="wait") for event in (wanted, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return wanted.is_set()
