"""The pull pump: never idle in silence, never in a spin, and gone when it is stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog.testing
from prometheus_client import REGISTRY

from benchmarks.chaos.proxy import Proxy
from mesh import subjects
from mesh.bus import Bus, connect
from mesh.lifetime import background
from mesh.pump import Delivery, Pump
from tests.mesh.live_mesh import EVERYONE, LiveMesh, consumer, eventually, put
from tests.mesh.running_mesh import until
from tests.mesh.samples import context

HEARTBEAT_S = 0.2


@asynccontextmanager
async def pumping(bus: Bus, *, ack_wait_s: float = 1.0, capacity: int = 8) -> AsyncIterator[Pump]:
    """A pump of the planner that runs."""
    pump = Pump(
        bus, subjects.JOURNAL, "planner", ack_wait_s=ack_wait_s, batch=4, capacity=capacity, heartbeat_s=HEARTBEAT_S
    )
    async with background(pump.run(), "pump"):
        yield pump


def restarts() -> float:
    """How often an idle pump was restarted in this process."""
    return REGISTRY.get_sample_value("workmesh_pump_idle_restarts_total", {"stage": "planner"}) or 0.0


async def take(pump: Pump, number: int) -> list[Delivery]:
    """So many deliveries, acknowledged."""
    found = []
    async with asyncio.timeout(10):
        for _ in range(number):
            delivery = await pump.next()
            await delivery.ack()
            await pump.done(delivery)
            found.append(delivery)
    return found


async def unacked(bus: Bus) -> int:
    """How many deliveries the server waits for."""
    return int((await consumer(bus, "planner"))["num_ack_pending"])


async def test_deliveries_come_in_order_with_what_is_known_of_them(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(50)])
        async with pumping(bus) as pump:
            found = await take(pump, 50)
        assert [delivery.seq for delivery in found] == list(range(1, 51))
        first, last = found[0], found[-1]
        assert (first.stream, first.durable, first.attempt, first.pending) == (subjects.JOURNAL, "planner", 1, 49)
        assert (last.subject, last.pending) == ("task.context.retail.t49.-", 0)
        message = await bus.at(subjects.JOURNAL, 50)
        assert message is not None and last.data == message.data
        assert abs(last.stored_at - first.stored_at) < 60


async def test_what_is_given_back_comes_again_as_the_next_attempt(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, context())
        async with pumping(bus) as pump:
            for attempt in (1, 2, 3):
                delivery = await pump.next()
                assert delivery.attempt == attempt
                await delivery.nak(0)
                await pump.done(delivery)


async def test_what_is_terminated_does_not_come_again(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, context("t1"), context("t2"))
        async with pumping(bus, ack_wait_s=0.5) as pump:
            delivery = await pump.next()
            await delivery.term()
            await pump.done(delivery)
            assert [delivery.seq for delivery in await take(pump, 1)] == [2]
            await eventually(lambda: _nothing_unacked(bus))
            assert (await consumer(bus, "planner"))["ack_floor"]["stream_seq"] == 2


async def test_a_delivery_that_is_held_is_renewed_and_comes_to_nobody_else(live: LiveMesh) -> None:
    async with live.bus() as bus, live.bus() as other_bus:
        await live.ensure(bus, ack_wait_s=0.5)
        await put(bus, *[context(f"t{n}") for n in range(4)])
        async with pumping(bus, ack_wait_s=0.5) as pump:
            held = [await pump.next() for _ in range(4)]
            async with pumping(other_bus, ack_wait_s=0.5) as other:
                waiting = asyncio.create_task(other.next())
                done, _ = await asyncio.wait([waiting], timeout=1.5)
                assert not done
                waiting.cancel()
            assert (await consumer(bus, "planner"))["num_redelivered"] == 0
            for delivery in held:
                await delivery.ack()
                await pump.done(delivery)
            await eventually(lambda: _nothing_unacked(bus))


async def test_a_delivery_that_comes_again_while_it_is_held_is_dropped(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await live.ensure(bus, ack_wait_s=0.3)
        await put(bus, context("t1"))
        async with pumping(bus, ack_wait_s=60.0) as pump:  # which renews too late
            held = await pump.next()
            await eventually(lambda: _redelivered(bus))
            await put(bus, context("t2"))
            second = await pump.next()
            assert (held.seq, second.seq) == (1, 2)
            for delivery in (held, second):
                await delivery.ack()
                await pump.done(delivery)
            await eventually(lambda: _nothing_unacked(bus))


async def _redelivered(bus: Bus) -> bool:
    return int((await consumer(bus, "planner"))["num_redelivered"]) > 0


async def _nothing_unacked(bus: Bus) -> bool:
    return await unacked(bus) == 0


async def test_a_pump_that_hears_nothing_starts_again_and_says_so(live: LiveMesh) -> None:
    async with live.bus() as bus, live.bus() as admin:
        async with pumping(bus) as pump:
            await put(admin, context("t1"))
            await take(pump, 1)
            before = restarts()
            pid = live.server.pid
            with structlog.testing.capture_logs() as logs:
                os.kill(pid, signal.SIGSTOP)
                try:
                    await until(lambda: any(log["event"] == "pump_restarted" for log in logs))
                finally:
                    os.kill(pid, signal.SIGCONT)
            assert restarts() > before
            await put(admin, context("t2"))
            assert [delivery.seq for delivery in await take(pump, 1)] == [2]


async def test_a_pull_that_the_server_does_not_have_is_made_again_without_a_reconnect(live: LiveMesh) -> None:
    async with live.bus("planner") as bus, live.bus() as admin:
        before = bus.connection
        await admin.api(f"CONSUMER.DELETE.{subjects.JOURNAL}.planner")
        with structlog.testing.capture_logs() as logs:
            async with pumping(bus) as pump:
                await put(admin, context("t1"))
                await until(lambda: any(log["event"] == "pull_refused" for log in logs))
                await live.ensure(admin)
                assert [delivery.seq for delivery in await take(pump, 1)] == [1]
        assert bus.connection == before


async def test_refused_pulls_are_not_repeated_in_a_spin(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with pumping(bus) as pump:
            await put(bus, context("t1"))
            await take(pump, 1)
            with structlog.testing.capture_logs() as logs:
                await bus.api(f"CONSUMER.DELETE.{subjects.JOURNAL}.planner")
                await until(lambda: len(logs) >= 3)
                before = asyncio.get_running_loop().time()
                number = len(logs)
                await until(lambda: len(logs) >= number + 3)
                assert asyncio.get_running_loop().time() - before > HEARTBEAT_S
            assert {log["event"] for log in logs} == {"pull_refused"}


async def test_a_stopped_pump_gives_back_its_queue_at_once_and_asks_for_nothing_more(live: LiveMesh) -> None:
    async with live.bus() as bus, live.bus() as other_bus:
        await live.ensure(bus, ack_wait_s=60.0)
        await put(bus, *[context(f"t{n}") for n in range(8)])
        async with pumping(bus, ack_wait_s=60.0) as pump:
            begun = await pump.next()
            await eventually(lambda: _held(bus, 8))
            await pump.stop()
            await put(other_bus, context("t8"))
            async with pumping(other_bus, ack_wait_s=60.0) as other:
                found = await take(other, 8)
            assert sorted(delivery.seq for delivery in found) == list(range(2, 10))
            await begun.ack()
            await pump.done(begun)
            await eventually(lambda: _nothing_unacked(bus))


async def _held(bus: Bus, number: int) -> bool:
    return await unacked(bus) == number


async def test_stopping_while_the_server_is_away_takes_no_time(live: LiveMesh) -> None:
    async with live.bus() as bus:
        async with pumping(bus) as pump:
            live.kill()
            await until(lambda: not bus.is_connected)
            async with asyncio.timeout(2):
                await pump.stop()


async def test_pulls_of_a_connection_that_died_without_a_word_are_soon_forgotten(live: LiveMesh) -> None:
    options = live.identities[EVERYONE].nats_options()
    async with (
        live.bus() as watching,
        Proxy(int(live.server.url.rpartition(":")[2])) as proxy,
        connect(proxy.url, name=EVERYONE, options=options, request_timeout_s=1.0) as bus,
        pumping(bus),
    ):
        await eventually(lambda: pulls(watching, 1))
        proxy.leave_for_dead()
        await until(lambda: proxy.links == 2)
        await eventually(lambda: pulls(watching, 2))
        # The old one is still there, and takes deliveries with it.
        await eventually(lambda: pulls(watching, 1), within_s=8.0)


async def pulls(bus: Bus, number: int) -> bool:
    """Whether so many pulls are open at the server."""
    return int((await consumer(bus, "planner"))["num_waiting"]) == number
