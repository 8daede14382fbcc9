"""The book beside a real journal: exact across stops, rebuilt from the stream, and bounded."""

from datetime import timedelta
from pathlib import Path

from agents.learner.counting import fold, line
from mesh.bus import Bus
from mesh.projection import following
from mesh.records import Outcome, OutcomeStatus
from mesh.statistics import StatLine, WindowRequest
from tests.agents.learner.endings import end_tasks, opened_book, outcome
from tests.memory_service.running_memory import Site


def _endings(first: int, number: int) -> list[Outcome]:
    statuses = list(OutcomeStatus)
    return [
        outcome(f"task{count}", statuses[count % len(statuses)], ("a.b", "c.d")[count % 2], ms=count / 8)
        for count in range(first, first + number)
    ]


async def _read(site: Site, bus: Bus, folder: Path, seq: int) -> list[StatLine]:
    with opened_book(bus, folder) as book:
        async with following(book.projections[0]) as projection:
            await projection.reached(seq)
        return book.lines(WindowRequest())


async def test_the_numbers_are_those_of_a_refold_after_a_stop_and_rebuilt_from_nothing(
    site: Site, learner: Bus, tmp_path: Path
) -> None:
    first, second = _endings(0, 9), _endings(9, 12)
    seqs = await end_tasks(site, first)
    await _read(site, learner, tmp_path / "one", seqs[-1])
    seqs = await end_tasks(site, second)
    after_stop = await _read(site, learner, tmp_path / "one", seqs[-1])
    rebuilt = await _read(site, learner, tmp_path / "two", seqs[-1])
    expected = [line(key.kind, key.name, tally) for key, tally in sorted(fold([*first, *second]).items())]
    assert after_stop == rebuilt == expected


async def test_a_window_holds_whole_hours_and_the_last_endings_are_the_newest(
    site: Site, learner: Bus, tmp_path: Path
) -> None:
    (seq, *_, last) = await end_tasks(site, [outcome(f"task{count}") for count in range(5)])
    with opened_book(learner, tmp_path) as book:
        async with following(book.projections[0]) as projection:
            await projection.reached(last)
        at = outcome("x").header.at
        assert book.lines(WindowRequest(since=at + timedelta(hours=1))) == []
        assert book.lines(WindowRequest(until=at)) == []
        assert book.lines(WindowRequest(since=at, until=at + timedelta(hours=1)))[0].tasks == 5
        assert [end.task_id for end in book.last("retail", ("retail.return",), 2)] == ["task4", "task3"]
        assert book.last("retail", ("retail.return",), 9, before=seq + 1)[0].task_id == "task0"
        assert book.last("retail", ("retail.cancel",), 9) == []
