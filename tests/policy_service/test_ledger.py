"""The ledger on a real bus: decisions and what they take are one commit, whoever else counts at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from mesh import subjects
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import ConflictError
from mesh.journal import Journal, Write, committing
from mesh.lifetime import background
from mesh.records import Decision, LimitUse, Phase, Verdict
from policy_service.ledger import Draft, Ledger
from policy_service.limits import Take, read_limits
from policy_service.windows import Window
from tests.mesh.live_mesh import LiveMesh, stored
from tests.mesh.samples import header

(LIMIT,) = read_limits([{"id": "money", "per": "customer", "window": "PT1H", "amount": 1000}])


@dataclass
class Copy:
    """One copy of the policy service's ledger."""

    bus: Bus
    ledger: Ledger
    allowed: int = 0
    denied: int = 0
    asked: int = 0

    async def decide(self, task: str, amount: int, key: str = "customer ann") -> Draft:
        """Permit what is within the limit, and deny the rest."""
        take = Take(limit=LIMIT, domain="retail", key=key, amount=amount)
        draft = await self.ledger.settle([take], self._drafting(task))
        decision = draft.writes[0].record
        assert isinstance(decision, Decision)
        self.allowed += decision.verdict is Verdict.ALLOW
        self.denied += decision.verdict is Verdict.DENY
        return draft

    def _drafting(self, task: str) -> Callable[[tuple[LimitUse, ...]], Draft]:
        def draft(uses: tuple[LimitUse, ...]) -> Draft:
            self.asked += 1
            verdict = Verdict.DENY if any(use.over for use in uses) else Verdict.ALLOW
            decision = Decision(
                header=header(task),
                phase=Phase.PROPOSE,
                verdict=verdict,
                plan_digest="",
                bundle="",
                steps=(),
                limits=uses,
            )
            return Draft((Write(decision),), takes=verdict is Verdict.ALLOW)

        return draft


@asynccontextmanager
async def copy_on(live: LiveMesh) -> AsyncIterator[Copy]:
    """A copy with a connection, and a memory, of its own."""
    async with live.bus("policy") as bus, committing(bus) as committer:
        ledger = Ledger(bus, Journal(bus, committer))
        async with background(ledger.run(), "ledger"):
            yield Copy(bus, ledger)


async def window_of(copy: Copy, key: str = "customer ann") -> Window:
    """What stands in the journal."""
    take = Take(limit=LIMIT, domain="retail", key=key, amount=0)
    message = await copy.bus.last(subjects.JOURNAL, take.subject)
    assert message is not None
    return msgspec.json.decode(message.data, type=Window)


async def test_three_copies_at_once_permit_exactly_what_the_limit_holds(live: LiveMesh) -> None:
    async with copy_on(live) as one, copy_on(live) as two, copy_on(live) as three:
        copies = (one, two, three)
        await asyncio.gather(*(copies[n % 3].decide(f"t{n}", 70) for n in range(60)))
        assert sum(copy.allowed for copy in copies) == 14
        assert sum(copy.denied for copy in copies) == 46
        assert ((await window_of(one)).amount, (await window_of(one)).tasks) == (980, 14)
        decisions = await stored(one.bus, subject="task.decision.>")
        assert len(decisions) == 60


async def test_decisions_that_come_together_are_committed_together(live: LiveMesh) -> None:
    async with copy_on(live) as copy:
        await asyncio.gather(*(copy.decide(f"t{n}", 10) for n in range(50)))
        windows = await stored(copy.bus, subject="limit.>")
        assert (await window_of(copy)).amount == 500
        assert len(windows) < 10


async def test_what_another_copy_gave_back_is_seen_before_anybody_is_turned_away(live: LiveMesh) -> None:
    async with copy_on(live) as one, copy_on(live) as two:
        await one.decide("first", 1000)
        take = Take(limit=LIMIT, domain="retail", key="customer ann", amount=1000)
        marked = "limit.retail.-.first"
        given = await asyncio.gather(*(copy.ledger.give_back(marked, [take], unix()) for copy in (two, one, two)))
        assert sum(given) == 1
        await one.decide("second", 1000)
        assert (one.allowed, one.denied) == (2, 0)
        assert not await two.ledger.give_back(marked, [take], unix())
        assert (await window_of(two)).amount == 1000


async def test_a_decision_that_stands_already_takes_nothing_again(live: LiveMesh) -> None:
    async with copy_on(live) as one, copy_on(live) as two:
        await one.decide("same", 100)
        with pytest.raises(ConflictError) as refused:
            await two.decide("same", 100)
        assert refused.value.subject == "task.decision.retail.same.-"
        assert (await window_of(one)).amount == 100


async def test_one_draft_that_fails_or_was_given_up_fails_no_other(live: LiveMesh) -> None:
    def fail(uses: tuple[LimitUse, ...]) -> Draft:
        raise ZeroDivisionError

    async with copy_on(live) as copy:
        take = Take(limit=LIMIT, domain="retail", key="customer ann", amount=1)
        failing = asyncio.create_task(copy.ledger.settle([take], fail))
        given_up = asyncio.create_task(copy.decide("given-up", 1))
        others = [asyncio.create_task(copy.decide(f"t{n}", 1)) for n in range(5)]
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(*others)
        with pytest.raises(ZeroDivisionError):
            await failing
        assert copy.allowed == 5


async def test_copies_that_take_the_same_at_the_same_moment_are_told_apart(live: LiveMesh) -> None:
    async with copy_on(live) as one, copy_on(live) as two:
        for n in range(10):
            await asyncio.gather(one.decide(f"one-{n}", 7), two.decide(f"two-{n}", 7))
        assert (one.allowed, two.allowed) == (10, 10)
        assert ((await window_of(one)).amount, (await window_of(one)).tasks) == (140, 20)
