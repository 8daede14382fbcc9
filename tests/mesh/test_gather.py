"""Questions of the same moment are one request, and each gets its own answer."""

import asyncio
import os
import signal

import pytest

from mesh import subjects
from mesh.bus import StoredMessage
from mesh.errors import BusUnavailableError
from mesh.gather import Gatherer
from mesh.journal import Journal, committing
from tests.mesh.live_mesh import LiveMesh, put
from tests.mesh.samples import context, effect, plan, result


async def test_each_of_many_questions_gets_its_own_answer(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        await put(
            bus, *[item for n in range(40) for item in (context(f"t{n}"), plan(f"t{n}"))], effect("t7"), result("t7")
        )
        journal = Journal(bus, committer)
        tasks, plans, nothing = await asyncio.gather(
            asyncio.gather(*(journal.task(f"t{n}") for n in range(40))),
            asyncio.gather(*(journal.record(f"task.plan.retail.t{n}.-") for n in range(40))),
            journal.record("task.plan.retail.t40.-"),
        )
        assert nothing is None
        for n, (items, item) in enumerate(zip(tasks, plans, strict=True)):
            assert item is not None and item.record == plan(f"t{n}")
            kinds = [found.record.kind for found in items]
            assert kinds == (["context", "plan", "effect", "result"] if n == 7 else ["context", "plan"])


async def test_what_is_asked_while_a_request_is_under_way_is_asked_together(
    live: LiveMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live.bus() as bus:
        await put(bus, *[plan(f"t{n}") for n in range(100)])
        asked: list[int] = []
        last_of_each = bus.last_of_each

        async def counting(stream: str, filters: list[str]) -> list[StoredMessage]:
            asked.append(len(filters))
            return await last_of_each(stream, filters)

        monkeypatch.setattr(bus, "last_of_each", counting)
        gatherer = Gatherer(bus)
        found = await asyncio.gather(*(gatherer.last_of_each(f"task.plan.retail.t{n}.-") for n in range(100)))
        assert [messages[0].subject for messages in found] == [f"task.plan.retail.t{n}.-" for n in range(100)]
        assert sum(asked) == 100
        assert len(asked) <= 4


async def test_what_is_stored_before_the_question_is_in_the_answer(live: LiveMesh) -> None:
    async with live.bus() as bus:
        gatherer = Gatherer(bus)
        await put(bus, context("t1"))
        under_way = asyncio.create_task(gatherer.last_of_each(subjects.whole_task("t1")))
        await asyncio.sleep(0)
        await put(bus, plan("t1"))
        assert [message.seq for message in await gatherer.last_of_each(subjects.whole_task("t1"))] == [1, 2]
        await under_way


async def test_more_than_one_answer_holds_is_asked_one_by_one(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, *[effect(f"t{task}", step=f"s{n}") for task in range(4) for n in range(300)])
        gatherer = Gatherer(bus)
        first = asyncio.create_task(gatherer.last_of_each("task.plan.retail.none.-"))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(gatherer.last_of_each(subjects.whole_task(f"t{task}")) for task in range(4)))
        assert [len(messages) for messages in found] == [300] * 4
        assert await first == []


async def test_a_bus_that_does_not_answer_is_told_to_everybody_at_once(live: LiveMesh) -> None:
    async with live.bus(request_timeout_s=0.5) as bus:
        os.kill(live.server.pid, signal.SIGSTOP)
        try:
            gatherer = Gatherer(bus)
            async with asyncio.timeout(1.5):  # one limit for the first, one for all that asked meanwhile
                answers = await asyncio.gather(
                    *(gatherer.last_of_each(subjects.whole_task(f"t{n}")) for n in range(30)), return_exceptions=True
                )
        finally:
            os.kill(live.server.pid, signal.SIGCONT)
        assert {type(answer) for answer in answers} == {BusUnavailableError}
