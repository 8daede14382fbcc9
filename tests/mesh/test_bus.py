"""The connection: every wait ends, and what the bus refused is told with its reason."""

import asyncio
import contextlib
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from benchmarks.chaos.proxy import Proxy
from mesh import bus as bus_module
from mesh import subjects
from mesh.bus import _within, connect
from mesh.errors import BusUnavailableError, TerminalError
from mesh.identity import Identity
from mesh.journal import Message
from tests.mesh.live_mesh import LiveMesh, publish, put
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, plan


async def test_a_bus_that_is_not_there_is_unavailable_with_its_address() -> None:
    with pytest.raises(BusUnavailableError, match=r"cannot connect to nats://127\.0\.0\.1:1 as planner"):
        async with connect("nats://127.0.0.1:1", name="planner", connect_timeout_s=0.5):
            pass


async def test_a_key_that_is_no_user_is_unavailable_with_the_reason(live: LiveMesh) -> None:
    stranger = Identity.create(live.folder / "stranger.nk", "stranger")
    with pytest.raises(BusUnavailableError, match=r"(?i)authorization violation"):
        async with connect(live.server.url, name="x", options=stranger.nats_options(), connect_timeout_s=2.0):
            pass


async def test_messages_are_read_by_sequence_by_subject_and_last_of_each(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, context("t1"), plan("t1"), context("t2"))
        await publish(bus, Message("task.plan.retail.t1.-", b"again"))
        assert [message.seq for message in await bus.read(subjects.JOURNAL, 2, 10)] == [2, 3, 4]
        assert [message.seq for message in await bus.read(subjects.JOURNAL, 1, 10, "task.plan.>")] == [2, 4]
        assert [message.seq for message in await bus.read(subjects.JOURNAL, 0, 2)] == [1, 2]
        assert await bus.read(subjects.JOURNAL, 5, 10) == []
        last = await bus.last(subjects.JOURNAL, "task.plan.retail.t1.-")
        assert last is not None and (last.seq, last.data, last.stream) == (4, b"again", subjects.JOURNAL)
        each = await bus.last_of_each(subjects.JOURNAL, ["task.*.*.t1.*", "task.context.>"])
        assert [message.seq for message in each] == [1, 3, 4]
        assert await bus.last_of_each(subjects.JOURNAL, ["task.*.*.t9.*"]) == []
        assert await bus.at(subjects.JOURNAL, 99) is None
        assert await bus.last(subjects.JOURNAL, "task.plan.retail.t9.-") is None


async def test_many_reads_at_once_each_get_their_own_answer(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(50)])
        found = await asyncio.gather(*[bus.at(subjects.JOURNAL, seq) for seq in range(1, 51)])
        assert [message.seq for message in found if message] == list(range(1, 51))


async def test_a_stream_that_is_not_there_is_unavailable(live: LiveMesh) -> None:
    async with live.bus() as bus:
        with pytest.raises(BusUnavailableError):
            await bus.at("NOWHERE", 1)


async def test_a_server_that_hangs_is_waited_for_no_longer_than_the_limit(live: LiveMesh) -> None:
    async with live.bus(request_timeout_s=0.3) as bus:
        pid = live.server.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(BusUnavailableError, match=r"within 0\.3 s"):
                    await bus.request("svc.memory.recall", b"")
                with pytest.raises(BusUnavailableError, match="direct get of JOURNAL"):
                    await bus.at(subjects.JOURNAL, 1)
                with pytest.raises(BusUnavailableError, match="did not settle"):
                    await bus.settle()
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_what_is_remade_at_a_reconnect_is_told_each_time(live: LiveMesh) -> None:
    told: list[int] = []

    async def remake() -> None:
        told.append(live.server.pid)

    async with live.bus() as bus:
        bus.on_reconnect(remake)
        for number in (1, 2):
            live.kill()
            await until(lambda number=number: len(told) == number)  # type: ignore[misc]
            await bus.wait_connected(5)
        assert len(set(told)) == 2


async def test_waiting_for_the_connection_ends(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await bus.client.close()
        with pytest.raises(BusUnavailableError, match="not connected to the bus within 5 s"):
            await bus.wait_connected(5)
        with pytest.raises(BusUnavailableError):
            await bus.publish("task.x", b"")
        with pytest.raises(BusUnavailableError):
            await bus.request("task.x", b"")


async def test_a_denied_request_is_terminal_with_the_servers_words(live: LiveMesh) -> None:
    async with live.bus("learner", request_timeout_s=0.3) as bus:
        with pytest.raises(TerminalError, match=r"may not publish task\.plan\.retail\.T1\.-: .*permissions violation"):
            await bus.request("task.plan.retail.T1.-", b"{}")


async def test_a_message_larger_than_the_server_takes_is_terminal(live: LiveMesh) -> None:
    async with live.bus() as bus:
        with pytest.raises(TerminalError, match=r"2000000 bytes for task\.x are more than the server takes"):
            await bus.publish("task.x", b"x" * 2_000_000)
        with pytest.raises(TerminalError, match="are more than the server takes"):
            await bus.request("task.x", b"x" * 2_000_000)


async def test_closing_while_the_server_is_away_is_quiet(live: LiveMesh) -> None:
    for _ in range(3):
        async with asyncio.timeout(10), live.bus() as bus:
            await until(lambda: bus.is_connected)
            pid = live.kill()
        await until(lambda: live.server.pid != pid)  # noqa: B023 - awaited here


_NAMES = st.text(st.characters(codec="ascii", exclude_characters=":\r\n"), max_size=12)
_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)


@given(st.lists(st.tuples(_NAMES, st.sampled_from([":", ": ", " :\t", ""]), _VALUES), max_size=6))
def test_headers_are_read_as_nats_py_reads_them(lines: list[tuple[str, str, str]]) -> None:
    raw = "".join(f"{name}{colon}{value}\r\n" for name, colon, value in lines).encode() + b"\r\n"
    assert bus_module._Client._parse_header_lines(raw) == Client._parse_header_lines(raw)


async def test_a_connection_that_dies_without_a_word_is_given_up_within_seconds(live: LiveMesh) -> None:
    async with Proxy(int(live.server.url.rpartition(":")[2])) as proxy:
        options = live.identities["everyone"].nats_options()
        async with connect(proxy.url, name="everyone", options=options, request_timeout_s=1.0) as bus:
            reconnected = asyncio.Event()

            async def tell() -> None:
                reconnected.set()

            bus.on_reconnect(tell)
            proxy.leave_for_dead()
            with pytest.raises(BusUnavailableError):
                await bus.at(subjects.JOURNAL, 1)
            async with asyncio.timeout(6.0):
                await reconnected.wait()
            assert await bus.at(subjects.JOURNAL, 1) is None


async def test_a_connection_that_does_not_come_about_ends_though_a_cancellation_is_lost() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while lost < 3:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            lost += 1
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await _within(stubborn(), 0.01)
    assert lost == 3
