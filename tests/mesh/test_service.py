"""Services: the result, or the reason that there is none, and never a hang."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, TerminalError
from mesh.service import MAX_IN_FLIGHT, ServiceError, ask, serving
from tests.mesh.live_mesh import LiveMesh
from tests.mesh.running_mesh import until


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """A request."""

    n: int


class Reply(msgspec.Struct):
    """An answer."""

    n: int
    by: str = ""


async def double(question: Question) -> Reply:
    """Twice as much."""
    return Reply(2 * question.n)


async def refuse(question: Question) -> Reply:
    """No."""
    raise TerminalError(f"{question.n} is too much: ask for less")


async def fail(question: Question) -> Reply:
    """A bug."""
    raise ZeroDivisionError("a secret in the message")


VERBS: Any = {name: (Question, verb) for name, verb in (("double", double), ("refuse", refuse), ("fail", fail))}


@asynccontextmanager
async def memory(live: LiveMesh, verbs: Any = VERBS) -> AsyncIterator[Bus]:
    """A service of the name ``memory``, and a bus to ask it by."""
    async with live.bus("memory") as server, serving(server, "memory", verbs), live.bus("operator") as bus:
        yield bus


async def test_a_bus_that_stalls_or_dies_while_a_service_starts_does_not_end_it(live: LiveMesh) -> None:
    async with live.bus("memory") as server, live.bus("operator") as bus:
        pid = live.server.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with serving(server, "memory", VERBS):
                os.kill(pid, signal.SIGKILL)
                await until(lambda: live.server.pid != pid and server.is_connected and bus.is_connected)
                await bus.settle()
                assert await ask(bus, "memory", "double", Question(4), Reply, timeout_s=5) == Reply(8)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_a_request_has_its_answer(live: LiveMesh) -> None:
    async with memory(live) as bus:
        answers = await asyncio.gather(*[ask(bus, "memory", "double", Question(n), Reply) for n in range(100)])
        assert [answer.n for answer in answers] == [2 * n for n in range(100)]


async def test_an_error_comes_back_as_its_reason(live: LiveMesh) -> None:
    async with memory(live) as bus:
        with pytest.raises(ServiceError, match=r"^5 is too much: ask for less$"):
            await ask(bus, "memory", "refuse", Question(5), Reply)


async def test_a_bug_comes_back_as_its_kind_and_no_more(live: LiveMesh) -> None:
    async with memory(live) as bus:
        with pytest.raises(ServiceError, match=r"^internal error: ZeroDivisionError$"):
            await ask(bus, "memory", "fail", Question(5), Reply)
        assert (await ask(bus, "memory", "double", Question(5), Reply)).n == 10


async def test_an_unknown_verb_is_told_with_those_there_are(live: LiveMesh) -> None:
    async with memory(live) as bus:
        with pytest.raises(ServiceError, match="no verb 'forget'; there are double, fail, refuse"):
            await ask(bus, "memory", "forget", Question(5), Reply)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"n":"x"}', b'{"n":1,"m":2}', b'{"n":"\xff"}', b"[" * 100_000])
async def test_a_request_that_is_not_well_formed_is_told_so(live: LiveMesh, data: bytes) -> None:
    async with memory(live) as bus:
        answer = await bus.request(subjects.service("memory", "double"), data)
        assert "the request is not well formed" in msgspec.json.decode(answer.data)["error"]


async def test_a_service_that_nobody_offers_is_unavailable_at_once(live: LiveMesh) -> None:
    async with live.bus("operator") as bus, asyncio.timeout(2):
        with pytest.raises(BusUnavailableError, match=r"nobody answers svc\.policy\.status"):
            await ask(bus, "policy", "status", Question(1), Reply, timeout_s=10)


async def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_asked(live: LiveMesh) -> None:
    async with live.bus("memory") as server, live.bus("operator") as bus:
        stop = asyncio.Event()

        async def slow(question: Question) -> Reply:
            await stop.wait()
            return Reply(0)

        async with serving(server, "memory", {"slow": (Question, slow)}), asyncio.timeout(5):
            with pytest.raises(BusUnavailableError, match=r"no answer from svc\.memory\.slow within 0\.1 s"):
                await ask(bus, "memory", "slow", Question(1), Reply, timeout_s=0.1)
            stop.set()


async def test_no_more_requests_run_at_once_than_the_limit(live: LiveMesh) -> None:
    go, running, most = asyncio.Event(), 0, 0

    async def slow(question: Question) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        return Reply(question.n)

    async with memory(live, {"slow": (Question, slow)}) as bus:
        asks = [asyncio.create_task(ask(bus, "memory", "slow", Question(n), Reply, timeout_s=10)) for n in range(100)]
        await until(lambda: running == MAX_IN_FLIGHT)
        go.set()
        await asyncio.gather(*asks)
        assert most == MAX_IN_FLIGHT


async def test_copies_of_a_service_share_its_requests_and_each_is_answered_once(live: LiveMesh) -> None:
    taken: list[str] = []

    def by(name: str) -> Any:
        async def answer(question: Question) -> Reply:
            taken.append(name)
            return Reply(question.n, name)

        return {"who": (Question, answer)}

    async with memory(live, by("one")) as bus, live.bus("memory") as second, serving(second, "memory", by("two")):
        answers = await asyncio.gather(*[ask(bus, "memory", "who", Question(n), Reply) for n in range(60)])
        assert [answer.n for answer in answers] == list(range(60))
        assert len(taken) == 60 and set(taken) == {"one", "two"}


async def test_a_service_answers_again_after_the_server_was_killed(live: LiveMesh) -> None:
    async with memory(live) as bus:
        pid = live.kill()
        await until(lambda: live.server.pid != pid and bus.is_connected)

        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await ask(bus, "memory", "double", Question(5), Reply)).n == 10
                    break
                except BusUnavailableError:
                    continue
