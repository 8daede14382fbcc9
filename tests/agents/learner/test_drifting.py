"""Drift beside a real journal: raised, the same after a stop, and rebuilt from the stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agents.learner.drift import WINDOW
from agents.learner.drifting import Drifts
from mesh.bus import Bus
from mesh.experience import Experience
from mesh.projection import following
from mesh.records import Outcome
from mesh.statistics import DriftLine
from tests.agents.learner.endings import end_tasks, outcome
from tests.memory_service.running_memory import Site


def _endings(first: int, number: int, erred: tuple[str, ...] = ()) -> list[Outcome]:
    left = Experience(erred=erred)
    return [
        msgspec.structs.replace(outcome(f"task{count}", tools=("notify",)), experience=left)
        for count in range(first, first + number)
    ]


@asynccontextmanager
async def _followed(bus: Bus, folder: Path, seq: int) -> AsyncIterator[list[DriftLine]]:
    drifts = Drifts(bus, folder / "drift.db")
    try:
        async with following(drifts.projections[1]) as projection:
            await projection.reached(seq)
        yield drifts.lines()
    finally:
        drifts.close()


async def test_a_tool_that_begins_to_fail_is_raised_and_found_again_from_nothing(
    site: Site, learner: Bus, tmp_path: Path
) -> None:
    seqs = await end_tasks(site, _endings(0, WINDOW))
    async with _followed(learner, tmp_path / "one", seqs[-1]) as lines:
        assert [line.raised for line in lines] == [(), ()]
    seqs = await end_tasks(site, _endings(WINDOW, 25, ("notify",)))
    async with _followed(learner, tmp_path / "one", seqs[-1]) as after_stop:
        (first, *_) = after_stop
    assert (first.what, first.name, first.raised) == ("errors", "notify", ("0.0% before, 100.0% now",))
    async with _followed(learner, tmp_path / "two", seqs[-1]) as rebuilt:
        assert rebuilt == after_stop
