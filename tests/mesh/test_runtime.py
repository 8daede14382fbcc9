"""A stage over its durable consumer: nothing acknowledged before it is on disk, nothing twice, nothing blocked."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import structlog.testing

from mesh import quarantine
from mesh.bus import Bus
from mesh.errors import ConflictError, RetryableError
from mesh.journal import Write, message_of
from mesh.quarantine import Reason
from mesh.runtime import Handler, NotYetError, Outputs, Work, fold
from tests.mesh.live_mesh import LiveMesh, consumer, eventually, put, stored
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, json, lesson, plan
from tests.mesh.staging import JOURNAL, acked, planned, planning, plans, stage


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
                await eventually(lambda: planned(bus, 26), within_s=5)  # far sooner than the ack wait
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
            await eventually(lambda: planned(bus, 450))
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
            await eventually(lambda: planned(bus, 2))
            await eventually(lambda: acked(bus))
        assert await plans(bus) == ["t1", "t2"]
        assert calls == ["t1", "t1", "t2"]  # the new consumer begins at the start, and t1 finds its plan there


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
