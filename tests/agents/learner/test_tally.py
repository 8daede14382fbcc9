"""The tallies beside a real journal and memory: exact across stops, told once, patient while memory is away."""

import asyncio
from pathlib import Path

import msgspec

from agents.learner.counting import Key, Kind, Tally, fold
from agents.learner.tally import FACT_KEY, Row
from mesh import subjects
from mesh.bus import Bus
from mesh.projection import following
from mesh.records import Outcome, OutcomeStatus
from tests.agents.learner.endings import end_tasks, opened_tallies, outcome
from tests.memory_service.running_memory import Site, forget, history, recall, until

RETURN = "playbook/retail.return"


def _endings(first: int, number: int) -> list[Outcome]:
    statuses = list(OutcomeStatus)
    return [
        outcome(f"task{count}", statuses[count % len(statuses)], ("a.b", "c.d")[count % 2], ms=count / 8)
        for count in range(first, first + number)
    ]


def _expected(endings: list[Outcome], seqs: list[int]) -> list[Row]:
    items = [(seq, subjects.of(ending), ending) for seq, ending in zip(seqs, endings, strict=True)]
    return sorted(Row(*item) for item in fold(items).items())


async def test_counts_are_exact_however_often_the_learner_is_stopped(site: Site, learner: Bus, tmp_path: Path) -> None:
    endings = _endings(0, 700)
    seqs: list[int] = []
    for part in range(7):
        committing = asyncio.create_task(end_tasks(site, endings[part * 100 : part * 100 + 100]))
        with opened_tallies(learner, tmp_path / "learner") as tallies:
            async with following(tallies.projection):
                await tallies.projection.reached(tallies.projection.seq + 1)
        seqs += await committing
    with opened_tallies(learner, tmp_path / "learner") as tallies:
        async with following(tallies.projection):
            await tallies.projection.reached(seqs[-1])
        assert tallies.rows() == _expected(endings, seqs)


async def test_a_lost_file_is_counted_anew_from_the_journal(site: Site, learner: Bus, tmp_path: Path) -> None:
    endings = _endings(0, 60)
    seqs = await end_tasks(site, endings)
    for name in ("first", "second"):
        with opened_tallies(learner, tmp_path / name) as tallies:
            async with following(tallies.projection):
                await tallies.projection.reached(seqs[-1])
            assert tallies.rows() == _expected(endings, seqs)


async def test_a_tally_is_a_fact_that_says_where_it_comes_from(
    site: Site, learner: Bus, operator: Bus, tmp_path: Path
) -> None:
    ended = [outcome("one"), outcome("two", OutcomeStatus.DENIED, ms=37.5)]
    seqs = await end_tasks(site, ended)
    async with site.memory():
        with opened_tallies(learner, tmp_path / "learner") as tallies:
            async with following(tallies.projection):
                await tallies.projection.reached(seqs[-1])
            assert await tallies.tell() == 3
            assert await tallies.tell() == 0, "nothing has changed"
        (fact,) = await history(operator, RETURN, FACT_KEY)
        tools = await recall(operator, "tool/", "completed")
    assert fact.text == "retail.return: 1 completed, 1 denied; 25.0 ms on average, 37.5 ms at most"
    assert fact.as_of == seqs[-1]
    assert msgspec.json.decode(fact.value, type=Tally) == Tally(
        completed=1, denied=1, timed=2, total_us=50_000, max_us=37_500, seq=seqs[-1], subject=subjects.of(ended[-1])
    )
    assert (fact.provenance.writer, fact.provenance.source) == ("learner/1", f"journal outcomes up to {seqs[-1]}")
    assert fact.provenance.causation is not None and fact.provenance.causation.seq == seqs[-1]
    assert {found.scope for found in tools} == {"tool/shop.return", "tool/notify"}


async def test_two_copies_that_tell_the_same_counts_make_one_version(
    site: Site, learner: Bus, operator: Bus, tmp_path: Path
) -> None:
    seqs = await end_tasks(site, [outcome("one"), outcome("two")])
    async with site.memory():
        with opened_tallies(learner, tmp_path / "one") as one, opened_tallies(learner, tmp_path / "two") as two:
            async with following(one.projection), following(two.projection):
                await asyncio.gather(one.projection.reached(seqs[-1]), two.projection.reached(seqs[-1]))
                await asyncio.gather(one.tell(), two.tell())
        assert len(await history(operator, RETURN, FACT_KEY)) == 1


async def test_counting_goes_on_while_memory_is_away_and_is_told_when_it_is_back(
    site: Site, learner: Bus, operator: Bus, tmp_path: Path
) -> None:
    with opened_tallies(learner, tmp_path / "learner") as tallies:
        async with following(tallies.projection), asyncio.TaskGroup() as group:
            telling = group.create_task(tallies.run(every_s=0.01))
            (seq,) = await end_tasks(site, [outcome("one")])
            await tallies.projection.reached(seq)
            assert await tallies.tell() == 0
            (seq,) = await end_tasks(site, [outcome("two")])
            await tallies.projection.reached(seq)
            async with site.memory():
                await until(lambda: not tallies.rows(untold=True))
                (fact,) = await history(operator, RETURN, FACT_KEY)
                assert fact.text.startswith("retail.return: 2 completed;")
            (seq,) = await end_tasks(site, [outcome("three")])
            await tallies.projection.reached(seq)
            async with site.memory():
                await until(lambda: not tallies.rows(untold=True))
                assert [version.version for version in await history(operator, RETURN, FACT_KEY)] == [1, 2]
            telling.cancel()


async def test_what_memory_refuses_does_not_hold_up_the_rest(
    site: Site, learner: Bus, operator: Bus, tmp_path: Path
) -> None:
    seqs = await end_tasks(site, [outcome("one", playbook="p" * 300)])
    async with site.memory():
        with opened_tallies(learner, tmp_path / "learner") as tallies:
            async with following(tallies.projection):
                await tallies.projection.reached(seqs[-1])
            assert await tallies.tell() == 2
            assert [row.key for row in tallies.rows(untold=True)] == [Key(Kind.PLAYBOOK, "p" * 300)]
        assert len(await recall(operator, "tool/")) == 2


async def test_a_forgotten_tally_comes_back_only_with_a_new_outcome(
    site: Site, learner: Bus, operator: Bus, tmp_path: Path
) -> None:
    await end_tasks(site, [outcome("one")])
    async with site.memory():
        with opened_tallies(learner, tmp_path / "learner") as tallies:
            async with following(tallies.projection):
                await until(lambda: bool(tallies.rows()))
                await tallies.tell()
                await forget(operator, RETURN, FACT_KEY)
                with opened_tallies(learner, tmp_path / "other") as other:
                    async with following(other.projection):
                        await until(lambda: bool(other.rows()))
                        await other.tell()
                assert await recall(operator, RETURN) == []
                (seq,) = await end_tasks(site, [outcome("two")])
                await tallies.projection.reached(seq)
                await tallies.tell()
        (fact,) = await recall(operator, RETURN)
    assert (fact.version, fact.text.partition(";")[0]) == (3, "retail.return: 2 completed")
