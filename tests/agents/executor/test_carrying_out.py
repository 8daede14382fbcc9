"""One executor in this process, with tools that count their calls: what it knows is never lost between two tries."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agents.executor.handler import Executor
from mesh import subjects
from mesh.activation import Activations
from mesh.breaker import Breaker
from mesh.bus import Bus
from mesh.canonical import effect_key, task_id
from mesh.checkpoint import checkpoint
from mesh.clock import now
from mesh.errors import NotSentError, RetryableError
from mesh.halts import Halts
from mesh.journal import Committer, Journal, Write, committing
from mesh.plans import plan_digest
from mesh.pump import Delivery
from mesh.records import (
    Call,
    Causation,
    Context,
    Decision,
    Event,
    Header,
    Outcome,
    OutcomeStatus,
    Permit,
    Phase,
    Plan,
    Result,
    ResultStatus,
    Step,
    Verdict,
)
from mesh.runtime import NotYetError, Work
from mesh.signing import PERMIT_TYPE, sign
from mesh.toolbox import Toolbox
from mesh.tools import Recovery, Tool, ToolCall
from mesh.trust import TrustWatcher
from tests.ledger_pack.world import ROOT, World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A bus alone: the stages before the executor are played by the test."""
    async with world_in(tmp_path_factory.mktemp("w")) as found:
        yield found


class NoArgs(msgspec.Struct, frozen=True):
    """A tool without arguments."""


@dataclass
class Till:
    """Two targets with one tool each; those named in ``away`` are not reached."""

    calls: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)

    def tools(self) -> dict[str, Tool]:
        """The manual tool ``pay`` and the idempotent ``note``."""
        return {
            name: Tool(name=name, args=NoArgs, run=self._running(name), recovery=recovery, target=name)
            for name, recovery in (("pay", Recovery.MANUAL), ("note", Recovery.IDEMPOTENT))
        }

    def _running(self, name: str) -> Any:
        async def run(_: NoArgs, call: ToolCall) -> NoArgs:
            if name in self.away:
                raise NotSentError(f"{name} is away")
            self.calls.append(name)
            return NoArgs()

        return run


class HangingJournal(Journal):
    """A journal that can be told to hang at outcomes, as it does while the bus takes nothing."""

    takes_outcomes = True

    def __init__(self, bus: Bus, committer: Committer) -> None:
        super().__init__(bus, committer)
        self.hangs = asyncio.Event()

    async def commit(self, *writes: Write, ordered: bool = False) -> tuple[int, ...]:
        """Store, or hang."""
        if not self.takes_outcomes and any(isinstance(write.record, Outcome) for write in writes):
            self.hangs.set()
            await asyncio.Event().wait()
        return await super().commit(*writes)


@dataclass
class Desk:
    """An executor, its journal, and a task that it is permitted."""

    executor: Executor
    till: Till
    toolbox: Toolbox
    work: Work
    journal: HangingJournal
    task: str


@asynccontextmanager
async def desk(world: World, name: str, *tools: str, instance: str = "one") -> AsyncIterator[Desk]:
    """An executor of its own, and a task whose plan calls these tools in turn."""
    task = task_id("desk", name)
    till = Till()
    toolbox = Toolbox(till.tools(), {})
    async with world.connected("executor") as bus, committing(bus) as committer:
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        async with (
            TrustWatcher(bucket, world.site.admin.public_key) as trust,
            checkpoint(world.folder / name / f"{instance}.db") as local,
        ):
            activations = Activations(bus, trust.directory)
            bundle = (await activations.current("ledger")).digest
            journal = HangingJournal(bus, committer)
            executor = Executor(
                instance, journal, local, trust.directory, activations, {"ledger": toolbox}, Halts(), toolbox
            )
            work = await permitted(world, bus, task, tools, bundle)
            yield Desk(executor, till, toolbox, work, journal, task)


async def permitted(world: World, bus: Bus, task: str, tools: tuple[str, ...], bundle: str) -> Work:
    """Write the records that lead to a decision, as their stages do; the decision as it would be delivered."""
    causation = Causation(stream="EVENTS", subject="event.ledger.x", seq=1)
    header = Header(task_id=task, domain="ledger", causation=causation, writer="test/1", at=now())
    event = Event(id="e", source="s", type="ledger.x", time=None, digest="", seq=1, accepted_at=now())
    steps = tuple(
        Step(id=tool, call=Call(tool=tool, args=msgspec.Raw(b"{}")), effect_key=effect_key(task, tool))
        for tool in tools
    )
    digest = plan_digest(task, "ledger", steps)
    permit = Permit(
        id="p",
        task_id=task,
        domain="ledger",
        plan_digest=digest,
        verdict=Verdict.ALLOW,
        steps=tools,
        bundle=bundle,
        approved_by=(),
        issued_at=now(),
        expires_at=now() + timedelta(hours=1),
    )
    decision = Decision(
        header=header,
        phase=Phase.PROPOSE,
        verdict=Verdict.ALLOW,
        plan_digest=digest,
        bundle=bundle,
        steps=(),
        signed=sign(permit, PERMIT_TYPE, world.site.identity("policy")),
    )
    records: Mapping[str, Any] = {
        "perception": Context(header=header, event=event, data=msgspec.Raw(b"{}"), entity="e"),
        "planner": Plan(header=header, playbook="p", playbook_digest="", digest=digest, steps=steps),
        "policy": decision,
    }
    seq = 0
    for role, record in records.items():
        async with world.connected(role) as own, committing(own) as committer:
            (seq,) = await Journal(own, committer).commit(Write(record))
    message = await bus.at(subjects.JOURNAL, seq)
    assert message is not None
    delivery = Delivery(bus, "JOURNAL", "executor", message.subject, message.data, {}, seq, 1, 0, 0.0, "nobody")
    return Work(delivery, "JOURNAL", message.subject, seq, message.data, {}, 0.0, "executor", "executor/test")


async def status(desk: Desk, step: str) -> ResultStatus | None:
    """How a step ended, as the journal says."""
    item = await desk.journal.record(subjects.record("result", "ledger", desk.task, step))
    return item.record.status if item and isinstance(item.record, Result) else None


async def test_a_target_that_is_away_is_waited_for_and_what_is_done_is_on_record(world: World) -> None:
    async with desk(world, "away", "pay", "note") as found:
        found.till.away.add("note")
        with pytest.raises(RetryableError, match="was not sent"):
            await found.executor.act(found.work)
        assert await status(found, "pay") is ResultStatus.SUCCEEDED
        found.till.away.clear()
        await found.executor.act(found.work)
        assert found.till.calls == ["pay", "note"]


async def test_an_open_breaker_is_waited_for_and_what_is_done_is_on_record(world: World) -> None:
    async with desk(world, "breaker", "pay", "note") as found:
        breaker: Breaker = found.toolbox._breakers["note"]
        for _ in range(5):
            breaker.failed()
        with pytest.raises(RetryableError, match="circuit breaker of note is open") as refused:
            await found.executor.act(found.work)
        # Not by its own back-off, which doubles while it waits: it comes again when the breaker lets a call pass.
        assert refused.value.delay_s is not None and 0.5 < refused.value.delay_s <= 1.0
        assert await status(found, "pay") is ResultStatus.SUCCEEDED
        breaker.succeeded()
        await found.executor.act(found.work)
        assert found.till.calls == ["pay", "note"]


@pytest.mark.parametrize("tool", ["pay", "note"])
async def test_a_result_that_could_not_be_committed_in_time_is_used_at_the_next_try(world: World, tool: str) -> None:
    async with desk(world, f"late-{tool}", tool) as found:
        found.journal.takes_outcomes = False
        acting = asyncio.create_task(found.executor.act(found.work))
        await found.journal.hangs.wait()
        acting.cancel()
        await asyncio.wait([acting])
        assert await status(found, tool) is None
        found.journal.takes_outcomes = True
        await found.executor.act(found.work)
        assert found.till.calls == [tool]
        assert await status(found, tool) is ResultStatus.SUCCEEDED


async def test_two_executors_on_one_task_call_an_idempotent_tool_under_one_key_and_end_it_once(world: World) -> None:
    async with desk(world, "both", "note") as one:
        till = Till()
        other = one.executor.__class__(
            "two",
            one.journal,
            one.executor._dispatcher._checkpoint,
            one.executor._trust,
            one.executor._activations,
            {"ledger": Toolbox(till.tools(), {})},
            Halts(),
            Toolbox(till.tools(), {}),
        )
        said = await asyncio.gather(one.executor.act(one.work), other.act(one.work), return_exceptions=True)
        assert all(isinstance(each, NotYetError) or each == () for each in said)
        assert () in said
        assert await other.act(one.work) == ()
        assert (await world.outcome(one.task)).status is OutcomeStatus.COMPLETED
        assert await world.count("outcome", one.task) == 1


async def test_two_executors_never_share_a_checkpoint(world: World) -> None:
    async with world.role("executor", instance="shared"):
        argv = (sys.executable, "-m", "console.main", "run", "executor")
        env = {**os.environ, **world.env, "WORKMESH_ROLE_INSTANCE": "executor-shared"}
        process = await asyncio.create_subprocess_exec(*argv, env=env, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
        said, _ = await process.communicate()
    assert process.returncode == 2
    assert b"give each copy its own role_instance" in said
