"""What a stage does not take: set aside with its reason, blocking nobody, and run again in its place when released."""

import asyncio

import msgspec
import structlog.testing

from mesh import quarantine, subjects
from mesh.bus import Bus
from mesh.errors import TerminalError, UncertainError
from mesh.journal import committing
from mesh.quarantine import Reason
from mesh.runtime import Outputs, Work
from tests.mesh.live_mesh import LiveMesh, consumer, eventually, put, stored
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, lesson
from tests.mesh.staging import JOURNAL, acked, items, planned, planning, plans, stage


async def test_what_is_terminal_goes_to_quarantine_with_the_reason_and_the_original_bytes(live: LiveMesh) -> None:
    calls: list[int] = []

    async def handler(work: Work) -> Outputs:
        calls.append(work.attempt)
        raise TerminalError("no playbook for it")

    async with live.bus() as bus:
        await put(bus, lesson("before"), context())
        async with stage(live, handler):
            (item,) = await items(bus, 1)
            await eventually(lambda: acked(bus))
        original = await bus.at(JOURNAL, 2)
        assert original is not None and item.data == original.data
        assert (item.stage, item.reason, item.detail) == ("planner", Reason.DEAD_LETTER, "no playbook for it")
        assert (item.stream, item.subject, item.seq) == (JOURNAL, "task.context.retail.t1.-", 2)
        assert calls == [1]


async def test_an_input_that_is_no_record_is_quarantined(live: LiveMesh) -> None:
    async with live.bus() as bus:
        js = bus.client.jetstream()
        await js.publish("task.context.retail.t1.-", b"{not json")
        await js.publish("task.context.retail.t2.-", msgspec.json.encode(context("t3")))
        async with stage(live, planning):
            bad, misplaced = await items(bus, 2)
            await eventually(lambda: acked(bus))
        assert "is not a record" in bad.detail and bad.data == b"{not json"
        assert misplaced.detail == "a record of task.context.retail.t3.- stands at task.context.retail.t2.-"
        assert await plans(bus) == []


async def test_what_nobody_foresaw_is_tried_again_and_given_up_after_the_last_attempt(live: LiveMesh) -> None:
    calls: list[int] = []

    async def handler(work: Work) -> Outputs:
        calls.append(work.attempt)
        raise UncertainError("a bug")

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler, max_attempts=3):
            (item,) = await items(bus, 1)
            await eventually(lambda: acked(bus))
        assert calls == [1, 2, 3]
        assert item.attempts == 3
        assert item.detail == "UncertainError: a bug (after 3 attempts)"


async def test_a_handler_that_hangs_is_cut_off_and_given_up(live: LiveMesh) -> None:
    ended: list[str] = []

    async def handler(work: Work) -> Outputs:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cut off")
        return ()

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler, max_attempts=2, handler_timeout_s=0.1):
            (item,) = await items(bus, 1)
        assert item.detail == "HandlerTimeoutError: planner did not end within 0.1 s (after 2 attempts)"
        assert ended == ["cut off"] * 2


async def test_a_time_out_of_the_handlers_own_is_not_the_deadline(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        raise TimeoutError("the shop")

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler, max_attempts=1):
            (item,) = await items(bus, 1)
        assert item.detail == "TimeoutError: the shop (after 1 attempts)"


async def test_while_the_bus_takes_no_records_nothing_is_given_up(live: LiveMesh) -> None:
    calls: list[int] = []

    async def handler(work: Work) -> Outputs:
        calls.append(work.attempt)
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context())
        (size,) = [len(message.data) for message in await stored(bus)]
        await live.ensure(bus, max_bytes={JOURNAL: size + 200})
        async with stage(live, handler, max_attempts=2, handler_timeout_s=0.2):
            await until(lambda: len(calls) >= 4)
            await live.ensure(bus)
            await eventually(lambda: acked(bus))
        assert await quarantine.waiting(bus) == []
        assert await plans(bus) == ["t1"]


async def test_a_poison_message_does_not_keep_others_from_being_handled(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        if work.record().header.task_id == "poison":
            raise RecursionError
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context("poison"), *[context(f"t{n}") for n in range(20)])
        async with stage(live, handler, max_attempts=1_000, concurrency=1):
            await eventually(lambda: planned(bus, 20))
        assert "poison" not in await plans(bus)


async def test_what_cannot_even_be_quarantined_waits_and_the_stage_goes_on(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        if work.record().header.task_id == "poison":
            raise TerminalError("x" * 2_000_000)
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context("poison"), context("t1"))
        with structlog.testing.capture_logs() as logs:
            async with stage(live, handler) as running:
                await eventually(lambda: planned(bus, 1))
                await until(lambda: len([log for log in logs if log["event"] == "delivery_failed"]) >= 2)
                assert not running.task.done()
        assert (await consumer(bus, "planner"))["num_ack_pending"] == 1


async def test_the_largest_message_of_a_stream_can_be_quarantined(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        raise TerminalError("no")

    async with live.bus() as bus:
        large = context(data={"text": "x" * (500 * 1024)})
        await put(bus, large)
        async with stage(live, handler):
            (item,) = await items(bus, 1)
        assert msgspec.json.decode(item.data) == msgspec.json.decode(msgspec.json.encode(large))


async def test_a_released_record_runs_again_in_its_own_place(live: LiveMesh) -> None:
    mended = False

    async def handler(work: Work) -> Outputs:
        if not mended:
            raise TerminalError("no playbook yet")
        return await planning(work)

    async with live.bus() as bus, committing(bus) as committer:
        await put(bus, lesson("before"), context())
        async with stage(live, handler):
            (item,) = await items(bus, 1)
            await quarantine.release(committer, item, person="ann")  # too early: it is refused once more
            (again,) = await items(bus, 1)
            await eventually(lambda: _refused_twice(bus))
            (again,) = await items(bus, 1)
            assert (again.id, again.subject, again.seq) == (item.id, item.subject, item.seq)
            mended = True
            await quarantine.release(committer, again, person="ann")
            await eventually(lambda: planned(bus, 1))
            await eventually(lambda: acked(bus))
            assert await quarantine.waiting(bus) == []
        (made,) = await stored(bus, JOURNAL, "task.plan.>")
        cause = msgspec.json.decode(made.data)["header"]["causation"]
        assert cause == {"stream": JOURNAL, "subject": "task.context.retail.t1.-", "seq": 2}
        notes = await stored(bus, subjects.QUARANTINE, "quarantine.released.>")
        assert [msgspec.json.decode(note.data)["person"] for note in notes] == ["ann", "ann"]


async def _refused_twice(bus: Bus) -> bool:
    return len(await stored(bus, subjects.QUARANTINE, "quarantine.planner.>")) == 2


async def test_a_release_is_heard_by_the_stage_that_refused_and_by_no_other(live: LiveMesh) -> None:
    heard: list[str] = []

    async def policy(work: Work) -> Outputs:
        heard.append(work.subject)
        return ()

    async with live.bus() as bus, committing(bus) as committer:
        await put(bus, context())
        async with stage(live, _refuse):
            (item,) = await items(bus, 1)
        async with stage(live, policy, name="policy"):
            await quarantine.release(committer, item, person="ann")
            async with stage(live, planning):
                await until(lambda: bool(heard))
        assert heard == ["task.plan.retail.t1.-"]


async def _refuse(work: Work) -> Outputs:
    raise TerminalError("no")


async def test_a_released_event_comes_onto_its_own_subject_with_its_own_headers(live: LiveMesh) -> None:
    seen: list[tuple[str, bytes, str]] = []

    async def handler(work: Work) -> Outputs:
        seen.append((work.subject, work.data, work.headers.get("ce-id", "")))
        if len(seen) == 1:
            raise TerminalError("type not known yet")
        return ()

    async with live.bus() as bus, committing(bus) as committer:
        headers = {"ce-id": "e1", "Nats-Msg-Id": "publisher-e1"}
        await bus.client.jetstream().publish("event.retail.x", b'{"a":1}', headers=headers)
        async with stage(live, handler, name="perception", stream=subjects.EVENTS):
            (item,) = await items(bus, 1)
            await quarantine.release(committer, item, person="ann")
            await until(lambda: len(seen) == 2)
            await eventually(lambda: acked(bus, "perception", subjects.EVENTS))
        assert seen == [("event.retail.x", b'{"a":1}', "e1")] * 2
        assert await quarantine.waiting(bus) == []
