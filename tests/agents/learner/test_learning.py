"""The learner's stage on a real journal: one lesson an outcome, however often the outcome is delivered."""

import asyncio

from agents.learner.handler import learn
from mesh.bus import Bus
from mesh.journal import Journal, committing
from mesh.pump import Pump
from mesh.records import Lesson, OutcomeStatus
from mesh.runtime import Stage, StageLimits
from tests.agents.learner.endings import end_tasks, outcome
from tests.memory_service.running_memory import Site


async def test_each_outcome_is_one_lesson(site: Site, learner: Bus) -> None:
    endings = [outcome(f"task{number}", OutcomeStatus.DENIED) for number in range(5)]
    seqs = await end_tasks(site, endings)
    stopping = asyncio.Event()
    async with committing(learner) as committer, asyncio.TaskGroup() as group:
        stage = Stage(
            "learner",
            "JOURNAL",
            learn,
            committer=committer,
            pump=Pump(learner, "JOURNAL", "learner", batch=8, capacity=16, ack_wait_s=5.0),
            writer="learner/1",
            limits=StageLimits(),
        )
        group.create_task(stage.run(stopping))
        lessons = await _lessons(Journal(learner, committer), len(endings))
        stopping.set()
    for seq, lesson in zip(seqs, lessons, strict=True):
        assert (lesson.name, lesson.playbook, lesson.status) == ("-", "retail.return", "denied")
        assert lesson.tools == ("shop.return", "notify")
        assert lesson.header.causation.seq == seq
        assert lesson.header.traceparent


async def _lessons(journal: Journal, number: int) -> list[Lesson]:
    """The lessons of the first ``number`` tasks, once all are there."""
    found: list[Lesson] = []
    async with asyncio.timeout(15):
        while len(found) < number:
            stands = await journal.record(f"task.lesson.retail.task{len(found)}.-")
            if stands is None:
                await asyncio.sleep(0.01)
            elif isinstance(stands.record, Lesson):
                found.append(stands.record)
    return found
