"""The learner process: the stage that writes lessons, the tallies beside it, and the service that takes corrections."""

import asyncio

from agents.learner.corrections import Corrections
from agents.learner.handler import learn
from agents.learner.tally import Tallies
from mesh.corrections import CorrectRequest
from mesh.process import opened
from mesh.projection import following
from mesh.service import serving
from mesh.settings import Settings


async def run(settings: Settings) -> None:
    """Learn until asked to stop."""
    async with opened(settings, "learner") as process:
        tallies = Tallies(process.bus, process.folder / "tallies.db", process.writer)
        process.exit.callback(tallies.close)
        corrections = Corrections(process.journal, process.bus, process.writer)
        verbs = {"correct": (CorrectRequest, corrections.correct)}
        async with following(tallies.projection), serving(process.bus, "learner", verbs):
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(tallies.run(), name="tallies")
                await process.run_stage(learn)
                telling.cancel()
