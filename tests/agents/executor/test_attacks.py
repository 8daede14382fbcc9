"""Forged, tampered, expired and repeated records, written as somebody would who has stolen a key of the bus.

Each is refused, on record, and the ledger has seen nothing of it.
"""

import asyncio
import base64
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from mesh.activation import Activation, active_key
from mesh.clock import now
from mesh.identity import Identity
from mesh.journal import Journal, Write, committing
from mesh.quarantine import Reason, release
from mesh.records import (
    AnyRecord,
    Approval,
    Decision,
    OutcomeStatus,
    Permit,
    Phase,
    Plan,
    Purpose,
    ResultStatus,
    Statement,
    Verdict,
    Word,
)
from mesh.service import ServiceError
from mesh.signing import ACTIVATION_TYPE, PERMIT_TYPE, STATEMENT_TYPE, open_envelope, sign
from tests.ledger_pack.running import Running
from tests.ledger_pack.world import World

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LARGE = 20_000


async def put(world: World, role: str, record: AnyRecord, *, over: bool = False) -> int:
    """Write a record under a role's key; ``over`` writes it over the one that stands there."""
    async with world.connected(role) as bus, committing(bus) as committer:
        journal = Journal(bus, committer)
        stands = await journal.history(record.header.task_id)
        last = [item for item in stands if type(item.record) is type(record) and item.record.token == record.token]
        (seq,) = await journal.commit(Write(record, last[-1].seq if over and last else 0))
        return seq


async def decision_of(world: World, task: str, step: str = "-") -> Decision:
    """Wait for a decision."""
    record = (await world.record("decision", task, step)).record
    assert isinstance(record, Decision)
    return record


def permit_of(decision: Decision) -> Permit:
    """The permit in a decision."""
    return open_envelope(decision.signed, PERMIT_TYPE, Permit, lambda key: None)[0]


def forged(decision: Decision, permit: Permit, signer: Identity) -> Decision:
    """A second decision that lets a waiting task pass."""
    return msgspec.structs.replace(
        decision, phase=Phase.EXECUTE, verdict=Verdict.ALLOW, signed=sign(permit, PERMIT_TYPE, signer)
    )


FORGERIES: list[tuple[str, str, dict[str, Any], OutcomeStatus, str]] = [
    ("other-signer", "planner", {}, OutcomeStatus.REFUSED, "signature"),
    ("other-task", "policy", {"task_id": "another"}, OutcomeStatus.REFUSED, "task"),
    ("other-plan", "policy", {"plan_digest": "sha256:0"}, OutcomeStatus.REFUSED, "plan"),
    ("other-steps", "policy", {"steps": ("enter", "enter")}, OutcomeStatus.REFUSED, "plan"),
    ("other-bundle", "policy", {"bundle": "sha256:0"}, OutcomeStatus.REFUSED, "bundle"),
    ("not-allowed", "policy", {"verdict": Verdict.NEEDS_APPROVAL}, OutcomeStatus.REFUSED, "verdict"),
    ("expired", "policy", {"expires_at": now() - timedelta(seconds=1)}, OutcomeStatus.EXPIRED, "expired"),
]


@pytest.mark.parametrize(("name", "signer", "changes", "status", "cause"), FORGERIES)
async def test_a_forged_permit_is_refused_on_record(
    world: World,
    executor: Running,
    name: str,
    signer: str,
    changes: dict[str, Any],
    status: OutcomeStatus,
    cause: str,
) -> None:
    task = await world.publish(name, amount=LARGE)
    decision = await decision_of(world, task)
    permit = msgspec.structs.replace(permit_of(decision), **{"verdict": Verdict.ALLOW, **changes})
    await put(world, "policy", forged(decision, permit, world.site.identity(signer)))
    ending = await world.outcome(task)
    assert (ending.status, ending.reason.startswith("permit refused: ")) == (status, True)
    assert any(
        (line["event"], line.get("task_id"), line.get("cause")) == ("permit_refused", task, cause)
        for line in executor.log()
    )
    assert world.applied(task) == []
    with pytest.raises(ServiceError, match="does not wait"):
        await world.say(task, Word.APPROVE)


async def test_a_permit_with_a_changed_byte_is_refused(world: World, executor: Running) -> None:
    task = await world.publish("changed-byte", amount=LARGE)
    decision = await decision_of(world, task)
    envelope = msgspec.json.decode(decision.signed)
    payload = base64.b64decode(envelope["payload"]).replace(b'"needs_approval"', b'"allow"')
    envelope["payload"] = base64.b64encode(payload).decode()
    signed = msgspec.Raw(msgspec.json.encode(envelope))
    await put(
        world,
        "policy",
        msgspec.structs.replace(decision, phase=Phase.EXECUTE, verdict=Verdict.ALLOW, signed=signed),
    )
    assert (await world.outcome(task)).status is OutcomeStatus.REFUSED
    assert world.applied(task) == []


@pytest.mark.parametrize("over", [False, True])
async def test_a_permit_works_once(world: World, executor: Running, over: bool) -> None:
    task = await world.publish(f"twice-{over}")
    decision = await decision_of(world, task)
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    again = decision if over else msgspec.structs.replace(decision, phase=Phase.EXECUTE)
    seq = await put(world, "policy", again, over=over)
    item = await world.quarantined("executor", "the permit was used before", seq)
    assert item.reason is Reason.REFUSED_PERMIT
    assert len(world.applied(task)) == 1


async def test_the_permit_of_another_task_is_refused(world: World, executor: Running) -> None:
    done = await world.publish("genuine")
    genuine = await decision_of(world, done)
    task = await world.publish("borrows", amount=LARGE)
    decision = await decision_of(world, task)
    await put(
        world,
        "policy",
        msgspec.structs.replace(decision, phase=Phase.EXECUTE, verdict=Verdict.ALLOW, signed=genuine.signed),
    )
    ending = await world.outcome(task)
    assert (ending.status, done in ending.reason) == (OutcomeStatus.REFUSED, True)
    assert world.applied(task) == []


def _same_digest(plan: Plan) -> Plan:
    args = msgspec.Raw(b'{"account":"thief","amount":100}')
    call = msgspec.structs.replace(plan.steps[0].call, args=args)
    return msgspec.structs.replace(plan, steps=(msgspec.structs.replace(plan.steps[0], call=call),))


def _no_step(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, steps=())


@pytest.mark.parametrize("tamper", [_same_digest, _no_step])
async def test_a_plan_changed_between_permit_and_effect_is_refused(
    world: World, executor: Running, tamper: Callable[[Plan], Plan]
) -> None:
    executor.signal(signal.SIGSTOP)
    task = await world.publish(f"plan{tamper.__name__}")
    await decision_of(world, task)
    plan = (await world.record("plan", task)).record
    assert isinstance(plan, Plan)
    await put(world, "planner", tamper(plan), over=True)
    executor.signal(signal.SIGCONT)
    ending = await world.outcome(task)
    assert (ending.status, "digest" in ending.reason) == (OutcomeStatus.REFUSED, True)
    assert world.applied(task) == []


async def test_a_plan_changed_while_it_waits_voids_what_a_person_says(world: World, executor: Running) -> None:
    task = await world.publish("changed-waiting", amount=LARGE)
    await world.waits(task)
    shown = await world.shown(task)
    plan = (await world.record("plan", task)).record
    assert isinstance(plan, Plan)
    await put(world, "planner", msgspec.structs.replace(_same_digest(plan), digest="sha256:0"), over=True)
    with pytest.raises(ServiceError, match="was changed after the decision"):
        await world.shown(task)
    with pytest.raises(ServiceError, match="look again"):
        await world.say_on(shown, Word.APPROVE)
    await world.quarantined("policy", "look again")
    await put(world, "planner", _same_digest(plan), over=True)
    assert (await world.say(task, Word.APPROVE)).verdict == "deny"
    ending = await world.outcome(task)
    assert (ending.status, "digest" in ending.reason) == (OutcomeStatus.DENIED, True)
    assert world.applied(task) == []


async def test_a_forged_approval_on_record_counts_for_nothing(world: World, executor: Running) -> None:
    task = await world.publish("two-roles", amount=60_000)
    await world.waits(task)
    shown = await world.shown(task)
    statement = world.statement(shown, Word.APPROVE, "anna", "auditor")
    thief = world.site.identity("planner")
    decision = await decision_of(world, task)
    await put(
        world,
        "policy",
        Approval(header=decision.header, statement=statement, signed=sign(statement, STATEMENT_TYPE, thief)),
    )
    answer = await world.say(task, Word.APPROVE)
    assert (answer.verdict, answer.reason) == ("", "another person must approve too: auditor")
    assert world.applied(task) == []
    assert task in await world.waiting()
    # The one whose name was forged is not kept from saying so in truth.
    assert (await world.say(task, Word.APPROVE, "anna", "auditor")).verdict == "allow"


async def test_a_forged_word_settles_no_doubt(world: World, executor: Running) -> None:
    hold = world.hold("wire")
    task = await world.publish("doubted", kind="wire")
    await world.waits(task)
    hold.unlink()
    shown = await world.shown(task)
    decision = await decision_of(world, task)
    statement = world.statement(shown, Word.NOT_HAPPENED, "olga", "operator")
    signed = sign(statement, STATEMENT_TYPE, world.people["olga"])
    other = msgspec.structs.replace(statement, word=Word.HAPPENED)
    for number, word in enumerate(
        (
            Approval(header=decision.header, statement=other, signed=signed),
            Approval(header=decision.header, statement=statement, signed=sign(statement, STATEMENT_TYPE, world.thief)),
            agents_word(decision, statement, world.site.identity("executor")),
        )
    ):
        seq = await put(world, "policy", word, over=number > 0)
        item = await world.quarantined("executor", "word on an effect in doubt", seq)
        assert item.reason is Reason.DEAD_LETTER
    assert (await world.result(task)).status is ResultStatus.IN_DOUBT
    assert len(world.applied(task)) == 1


def agents_word(decision: Decision, statement: Statement, agent: Identity) -> Approval:
    """A word that an agent signs with its own key, in its own name and role."""
    said = msgspec.structs.replace(statement, person=agent.name, role=agent.name, purpose=Purpose.IN_DOUBT)
    return Approval(header=decision.header, statement=said, signed=sign(said, STATEMENT_TYPE, agent))


async def test_a_bundle_that_no_policy_admin_signed_decides_nothing_and_lets_nothing_pass(
    world: World, executor: Running
) -> None:
    executor.signal(signal.SIGSTOP)
    permitted = await world.publish("permitted")
    decision = await decision_of(world, permitted)
    activation = Activation(domain="ledger", digest=decision.bundle, activated_at=now())
    forged_activation = sign(activation, ACTIVATION_TYPE, world.site.identity("planner"))
    async with world.connected("admin") as bus:
        await bus.request(active_key("ledger"), bytes(forged_activation))
    executor.signal(signal.SIGCONT)
    at_executor = await world.quarantined("executor", "has not the role policy_admin")
    await asyncio.sleep(1.1)  # mesh.activation.REREAD_S: until then policy may use what it read before
    planned = await world.publish("planned")
    at_policy = await world.quarantined("policy", "has not the role policy_admin")
    assert [world.applied(task) for task in (permitted, planned)] == [[], []]
    await world.bootstrap()
    async with world.connected("operator") as bus, committing(bus) as committer:
        await asyncio.sleep(1.1)
        for item in (at_executor, at_policy):
            await release(committer, item, person="test")
    assert [(await world.outcome(task)).status for task in (permitted, planned)] == [OutcomeStatus.COMPLETED] * 2


async def test_a_plan_of_no_event_is_set_aside(world: World, executor: Running) -> None:
    plan = (await world.record("plan", await world.publish("of-an-event"))).record
    assert isinstance(plan, Plan)
    orphan = msgspec.structs.replace(plan, header=msgspec.structs.replace(plan.header, task_id="orphan"))
    seq = await put(world, "planner", orphan)
    item = await world.quarantined("policy", "a plan of no event", seq)
    assert item.reason is Reason.DEAD_LETTER
    assert world.applied("orphan") == []
