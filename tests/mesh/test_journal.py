"""The journal's commits: on disk once, in groups, whatever happens to the bus meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import structlog.testing
from prometheus_client import REGISTRY

from mesh import records, streams, subjects
from mesh.bus import Bus
from mesh.errors import ConflictError, TerminalError
from mesh.journal import Committer, Journal, Message, Write, committing, message_of
from mesh.quarantine import Reason, quarantined
from mesh.records import AnyRecord
from tests.mesh.live_mesh import LiveMesh, put, stored
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, effect, lesson, one_of_each, plan, result


@asynccontextmanager
async def journal_of(
    live: LiveMesh, name: str = "everyone", **limits: Any
) -> AsyncIterator[tuple[Bus, Journal, Committer]]:
    """A bus, and a journal with a running committer on it."""
    async with live.bus(name, **limits) as bus, committing(bus) as committer:
        yield bus, Journal(bus, committer), committer


def sample(name: str) -> float:
    """The value of one of our metrics."""
    return REGISTRY.get_sample_value(f"workmesh_{name}") or 0.0


class Batches:
    """How many batches were stored since it was made, and how many records."""

    def __init__(self) -> None:
        self._count, self._sum = sample("commit_batch_records_count"), sample("commit_batch_records_sum")

    @property
    def count(self) -> int:
        """Batches."""
        return int(sample("commit_batch_records_count") - self._count)

    @property
    def records(self) -> int:
        """Records in them."""
        return int(sample("commit_batch_records_sum") - self._sum)


def item(stage: str, seq: int, data: bytes = b"x") -> Message:
    """A quarantined item."""
    return quarantined(
        stage=stage, reason=Reason.MALFORMED, detail="", stream="EVENTS", subject="event.a.b", seq=seq, data=data
    )


async def everything(*commits: Any) -> list[Any]:
    """What each of these came to, errors included."""
    async with asyncio.timeout(15):
        return await asyncio.gather(*commits, return_exceptions=True)


async def test_a_commit_that_returns_is_stored_and_is_read_back_whole(live: LiveMesh) -> None:
    async with journal_of(live) as (_, journal, _):
        made = one_of_each()
        seqs = await journal.commit(*[Write(record) for record in made])
        assert seqs == tuple(range(1, len(made) + 1))
        found = await journal.task("t1")
        assert [(item.seq, item.record) for item in found] == list(zip(seqs, made, strict=True))
        assert [item.subject for item in found] == [subjects.of(record) for record in made]
        assert all(item.time.tzinfo is not None for item in found)
        assert await journal.at(2) == found[1] == await journal.record(found[1].subject)


async def test_what_is_not_there_is_none_and_what_is_no_record_says_so(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        assert await journal.record("task.plan.d.t.-") is None
        assert await journal.at(99) is None
        assert await journal.task("t9") == [] == await journal.history("t9")
        await bus.client.jetstream().publish("task.plan.d.t.-", b"{}")
        with pytest.raises(TerminalError, match=r"task\.plan\.d\.t\.- at 1 is not a record"):
            await journal.record("task.plan.d.t.-")


async def test_history_has_every_epoch_of_an_effect(live: LiveMesh) -> None:
    async with journal_of(live) as (_, journal, _):
        (seq,) = await journal.commit(Write(effect()))
        (again,) = await journal.commit(Write(effect(epoch=2), expected=seq))
        await journal.commit(Write(plan("t2")), Write(result()))
        assert [item.record for item in await journal.task("t1")] == [effect(epoch=2), result()]
        assert [item.record for item in await journal.history("t1")] == [effect(), effect(epoch=2), result()]
        assert again == 2


async def test_many_callers_share_few_commits(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        before = Batches()
        seqs = await everything(*[journal.commit(Write(plan(f"t{n}"))) for n in range(500)])
        assert sorted(seqs) == [(n,) for n in range(1, 501)]
        assert before.records == 500 and before.count <= 5  # 256 records a batch, and the first goes alone
        for n, (seq,) in enumerate(seqs):
            message = await bus.at(subjects.JOURNAL, seq)
            assert message is not None and records.decode(message.data) == plan(f"t{n}")


async def test_a_record_is_created_only_if_there_is_none(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        await journal.commit(Write(plan()))
        with pytest.raises(ConflictError, match="another record stands at 1") as caught:
            await journal.commit(Write(plan(rationale="another")))
        assert caught.value.subject == subjects.of(plan())
        assert len(await stored(bus)) == 1


async def test_the_same_record_again_counts_as_stored_with_the_sequence_it_stands_at(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        await journal.commit(Write(context("t0")))
        ours = await journal.commit(Write(plan()), Write(effect()))
        other = plan()
        assert await journal.commit(Write(other), Write(effect())) == ours == (2, 3)
        assert len(await stored(bus)) == 3


async def test_the_same_intent_of_another_writer_counts_as_stored(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        await put(bus, plan())
        copy = records.decode(records.encode(plan()).replace(b"tester/one", b"tester/two"))
        assert copy != plan()
        assert await journal.commit(Write(copy)) == (1,)


@pytest.mark.parametrize("lost", ["first", "middle", "last"])
async def test_one_that_conflicts_does_not_keep_others_from_being_stored(live: LiveMesh, lost: str) -> None:
    async with journal_of(live) as (bus, journal, _):
        await put(bus, plan("taken", rationale="first"))
        loser = (Write(context("loser")), Write(plan("taken")), Write(lesson("loser")))
        groups: list[tuple[Write, ...]] = [(Write(plan(f"t{n}")), Write(effect(f"t{n}"))) for n in range(20)]
        groups.insert({"first": 0, "middle": 10, "last": 20}[lost], loser)
        done = await everything(*[journal.commit(*group) for group in groups])
        for group, seqs in zip(groups, done, strict=True):
            if group is loser:
                assert isinstance(seqs, ConflictError) and seqs.subject == subjects.of(plan("taken"))
            else:
                assert seqs[1] == seqs[0] + 1
        subjects_stored = [message.subject for message in await stored(bus)]
        assert len(subjects_stored) == 41
        assert not any(".loser." in subject for subject in subjects_stored)


async def test_few_records_are_published_one_by_one_and_many_as_one_batch(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        await everything(*[journal.commit(Write(plan(f"few{n}"))) for n in range(4)])
        await everything(*[journal.commit(Write(plan(f"many{n}"))) for n in range(60)])
        found = {message.subject.split(".")[3]: message for message in await stored(bus)}
        assert not any("Nats-Batch-Id" in found[f"few{n}"].headers for n in range(4))
        assert sum("Nats-Batch-Id" in found[f"many{n}"].headers for n in range(60)) >= 50


async def test_a_group_that_must_be_whole_is_a_batch_however_small(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        await journal.commit(Write(plan()), Write(effect()))
        assert all("Nats-Batch-Id" in message.headers for message in await stored(bus))


@pytest.mark.parametrize("others", [0, 40], ids=["alone", "among others"])
async def test_of_an_ordered_group_nothing_is_stored_behind_a_conflict(live: LiveMesh, others: int) -> None:
    async with journal_of(live) as (bus, journal, _):
        await put(bus, effect("t1", executor="executor/other"))
        ours = [Write(plan("t1")), Write(effect("t1")), Write(result("t1"))]
        group, *rest = await everything(
            journal.commit(*ours, ordered=True), *[journal.commit(Write(plan(f"o{n}"))) for n in range(others)]
        )
        assert isinstance(group, ConflictError) and group.subject == subjects.of(effect("t1"))
        assert not any(isinstance(end, Exception) for end in rest)
        kinds = [message.subject.split(".")[1] for message in await stored(bus) if ".t1." in message.subject]
        assert kinds == ["effect", "plan"]
        # What came before the conflict is stored, and is met again as our own.
        assert await journal.commit(Write(plan("t1")), Write(lesson("t1")), ordered=True)


async def test_one_subject_twice_in_a_batch_is_stored_once(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        same = await everything(*[journal.commit(Write(plan())) for _ in range(5)])
        assert same == [(1,)] * 5
        rivals = await everything(*[journal.commit(Write(plan("t2", rationale=str(n)))) for n in range(5)])
        assert [isinstance(end, ConflictError) for end in rivals].count(False) == 1
        assert len(await stored(bus)) == 2


async def test_one_subject_twice_in_one_group_is_refused_and_stores_nothing(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        with pytest.raises(ConflictError, match="nothing stands there yet"):
            await journal.commit(Write(plan()), Write(plan()))
        assert await stored(bus) == []


async def test_an_effect_replaces_the_one_it_expects_and_no_other(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        (first,) = await journal.commit(Write(effect()))
        (second,) = await journal.commit(Write(effect(epoch=2), expected=first))
        with pytest.raises(ConflictError):
            await journal.commit(Write(effect(epoch=3, executor="stalled"), expected=first))
        with pytest.raises(ConflictError):
            await journal.commit(Write(effect(epoch=3)))
        assert await journal.commit(Write(effect(epoch=2), expected=first)) == (second,)
        rivals = [effect(epoch=3, executor=f"executor/{n}") for n in range(4)]
        ends = await everything(*[journal.commit(Write(rival, expected=second)) for rival in rivals])
        assert [isinstance(end, ConflictError) for end in ends].count(False) == 1
        assert len(await stored(bus)) == 3


async def test_a_commit_whose_ack_was_lost_finds_itself_there(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, _, committer):
        messages = [message_of(Write(record)) for record in (plan(), effect(), result())]
        first = await committer.commit(messages)
        await committer.commit([message_of(Write(effect("t2")))])
        assert await committer.commit(messages) == first
        assert len(await stored(bus)) == 4


async def test_a_server_killed_in_the_middle_of_commits_loses_nothing_and_stores_nothing_twice(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, _):
        writers = 40
        done: dict[str, tuple[int, ...]] = {}

        async def write(writer: int) -> None:
            for n in range(30):
                task = f"w{writer}n{n}"
                done[task] = await journal.commit(Write(plan(task)), Write(effect(task)))

        async def kill_twice() -> None:
            for at in (writers * 5, writers * 15):
                await until(partial(lambda at: len(done) >= at, at))
                pid = live.kill()
                await until(partial(lambda pid: live.server.pid != pid, pid))

        async with asyncio.timeout(19), asyncio.TaskGroup() as group:
            group.create_task(kill_twice())
            for writer in range(writers):
                group.create_task(write(writer))
        assert len(done) == writers * 30
        found = {message.subject: message for message in await stored(bus)}
        assert len(await stored(bus)) == len(found) == writers * 60
        for task, seqs in done.items():
            expected: tuple[AnyRecord, ...] = (plan(task), effect(task))
            assert tuple(found[subjects.of(record)].seq for record in expected) == seqs
            assert [records.decode(found[subjects.of(record)].data) for record in expected] == list(expected)


async def test_a_denied_subject_is_terminal_with_the_reason_and_others_are_stored(live: LiveMesh) -> None:
    async with journal_of(live, "planner") as (bus, journal, _):
        for denied_at in (0, 3, 6):
            writes = [Write(plan(f"t{denied_at}{n}")) for n in range(6)]
            writes.insert(denied_at, Write(effect(f"t{denied_at}")))
            with structlog.testing.capture_logs() as logs:
                ends = await everything(*[journal.commit(write) for write in writes])
            assert "commit_waits" not in {log["event"] for log in logs}
            denied = ends.pop(denied_at)
            assert isinstance(denied, TerminalError)
            assert f"task.effect.retail.t{denied_at}.s1" in str(denied) and "may not publish" in str(denied)
            assert all(isinstance(end, tuple) for end in ends), ends
        assert len(await stored(bus)) == 18


async def test_a_right_given_later_counts_from_the_next_connection(live: LiveMesh) -> None:
    async with journal_of(live, "planner") as (bus, journal, _):
        with pytest.raises(TerminalError):
            await journal.commit(Write(effect()))
        assert bus.denied
        live.server.reconfigure(live.users(planner=("planner", "executor")))
        pid = live.kill()
        await until(lambda: live.server.pid != pid and not bus.denied)
        assert await journal.commit(Write(effect())) == (1,)


async def test_refusals_are_remembered_within_bounds(live: LiveMesh) -> None:
    async with live.bus() as bus:
        for n in range(5000):
            bus.refused(f"task.x.{n}", "denied")
        assert len(bus.denied) == 4096
        assert "task.x.4999" in bus.denied and "task.x.0" not in bus.denied


async def test_while_the_stream_is_full_commits_wait_and_then_go_on(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, committer):
        await live.ensure(bus, max_bytes={subjects.JOURNAL: 20_000})
        with structlog.testing.capture_logs() as logs:
            pairs = [(Write(plan(f"t{n}", rationale="x" * 500)), Write(effect(f"t{n}"))) for n in range(40)]
            waits = [asyncio.create_task(journal.commit(*pair)) for pair in pairs]
            await until(lambda: sum(log["event"] == "commit_waits" for log in logs) > 2)
            stalled = committer.is_waiting
            assert stalled
            assert "the bus has no room for" in logs[-1]["error"]
            assert not all(task.done() for task in waits)
            kinds = [message.subject.split(".")[1] for message in await stored(bus)]
            assert kinds == ["plan", "effect"] * (len(kinds) // 2)
            await live.ensure(bus)
            await everything(*waits)
        assert not committer.is_waiting
        assert len(await stored(bus)) == 80


async def test_a_stream_that_is_full_does_not_hold_up_another(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, committer):
        await live.ensure(bus, max_bytes={subjects.QUARANTINE: 1_000})
        waits = asyncio.create_task(committer.commit([item("planner", 1, b"x" * 2_000)]))
        await until(lambda: committer.is_waiting)
        async with asyncio.timeout(2):
            await journal.commit(Write(plan()))
        assert not waits.done()
        await live.ensure(bus)
        assert await waits == (1,)


@pytest.mark.parametrize("size", [streams.MAX_RECORD_BYTES + 1, 2 * 1024 * 1024])
async def test_a_record_that_is_too_large_for_ever_is_terminal_and_others_are_stored(live: LiveMesh, size: int) -> None:
    async with journal_of(live) as (bus, journal, _):
        large = plan("large", rationale="x" * size)
        ends = await everything(*[journal.commit(Write(each)) for each in (plan("a"), large, plan("b"), plan("c"))])
        assert [type(end) for end in ends] == [tuple, TerminalError, tuple, tuple]
        assert len(await stored(bus)) == 3


async def test_streams_are_never_mixed_in_a_batch(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, committer):
        commits: list[Any] = []
        for n in range(50):
            commits += [journal.commit(Write(plan(f"t{n}"))), committer.commit([item("planner", n)])]
        assert all(isinstance(end, tuple) for end in await everything(*commits))
        assert len(await stored(bus)) == len(await stored(bus, subjects.QUARANTINE)) == 50


async def test_one_commit_of_two_streams_or_of_none_is_refused_to_the_caller_alone(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, journal, committer):
        with pytest.raises(ValueError, match="one commit cannot span the streams"):
            await committer.commit([message_of(Write(plan())), item("planner", 1)])
        with pytest.raises(ValueError, match="no stream holds"):
            await committer.commit([Message("svc.x.y", b"")])
        with pytest.raises(TerminalError, match="at most 1000"):
            await journal.commit(*[Write(plan(f"t{n}")) for n in range(1001)])
        assert await committer.commit([]) == ()
        assert await stored(bus) == []
        assert await journal.commit(*[Write(plan(f"t{n}")) for n in range(1000)]) == tuple(range(1, 1001))


async def test_a_caller_that_gave_up_does_not_hold_up_the_rest(live: LiveMesh) -> None:
    async with journal_of(live) as (_, journal, _):
        commits = [asyncio.create_task(journal.commit(Write(plan(f"t{n}")))) for n in range(10)]
        await asyncio.sleep(0)
        for task in commits[::2]:
            task.cancel()
        await asyncio.wait(commits, timeout=10)
        assert all(task.cancelled() for task in commits[::2])
        assert all(task.result() for task in commits[1::2])


async def test_headers_of_a_message_are_stored_with_it(live: LiveMesh) -> None:
    async with journal_of(live) as (bus, _, committer):
        batch = [Message(f"release.planner.i.{n}", b"", None, headers={"X-N": str(n)}) for n in range(3)]
        await committer.commit(batch)
        assert [message.headers["X-N"] for message in await stored(bus)] == ["0", "1", "2"]
