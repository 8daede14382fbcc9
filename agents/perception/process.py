"""The perception process."""

from agents.perception.handler import perceiving
from mesh.event_index import EventIndex
from mesh.process import opened
from mesh.projection import following
from mesh.settings import Settings


async def run(settings: Settings) -> None:
    """Perceive events until asked to stop."""
    async with opened(settings, "perception") as process:
        index = EventIndex(process.bus, process.folder / "accepted.db", process.packs)
        process.exit.callback(index.close)
        await index.forget_expired()
        async with following(index.projection):
            await process.run_stage(perceiving(process.packs, index, process.journal))
