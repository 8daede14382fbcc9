"""The proxy between a client and the bus: what it cuts, holds, swallows and robs of acks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos.proxy import Frame, Frames, Proxy

STREAM = (
    b"CONNECT {}\r\nPING\r\nPUB a.b 5\r\nhe\r\no\r\nHPUB x.y in.box 12 14\r\nNATS/1.0\r\n\r\n\r\n\r\n"
    b"PUB $JS.ACK.EVENTS.p.1.2.3.4.5 4\r\n+ACK\r\nPUB $JS.ACK.EVENTS.p.1.2.3.4.5 4\r\n+WPI\r\nSUB q 1\r\n"
)


@given(st.lists(st.integers(1, 12), max_size=200))
def test_frames_are_the_same_however_the_bytes_arrive(sizes: list[int]) -> None:
    frames, at = Frames(), 0
    found: list[Frame] = []
    for size in [*sizes, len(STREAM)]:
        found += frames.feed(STREAM[at : at + size])
        at += size
    assert b"".join(frame.raw for frame in found) == STREAM
    assert [frame.subject for frame in found if frame.subject] == [b"a.b", b"x.y", *[b"$JS.ACK.EVENTS.p.1.2.3.4.5"] * 2]
    assert next(frame.payload for frame in found if frame.subject) == b"he\r\no"
    assert [frame.is_ack for frame in found] == [False, False, False, False, True, False, False]


@asynccontextmanager
async def echo(received: bytearray) -> AsyncIterator[int]:
    """A server that answers with what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                received.extend(data)
                writer.write(data)
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


Talk = Callable[[Proxy, asyncio.StreamReader, asyncio.StreamWriter, bytearray], Awaitable[None]]


async def through_proxy(talk: Talk) -> Proxy:
    """Have a client talk through a proxy; the proxy as it was left."""
    received = bytearray()
    async with echo(received) as port, Proxy(port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        writer.write(b"PING\r\n")
        assert await reader.readexactly(6) == b"PING\r\n"
        await talk(proxy, reader, writer, received)
        writer.close()
    return proxy


async def test_a_reset_is_seen_as_one() -> None:
    async def talk(proxy: Proxy, reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: bytearray) -> None:
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)

    assert (await through_proxy(talk)).resets == 1


async def test_what_was_held_arrives_when_it_goes_on() -> None:
    async def talk(
        proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: bytearray
    ) -> None:
        proxy.hold()
        writer.write(b"SUB a 1\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        assert received == b"PING\r\n"
        proxy.go_on()
        assert await reader.readexactly(9) == b"SUB a 1\r\n"

    assert (await through_proxy(talk)).held == 9


async def test_a_dead_connection_says_nothing_and_a_new_one_works() -> None:
    async def talk(
        proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: bytearray
    ) -> None:
        proxy.leave_for_dead()
        writer.write(b"SUB a 1\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        assert received == b"PING\r\n"
        again, other = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        other.write(b"PONG\r\n")
        assert await again.readexactly(6) == b"PONG\r\n"
        other.close()

    assert (await through_proxy(talk)).swallowed == 9


async def test_acks_are_dropped_and_nothing_else() -> None:
    async def talk(
        proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: bytearray
    ) -> None:
        proxy.drops_acks = True
        writer.write(STREAM)
        left = STREAM.replace(b"PUB $JS.ACK.EVENTS.p.1.2.3.4.5 4\r\n+ACK\r\n", b"")
        assert await reader.readexactly(len(left)) == left

    assert (await through_proxy(talk)).acks_dropped == 1
