"""The auditor on a real bus: no gaps, checkpoints that extend each other, copies that agree, and what it refuses."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from mesh import audit, records, subjects
from mesh.audit import Problem
from mesh.bus import Bus, StoredMessage
from mesh.journal import Message, committing
from mesh.lifetime import background
from mesh.merkle import Tree, leaf_hash
from mesh.signed_note import LogCheckpoint
from mesh.trust import TrustDirectory
from policy_service.audit.auditor import Auditor
from policy_service.audit.files import CheckpointFile, LogFile
from policy_service.audit.rechecking import recheck, rechecking
from tests.mesh.live_mesh import LiveMesh, eventually, publish, put, stored
from tests.mesh.samples import context, plan

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def auditing(live: LiveMesh, name: str = "one", *, ages: bool = False) -> AsyncIterator[Auditor]:
    """An auditor under its own key and rights, its log taken up."""
    async with live.bus("auditor") as bus, committing(bus) as committer:
        trust = TrustDirectory(live.identities["admin"].public_key)
        logfile = LogFile(live.folder / name / "log")
        checkpoints = CheckpointFile(live.folder / name / "checkpoints")
        auditor = Auditor(bus, committer, trust, live.identities["auditor"], logfile, checkpoints, ages=ages)
        try:
            await auditor.open()
            yield auditor
        finally:
            logfile.close()


async def notes(bus: Bus) -> list[LogCheckpoint]:
    """The checkpoints on the bus, in the order of publishing."""
    return [
        LogCheckpoint.parse(message.data.decode().partition("\n\n")[0] + "\n")
        for message in await stored(bus, subjects.AUDIT, audit.CHECKPOINTS)
    ]


async def problems(bus: Bus) -> list[tuple[str, int, int]]:
    """Kind and sequences of what was reported."""
    found = [msgspec.json.decode(item.data, type=Problem) for item in await stored(bus, subjects.AUDIT, audit.PROBLEMS)]
    return sorted((each.kind, each.seq, each.last) for each in found)


async def lines(bus: Bus) -> list[str]:
    return [line async for line in audit.read_lines(bus)]


async def write(bus: Bus, first: int, last: int) -> None:
    """Any records at all: the auditor looks at none of them."""
    for number in range(first, last + 1):
        await publish(bus, Message(f"task.lesson.d.t{number}.-", b'{"n":%d}' % number, headers={"Own": str(number)}))


async def lose(bus: Bus, *seqs: int) -> None:
    """What an insider with the server's disk can do, by the way that the server itself offers."""
    config = (await bus.api("STREAM.INFO.JOURNAL"))["config"] | {"name": "JOURNAL"}
    messages = await stored(bus)
    await bus.api("STREAM.DELETE.JOURNAL")
    config |= {"deny_delete": False, "deny_purge": False}
    assert "error" not in await bus.api("STREAM.CREATE.JOURNAL", config)
    for message in messages:
        headers = {name: value for name, value in message.headers.items() if not name.startswith("Nats-")}
        await publish(bus, Message(message.subject, message.data, headers=headers))
    for seq in seqs:
        answer = await bus.api("STREAM.MSG.DELETE.JOURNAL", {"seq": seq, "no_erase": True})
        assert "error" not in answer, answer


async def test_every_sequence_has_a_line_and_every_checkpoint_the_root_of_the_lines(live: LiveMesh) -> None:
    async with live.bus() as bus, auditing(live) as auditor:
        await put(bus, context(), plan())
        await auditor.finish()
        await write(bus, 1, 600)
        await auditor.finish()
        await auditor.finish()  # nothing is new: nothing is signed
        found, messages = await lines(bus), await stored(bus)
        assert found == [audit.entry_of_message(message).line() for message in messages]
        assert [int(line.split(" ")[0]) for line in found] == list(range(1, 603))
        assert records.decode(messages[0].data) == context()
        tree = Tree(leaf_hash(line.encode()) for line in found)
        signed = await notes(bus)
        assert [each.size for each in signed] == [2, 602]
        assert all(each.root == tree.root(each.size) for each in signed)
        kept = CheckpointFile(live.folder / "one" / "checkpoints")
        assert [LogCheckpoint.open(note, auditor.keys()) for note in kept.notes()] == signed
        assert kept.path.stat().st_mode & 0o777 == 0o600 and kept.path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_line_binds_time_subject_headers_and_data(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await write(bus, 1, 1)
        (message,) = await stored(bus)
        entry = audit.entry_of_message(message)
        assert entry == audit.Entry.parse(entry.line())

        def other(**changes: object) -> StoredMessage:
            return replace(message, **changes)  # type: ignore[arg-type]

        changed = [
            other(seq=2),
            other(time="2026-01-02T00:00:00Z"),
            other(subject="task.lesson.d.t2.-"),
            other(data=b"{}"),
            other(headers={**message.headers, "Own": "2"}),
            other(headers={name: value for name, value in message.headers.items() if name != "Own"}),
        ]
        assert len({audit.entry_of_message(each).leaf() for each in [message, *changed]}) == 7
        server = other(headers={**message.headers, "Nats-Num-Pending": "77"})
        assert audit.entry_of_message(server) == entry


async def test_what_the_journal_does_not_hold_is_a_line_a_problem_and_an_error(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await write(bus, 1, 10)
        await lose(bus, 1, 4, 5, 10)
        with capture_logs() as said:
            async with auditing(live) as auditor:
                await auditor.finish()
                await write(bus, 11, 12)
                await auditor.finish()
        found = await lines(bus)
        assert [line for line in found if line.endswith("missing")] == [f"{seq} missing" for seq in (1, 4, 5, 10)]
        assert len(found) == 12
        assert await problems(bus) == [("missing", 1, 1), ("missing", 4, 5), ("missing", 10, 10)]
        assert [each["seq"] for each in said if each["event"] == "audit_problem"] == [1, 4, 10]
        assert all(each["log_level"] == "error" for each in said if each["event"] == "audit_problem")


async def test_its_log_is_made_again_from_the_bus_when_its_files_are_gone(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with auditing(live) as auditor:
            await write(bus, 1, 300)
            await auditor.finish()
        (live.folder / "one" / "log").write_text("1 missing\n")
        async with auditing(live) as auditor:  # from the lines in AUDIT
            assert not auditor.refuses and auditor.log.size == 300
        (live.folder / "one" / "log").unlink()
        (live.folder / "one" / "checkpoints").unlink()
        async with auditing(live) as auditor:
            await write(bus, 301, 310)
            await auditor.finish()
        assert [each.size for each in await notes(bus)] == [300, 310]
        config = (await bus.api("STREAM.INFO.AUDIT"))["config"]
        await bus.api("STREAM.DELETE.AUDIT")
        await bus.api("STREAM.CREATE.AUDIT", config)
        (live.folder / "one" / "log").unlink()
        (live.folder / "one" / "checkpoints").unlink()
        async with auditing(live, "two") as auditor:  # from the journal: the same tree
            await auditor.finish()
            assert auditor.log.frontier.root() == (await notes(bus))[0].root


async def test_a_lost_stream_of_checkpoints_is_published_again(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with auditing(live) as auditor:
            await write(bus, 1, 5)
            await auditor.finish()
        before = await notes(bus), await lines(bus)
        config = (await bus.api("STREAM.INFO.AUDIT"))["config"]
        await bus.api("STREAM.DELETE.AUDIT")
        await bus.api("STREAM.CREATE.AUDIT", config)
        async with auditing(live) as auditor:
            await auditor.finish()
        assert (await notes(bus), await lines(bus)) == before


async def test_it_refuses_to_sign_when_what_is_there_contradicts_a_checkpoint(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with auditing(live) as auditor:
            await write(bus, 1, 5)
            await auditor.finish()
        await lose(bus, 3)  # and every time is another one
        (live.folder / "one" / "log").unlink()
        await bus.api("STREAM.DELETE.AUDIT")
        await live.ensure(bus)
        with capture_logs() as said:
            async with auditing(live) as auditor:
                assert auditor.refuses
                task = asyncio.create_task(auditor.run(0.01))
                await write(bus, 6, 6)

                async def has_refused() -> bool:
                    return any(each["event"] == "audit_refuses_to_sign" for each in said)

                await eventually(has_refused)
                assert not task.done()  # it stays, to be seen
                await auditor.finish()
                task.cancel()
        assert await problems(bus) == [("contradiction", 1, 5)]
        assert await notes(bus) == [] and len(CheckpointFile(live.folder / "one" / "checkpoints").notes()) == 1


async def test_a_journal_that_was_made_anew_is_told_and_what_it_holds_named(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with auditing(live) as auditor:
            await write(bus, 1, 9)
            await auditor.finish()
            await bus.api("STREAM.DELETE.JOURNAL")
            await live.ensure(bus)
            await write(bus, 1, 3)
            await publish(bus, Message("task.lesson.d.t4.-", b'"other"', headers={"Own": "4"}))
            await auditor.finish()
            assert auditor.recheck.is_set()
            await recheck(auditor, bus)
            assert await problems(bus) == [
                ("changed", 4, 4),
                ("removed", 5, 9),
                ("rolled_back", 5, 9),
                ("stored_again", 1, 3),
            ]
        assert [each.size for each in await notes(bus)] == [9]
        async with auditing(live) as auditor:  # sees it from the start, too
            assert auditor.recheck.is_set() and not auditor.refuses


async def test_a_store_that_was_swapped_unnoticed_is_found_by_looking_again(live: LiveMesh) -> None:
    async with live.bus() as bus, auditing(live) as auditor:
        await write(bus, 1, 5)
        await auditor.finish()
        auditor.recheck.clear()
        await lose(bus)  # all is there, in the same order
        await auditor.finish()
        assert not auditor.recheck.is_set() and await problems(bus) == []

        async def is_told() -> bool:
            return await problems(bus) == [("stored_again", 1, 5)]

        async with background(rechecking(auditor, bus, 0.2), "rechecking"):
            await eventually(is_told)


@pytest.mark.parametrize("ages", [True, False])
async def test_what_the_journal_loses_behind_it_is_a_problem_unless_it_may_age(live: LiveMesh, ages: bool) -> None:
    async with live.bus() as bus, auditing(live, ages=ages) as auditor:
        await write(bus, 1, 5)
        await auditor.finish()
        auditor.recheck.clear()
        config = (await bus.api("STREAM.INFO.JOURNAL"))["config"]
        config |= {"max_age": 100_000_000, "duplicate_window": 100_000_000}
        assert "error" not in await bus.api("STREAM.UPDATE.JOURNAL", config)

        async def is_empty() -> bool:
            return bool((await bus.api("STREAM.INFO.JOURNAL"))["state"]["messages"] == 0)

        await eventually(is_empty)
        await auditor.finish()
        assert auditor.recheck.is_set() is not ages
        await recheck(auditor, bus)
        assert await problems(bus) == ([] if ages else [("removed", 1, 5)])


async def test_two_auditors_make_one_log(live: LiveMesh) -> None:
    async with live.bus() as bus, auditing(live, "one") as one, auditing(live, "two") as two:
        for start in range(1, 200, 20):
            await write(bus, start, start + 9)
            await one.finish()
            await write(bus, start + 10, start + 19)
            await two.finish()
        await asyncio.gather(one.finish(), two.finish())
        assert one.log.frontier.root() == two.log.frontier.root()
        found = await lines(bus)
        assert len(found) == 200
        tree = Tree(leaf_hash(line.encode()) for line in found)
        assert all(each.root == tree.root(each.size) for each in await notes(bus))
        assert await problems(bus) == []


async def test_auditors_that_disagree_say_so(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await write(bus, 1, 4)
        async with auditing(live, "one") as one, auditing(live, "two") as two:
            await one.follow()
            await two.follow()
            forged = two.log.path.read_text().replace(" task.lesson.d.t3.- ", " task.lesson.d.t9.- ")
            entries = [audit.Entry.parse(line) for line in forged.splitlines()]
            os.ftruncate(os.open(two.log.path, os.O_RDWR), 0)
            two.log.frontier = type(two.log.frontier)()
            two._published._pending.clear()
            await two._take(entries)
            await one.checkpoint()
            await two.checkpoint()
        assert await problems(bus) == [("fork", 3, 3), ("fork", 4, 4)]


async def test_a_checkpoint_that_nobody_signed_is_told_and_passed_over(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with auditing(live) as auditor:
            await write(bus, 1, 5)
            await auditor.finish()
        path = live.folder / "one" / "checkpoints"
        note = path.read_text()
        path.write_text(note.replace("\n5\n", "\n4\n") + note + note.replace("\n5\n", "\n9\n") + "workmesh/torn\n1")
        async with auditing(live) as auditor:
            assert not auditor.refuses and auditor.log.size == 5
            await write(bus, 6, 6)
            await auditor.finish()
        assert [each.size for each in await notes(bus)] == [5, 6]
        assert {kind for kind, *_ in await problems(bus)} == {"forged_checkpoint"}
        assert path.read_text().count("\n\n— ") == 4 and "torn" not in path.read_text()


async def test_many_lines_are_published_in_messages_that_the_stream_takes(live: LiveMesh, tmp_path: Path) -> None:
    async with live.bus() as bus, auditing(live) as auditor:
        entries = [
            audit.Entry(seq, "2026-01-02T00:00:00Z", "task.x." + "y" * 230, "0" * 64, "1" * 64)
            for seq in range(1, 3000)
        ]
        await auditor._take(entries)
        await auditor._published.lines()
        assert [line.split(" ")[0] for line in await lines(bus)] == [str(entry.seq) for entry in entries]
