"""A stage over its durable consumer: nothing acknowledged before it is on disk, nothing twice, nothing blocked."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog.testing

from mesh import quarantine, subjects
from mesh.bus import Bus
from mesh.errors import ConflictError, RetryableError, TerminalError, UncertainError
from mesh.journal import Committer, Write, committing, message_of
from mesh.lifetime import end
from mesh.middleware.dead_letter import dead_letter
from mesh.middleware.deadline import deadline
from mesh.middleware.timing import timing
from mesh.pump import Pump
from mesh.quarantine import Quarantined, Reason
from mesh.records import Plan
from mesh.runtime import Handler, NotYetError, Outputs, Stage, StageLimits, Work, fold
from tests.mesh.live_mesh import ACK_WAIT_S, LiveMesh, consumer, eventually, put, stored
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, json, lesson, plan

JOURNAL = subjects.JOURNAL


@dataclass
class Running:
    """A stage that runs, and how to stop it."""

    bus: Bus
    committer: Committer
    task: asyncio.Task[None]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self) -> None:
        """Stop it as SIGTERM would."""
        self.stopping.set()
        await self.task


@asynccontextmanager
async def stage(
    live: LiveMesh,
    handler: Handler,
    *,
    name: str = "planner",
    stream: str = JOURNAL,
    max_attempts: int = 3,
    handler_timeout_s: float = 10.0,
    ack_wait_s: float = ACK_WAIT_S,
    capacity: int = 64,
    heartbeat_s: float = 0.5,
    **limits: Any,
) -> AsyncIterator[Running]:
    """A stage with the middleware of a real process; leaving cuts it off as a kill would."""
    async with live.bus() as bus, committing(bus) as committer:
        pump = Pump(bus, stream, name, ack_wait_s=ack_wait_s, batch=32, capacity=capacity, heartbeat_s=heartbeat_s)
        made = Stage(
            name,
            stream,
            handler,
            committer=committer,
            pump=pump,
            writer=f"{name}/test",
            limits=StageLimits(**{"nak_base_s": 0.05, "nak_max_s": 0.2, "drain_timeout_s": 5.0} | limits),
            middleware=(timing, dead_letter(committer, max_attempts=max_attempts), deadline(handler_timeout_s)),
        )
        stopping = asyncio.Event()
        running = Running(bus, committer, asyncio.create_task(made.run(stopping)), stopping)
        try:
            yield running
            if running.task.done():
                running.task.result()
        finally:
            await end(running.task)


def plan_of(work: Work) -> Plan:
    """The plan that a context leads to."""
    head = work.record().header
    return msgspec.structs.replace(plan(head.task_id), header=work.header(head.task_id, head.domain))


async def planning(work: Work) -> Outputs:
    """Write a plan for each context."""
    return [Write(plan_of(work))]


async def acked(bus: Bus, durable: str = "planner", stream: str = JOURNAL) -> bool:
    """Whether the consumer has nothing left, delivered or not."""
    info = await consumer(bus, durable, stream)
    return bool(info["num_pending"] == 0 and info["num_ack_pending"] == 0)


async def plans(bus: Bus) -> list[str]:
    """The tasks that have a plan, in the order they got it."""
    return [message.subject.split(".")[3] for message in await stored(bus, JOURNAL, "task.plan.>")]


async def test_an_input_becomes_its_outputs_and_is_acknowledged(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(100)])
        async with stage(live, planning):
            await eventually(lambda: acked(bus))
            assert sorted(await plans(bus)) == sorted(f"t{n}" for n in range(100))
            (made,) = await stored(bus, JOURNAL, "task.plan.retail.t5.-")
            cause = msgspec.json.decode(made.data)["header"]["causation"]
            assert cause == {"stream": JOURNAL, "subject": "task.context.retail.t5.-", "seq": 6}


async def test_outputs_are_on_disk_before_the_input_is_acknowledged(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await live.ensure(bus, max_bytes={JOURNAL: 1})
        await live.ensure(bus)
        await put(bus, context())
        (size,) = [len(message.data) for message in await stored(bus)]
        await live.ensure(bus, max_bytes={JOURNAL: size + 200})  # no room for the plan
        async with stage(live, planning) as running:
            await until(lambda: running.committer.is_waiting)
            assert (await consumer(bus, "planner"))["num_ack_pending"] == 1
            assert await plans(bus) == []
        await live.ensure(bus)
        async with stage(live, planning):  # the one before was cut off between the output and the ack
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1"]


async def test_a_redelivered_input_finds_its_output_and_is_acknowledged(live: LiveMesh) -> None:
    calls: list[int] = []
    stored_once = asyncio.Event()

    async def handler(work: Work) -> Outputs:
        calls.append(work.attempt)
        outputs = await planning(work)
        if work.attempt == 1:
            await running.committer.commit([message_of(write) for write in outputs if isinstance(write, Write)])
            stored_once.set()
            await asyncio.Event().wait()  # cut off here, before the ack
        return outputs

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler) as running:
            await stored_once.wait()
        async with stage(live, handler) as running:
            await eventually(lambda: acked(bus))
        assert calls == [1, 2]
        assert await plans(bus) == ["t1"]


async def test_a_lost_race_is_acknowledged_and_what_stands_stays(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, plan(rationale="another was first"), context())
        async with stage(live, planning):
            await eventually(lambda: acked(bus))
        (stands,) = await stored(bus, JOURNAL, "task.plan.>")
        assert b"another was first" in stands.data


async def test_a_conflict_over_what_nobody_has_written_is_no_lost_race(live: LiveMesh) -> None:
    attempts: list[int] = []

    async def handler(work: Work) -> Outputs:
        attempts.append(work.attempt)
        if work.attempt == 1:
            raise ConflictError("task.plan.retail.t1.-", "nothing stands there yet", stands=False)
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler):
            await eventually(lambda: acked(bus))
        assert attempts == [1, 2]
        assert await plans(bus) == ["t1"]


async def test_an_output_subject_that_was_spoilt_does_not_pass_for_done(live: LiveMesh) -> None:
    async with live.bus() as bus:
        (seq,) = await put(bus, lesson())
        await bus.publish("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":%d}' % seq, reply="task.plan.retail.t1.-")
        await eventually(lambda: bus.last(JOURNAL, "task.plan.retail.t1.-"))
        await put(bus, context())
        async with stage(live, planning):
            await eventually(lambda: acked(bus))
        (item,) = await quarantine.waiting(bus)
        assert (item.reason, "was spoilt" in item.detail) == (Reason.DEAD_LETTER, True)


async def test_what_may_succeed_later_comes_again_after_its_delay(live: LiveMesh) -> None:
    times: list[float] = []

    async def handler(work: Work) -> Outputs:
        times.append(asyncio.get_running_loop().time())
        if work.attempt < 3:
            raise RetryableError("not now", delay_s=0.3)
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler, max_attempts=1):
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1"]
        assert [later - earlier >= 0.3 for earlier, later in itertools.pairwise(times)] == [True, True]


async def test_the_delay_doubles_with_each_attempt_up_to_its_limit(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        if work.attempt < 6:
            raise RetryableError("not now")
        return ()

    with structlog.testing.capture_logs() as logs:
        async with live.bus() as bus:
            await put(bus, context())
            async with stage(live, handler):
                await eventually(lambda: acked(bus))
    assert [log["delay_s"] for log in logs if log["event"] == "delivery_retried"] == [0.05, 0.1, 0.2, 0.2, 0.2]


async def test_waiting_for_something_that_is_on_its_way_has_no_limit_and_is_no_fault(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        if work.attempt < 10:
            raise NotYetError("the task before it has not ended", delay_s=0.01)
        return await planning(work)

    with structlog.testing.capture_logs() as logs:
        async with live.bus() as bus:
            await put(bus, context())
            async with stage(live, handler, max_attempts=2):
                await eventually(lambda: acked(bus))
            assert await plans(bus) == ["t1"]
            assert await quarantine.waiting(bus) == []
    assert not [log for log in logs if log["log_level"] in ("warning", "error") and log["event"] != "bus_disconnected"]


async def items(bus: Bus, number: int) -> list[Quarantined]:
    """What waits in quarantine, once there are so many."""

    async def enough() -> list[Quarantined]:
        found = await quarantine.waiting(bus)
        return found if len(found) >= number else []

    found: list[Quarantined] = await eventually(enough)
    return found


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
            await eventually(lambda: _has(bus, 20))
        assert "poison" not in await plans(bus)


async def _has(bus: Bus, number: int) -> bool:
    return len(await plans(bus)) >= number


async def test_what_cannot_even_be_quarantined_waits_and_the_stage_goes_on(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        if work.record().header.task_id == "poison":
            raise TerminalError("x" * 2_000_000)
        return await planning(work)

    async with live.bus() as bus:
        await put(bus, context("poison"), context("t1"))
        with structlog.testing.capture_logs() as logs:
            async with stage(live, handler) as running:
                await eventually(lambda: _has(bus, 1))
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


async def test_a_slow_handler_is_not_given_to_a_second_stage_nor_is_what_waits_behind_it(live: LiveMesh) -> None:
    calls: list[str] = []
    ack_wait_s = 0.4

    async def slow(work: Work) -> Outputs:
        calls.append(work.record().header.task_id)
        await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=1.5 * ack_wait_s)
        return await planning(work)

    async def other(work: Work) -> Outputs:
        calls.append("second")
        return ()

    async with live.bus() as bus:
        await live.ensure(bus, ack_wait_s=ack_wait_s)
        await put(bus, *[context(f"t{n}") for n in range(3)])
        async with stage(live, slow, concurrency=1, ack_wait_s=ack_wait_s):
            await until(lambda: bool(calls))  # t1 and t2 wait in the queue for 1.5 and 3 times the ack wait
            async with stage(live, other, ack_wait_s=ack_wait_s):
                await eventually(lambda: acked(bus))
        assert calls == ["t0", "t1", "t2"]
        assert await plans(bus) == ["t0", "t1", "t2"]


async def test_no_more_run_at_once_than_the_limit(live: LiveMesh) -> None:
    running, most = 0, 0
    go = asyncio.Event()

    async def handler(work: Work) -> Outputs:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        return await planning(work)

    async def all_delivered() -> bool:
        return bool((await consumer(bus, "planner"))["num_pending"] == 0)

    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(60)])
        async with stage(live, handler, concurrency=7):
            await eventually(all_delivered)
            await until(lambda: running == 7)
            go.set()
            await eventually(lambda: acked(bus))
        assert most == 7


async def test_no_more_deliveries_are_held_than_the_capacity(live: LiveMesh) -> None:
    go = asyncio.Event()

    async def handler(work: Work) -> Outputs:
        await go.wait()
        return await planning(work)

    async def held() -> int:
        return int((await consumer(bus, "planner"))["num_ack_pending"])

    async def full() -> bool:
        return await held() >= 10

    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(60)])
        async with stage(live, handler, concurrency=3, capacity=10):
            await eventually(full)
            for _ in range(20):
                assert await held() == 10
            go.set()
            await eventually(lambda: acked(bus))


async def test_stopping_finishes_what_was_begun_and_gives_back_the_rest_at_once(live: LiveMesh) -> None:
    begun: list[str] = []
    go = asyncio.Event()

    async def handler(work: Work) -> Outputs:
        begun.append(work.record().header.task_id)
        await go.wait()
        return await planning(work)

    async with live.bus() as bus:
        await live.ensure(bus, ack_wait_s=60.0)
        await put(bus, *[context(f"t{n}") for n in range(30)])
        async with stage(live, handler, concurrency=4, ack_wait_s=60.0) as first:
            await until(lambda: len(begun) == 4)
            first.stopping.set()
            async with stage(live, planning, ack_wait_s=60.0):
                await eventually(lambda: _has(bus, 26), within_s=5)  # far sooner than the ack wait
                assert not first.task.done()
                go.set()
                await first.task
                await eventually(lambda: acked(bus), within_s=5)
        assert len(begun) == 4
        assert sorted(await plans(bus)) == sorted(f"t{n}" for n in range(30))


async def test_what_does_not_end_within_the_drain_time_is_cut_off(live: LiveMesh) -> None:
    begun = asyncio.Event()

    async def handler(work: Work) -> Outputs:
        begun.set()
        await asyncio.Event().wait()
        return ()

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler, drain_timeout_s=0.2) as running:
            await begun.wait()
            async with asyncio.timeout(5):
                await running.stop()
        async with stage(live, planning):
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1"]


def _is_back(live: LiveMesh, pid: int, *buses: Bus) -> bool:
    return live.server.pid != pid and all(bus.is_connected for bus in buses)


async def test_a_killed_server_costs_a_stage_nothing(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with stage(live, planning) as running:
            for round_ in range(2):
                await put(bus, *[context(f"r{round_}t{n}") for n in range(200)])
                pid = live.kill()
                await until(partial(_is_back, live, pid, bus, running.bus))
            await put(bus, *[context(f"r2t{n}") for n in range(50)])
            await eventually(lambda: _has(bus, 450))
            await eventually(lambda: acked(bus))
        assert len(await plans(bus)) == len(set(await plans(bus))) == 450


async def test_a_consumer_that_is_made_anew_costs_a_stage_nothing(live: LiveMesh) -> None:
    calls: list[str] = []

    async def handler(work: Work) -> Outputs:
        calls.append(work.record().header.task_id)
        return await planning(work)

    async with live.bus() as bus:
        async with stage(live, handler):
            await put(bus, context("t1"))
            await eventually(lambda: acked(bus))
            with structlog.testing.capture_logs() as logs:
                assert (await bus.api(f"CONSUMER.DELETE.{JOURNAL}.planner"))["success"]
                await put(bus, context("t2"))
                await until(lambda: any(log["event"] == "pull_refused" for log in logs))
                await until(lambda: len([log for log in logs if log["event"] == "pull_refused"]) > 2)
            await live.ensure(bus)
            await eventually(lambda: _has(bus, 2))
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1", "t2"]
        assert calls == ["t1", "t1", "t2"]  # the new consumer begins at the start, and t1 finds its plan there


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
            await eventually(lambda: _has(bus, 1))
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


async def test_outputs_of_two_streams_are_both_stored(live: LiveMesh) -> None:
    async def handler(work: Work) -> Outputs:
        note = quarantine.quarantined(
            stage="planner",
            reason=Reason.CONFLICT,
            detail="odd",
            stream=work.stream,
            subject=work.subject,
            seq=work.seq,
            data=work.data,
        )
        return [note, *await planning(work)]

    async with live.bus() as bus:
        await put(bus, context())
        async with stage(live, handler):
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1"]
        assert [item.detail for item in await quarantine.waiting(bus)] == ["odd"]


async def test_middleware_is_folded_outermost_first() -> None:
    order: list[str] = []

    def layer(name: str) -> Callable[[Handler], Handler]:
        def wrap(handler: Handler) -> Handler:
            async def wrapped(work: Work) -> Outputs:
                order.append(name)
                return await handler(work)

            return wrapped

        return wrap

    async def handler(work: Work) -> Outputs:
        order.append("handler")
        return ()

    folded: Callable[[Any], Awaitable[Outputs]] = fold(handler, [layer("outer"), layer("inner")])
    assert await folded(json(None)) == ()
    assert order == ["outer", "inner", "handler"]
