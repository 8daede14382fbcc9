"""A wholly compromised planner in the ledger's domain: forbidden tools, split amounts, and records that are none."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from mesh import quarantine, subjects
from mesh.journal import Write, message_of
from mesh.quarantine import Reason
from mesh.records import Call, Context, OutcomeStatus, Plan
from tests.ledger_pack.running import until
from tests.redteam.catalogue import attack
from tests.redteam.hostile import Hostile, args, called, entry, ledger_plan, sealed, undone_by

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

CAP = 50_000


async def asked(hostile: Hostile, amount: int = 100, account: str = "a") -> Context:
    """Somebody asks for one entry."""
    data = {"account": account, "amount": amount, "kind": "post"}
    return await hostile.asked("ledger.entry.requested", data, "ledger")


@attack(
    "planner",
    "planner",
    "plans a tool that policy forbids as a compensation, with a last step that is bound to fail",
    "denied: what would undo a step is judged as a call of its own, whatever the schema declares",
    "the ledger's log",
    "ASI02",
    "ASI03",
)
@pytest.mark.parametrize("where", ["step", "compensation"])
async def test_a_forbidden_tool_is_forbidden_as_a_compensation_too(hostile: Hostile, where: str) -> None:
    context = await asked(hostile)
    first = entry("first", "ledger.post" if where == "compensation" else "ledger.wire", 100)
    if where == "compensation":
        first = undone_by(first, "ledger.wire", args(account="thief", amount=999_999))
    await hostile.write(ledger_plan(context, first, entry("last", "ledger.note", 2_000_000)))
    ending = await hostile.outcome(context.header.task_id, "ledger")
    assert (ending.status, "nothing is wired here" in ending.reason) == (OutcomeStatus.DENIED, True), ending
    assert hostile.world.applied(context.header.task_id) == []


def total(hostile: Hostile, account: str) -> int:
    """What moved on an account."""
    return sum(amount for _, _, amount in hostile.world.applied(account=account))


@attack(
    "limits",
    "planner",
    "splits what needs approval into steps of one plan, each under the threshold",
    "denied: a limit over time counts the sum of the steps",
    "the ledger's log",
    "ASI02",
    "ASI10",
)
async def test_an_amount_split_over_the_steps_of_a_plan_is_one_amount(hostile: Hostile) -> None:
    context = await asked(hostile, 9_000, "split")
    steps = [entry(f"s{n}", "ledger.post", 9_000, "split") for n in range(6)]
    await hostile.write(ledger_plan(context, *steps))
    ending = await hostile.outcome(context.header.task_id, "ledger")
    assert (ending.status, "account-day" in ending.reason) == (OutcomeStatus.DENIED, True), ending
    assert total(hostile, "split") == 0


@attack(
    "limits",
    "planner and publisher",
    "splits it over twelve tasks of twelve entities, decided at once by two copies of policy",
    "no more than the limit moves, to the cent: the window is one record that both replace as they read it",
    "the ledger's log",
    "ASI02",
    "ASI08",
    "ASI10",
)
async def test_an_amount_split_over_tasks_and_copies_of_policy_stays_under_the_limit(hostile: Hostile) -> None:
    async with hostile.world.role("policy", "second"):
        contexts = await asyncio.gather(*(asked(hostile, 9_000, "many") for _ in range(12)))
        plans = [ledger_plan(context, entry("enter", "ledger.post", 9_000, "many")) for context in contexts]
        await hostile.thief.commit([replace(message_of(Write(plan)), expected=None) for plan in plans])
        endings = await asyncio.gather(*(hostile.outcome(plan.header.task_id, "ledger") for plan in plans))
    done = sum(ending.status is OutcomeStatus.COMPLETED for ending in endings)
    assert (done, total(hostile, "many")) == (CAP // 9_000, CAP // 9_000 * 9_000)


NUMBERS = {
    "2^53 + 1": 2**53 + 1,
    "2^63": 2**63,
    "2^64": 2**64,
    "a float with a fraction": "100.5",
    "NaN": "NaN",
    "infinity": "Infinity",
    "a number as a text": '"100"',
    "a text in Arabic digits": '"\u0661\u0660\u0660"',
    "a list": "[100]",
    "nothing": "null",
    "true": "true",
}


@attack(
    "inputs",
    "planner",
    "gives numbers that are none: negative, beyond 64 bits, floats, NaN, texts of digits",
    "refused by the tool's own bounds before anything is called, or denied",
    "the ledger's log has no such amount; nobody's process ended",
    "ASI02",
    "ASI05",
)
@pytest.mark.parametrize("name", NUMBERS)
async def test_a_number_that_is_none_is_not_called_with(hostile: Hostile, name: str) -> None:
    context = await asked(hostile, account="numbers")
    raw = f'{{"account":"numbers","amount":{NUMBERS[name]}}}'.encode()
    data = msgspec.json.encode(ledger_plan(context, entry("enter", "ledger.post", 1, "numbers")))
    subject = subjects.record("plan", "ledger", context.header.task_id, "-")
    try:
        step = called(entry("enter", "ledger.post", 1), "ledger.post", msgspec.Raw(raw))
        data = msgspec.json.encode(ledger_plan(context, step))
    except msgspec.DecodeError:  # not even JSON: no digest of it can be made
        data = data.replace(b'{"account": "numbers", "amount": 1}', raw)
        assert raw in data
    seq = await hostile.write_bytes(subject, data)
    await _refused(hostile, context, seq)
    assert hostile.world.applied(context.header.task_id) == []


async def _refused(hostile: Hostile, context: Context, seq: int) -> None:
    """Wait until the task is refused, or its record is set aside."""

    async def is_so() -> bool:
        subject = subjects.record("outcome", "ledger", context.header.task_id, "-")
        item = await hostile.world.journal.record(subject)
        if item is not None:
            status = getattr(item.record, "status", None)
            assert status is not OutcomeStatus.COMPLETED, item.record
            return True
        waiting = await quarantine.waiting(hostile.world.bus)
        return any(each.seq == seq or context.header.task_id in each.subject for each in waiting)

    await until(is_so)


def nested(depth: int) -> bytes:
    """Arguments that are lists in lists."""
    return b'{"account":"deep","amount":' + b"[" * depth + b"]" * depth + b"}"


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "deep nesting": lambda data: data.replace(b'{"account": "a", "amount": 1}', nested(20_000)),
    "a lone surrogate": lambda data: data.replace(b'"account": "a"', b'"account": "\\ud800"'),
    "overlong UTF-8": lambda data: data.replace(b'"account": "a"', b'"account": "\xc0\xaf"'),
    "NUL": lambda data: data.replace(b'"account": "a"', b'"account": "a\x00"'),
    "half a plan": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "a list of plans": lambda data: b"[" + data + b"]",
    "another kind": lambda data: data.replace(b'"kind":"plan"', b'"kind":"decision"'),
    "an unknown kind": lambda data: data.replace(b'"kind":"plan"', b'"kind":"permit"'),
    "a later version": lambda data: data.replace(b'"v":1', b'"v":2'),
    "another task's header": lambda data: data.replace(b'"task_id":"', b'"task_id":"x'),
    "another domain's header": lambda data: data.replace(b'"domain":"ledger"', b'"domain":"retail"'),
}


@attack(
    "inputs",
    "planner",
    "writes bytes that are no plan: nested 20,000 deep, cut off, not UTF-8, of another kind, task, domain or version",
    "set aside with its reason; the stage goes on with the next",
    "quarantine, the ledger's log, and a plan that passes afterwards",
    "ASI05",
    "ASI07",
    "ASI08",
)
@pytest.mark.parametrize("name", BYTES)
async def test_bytes_that_are_no_plan_are_set_aside(hostile: Hostile, name: str) -> None:
    context = await asked(hostile)
    plan = ledger_plan(context, entry("enter", "ledger.post", 1))
    data = msgspec.json.encode(plan)
    if '"v":1' not in data.decode():
        data = data.replace(b'"header":{', b'"header":{"v":1,', 1)
    forged = BYTES[name](data)
    assert forged != data
    seq = await hostile.write_bytes(subjects.of(plan), forged)
    await _refused(hostile, context, seq)
    assert hostile.world.applied(context.header.task_id) == []


@attack(
    "planner",
    "planner",
    "writes a plan of a task that no event began",
    "set aside as a plan of no event",
    "quarantine and the ledger's log",
    "ASI07",
    "ASI10",
)
async def test_a_plan_of_no_event_is_set_aside(hostile: Hostile) -> None:
    context = await asked(hostile)
    head = msgspec.structs.replace(context.header, task_id="orphan")
    plan = ledger_plan(msgspec.structs.replace(context, header=head), entry("enter", "ledger.post", 1))
    seq = await hostile.write(plan)
    item = await hostile.world.quarantined("policy", "a plan of no event", seq)
    assert (item.reason, hostile.world.applied("orphan")) == (Reason.DEAD_LETTER, [])


@attack(
    "planner",
    "planner",
    "writes the event's context itself: has the server send a stored record of its own to the subject of a context",
    "the server's answer ends in the planner's own account; had the root sent it, policy would refuse it all the same",
    "quarantine and the ledger's log",
    "ASI03",
    "ASI06",
    "ASI07",
)
async def test_a_context_that_came_by_a_detour_is_no_context(hostile: Hostile) -> None:
    genuine = await asked(hostile)
    head = msgspec.structs.replace(genuine.header, task_id="detour")
    forged = msgspec.structs.replace(genuine, header=head)
    own = subjects.record("plan", "ledger", "carrier", "-")
    seq = await hostile.write_bytes(own, message_of(Write(forged)).data)
    target = subjects.of(forged)
    async with hostile.world.connected("planner") as bus, hostile.world.connected("admin") as root:
        await bus.client.publish("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":%d}' % seq, reply=target)
        await bus.read(subjects.JOURNAL, seq, 1)  # asked later, answered later
        await bus.settle()
        assert await hostile.world.bus.last(subjects.JOURNAL, target) is None
        await root.client.publish("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":%d}' % seq, reply=target)

        async def is_there() -> bool:
            return await hostile.world.bus.last(subjects.JOURNAL, target) is not None

        await until(is_there)
    plan = ledger_plan(forged, entry("enter", "ledger.post", 1))
    seq = await hostile.write(plan)
    item = await hostile.world.quarantined("policy", "was not published there", seq)
    assert (item.reason, hostile.world.applied("detour")) == (Reason.DEAD_LETTER, [])


@attack(
    "planner",
    "planner",
    "writes a huge plan: thousands of steps, up to what the bus takes",
    "denied or refused by the bus; policy goes on deciding meanwhile",
    "the ledger's log and a plan that is decided on beside it",
    "ASI08",
)
async def test_a_huge_plan_stops_nobody(hostile: Hostile) -> None:
    context, other = await asked(hostile, 1, "huge"), await asked(hostile, 1, "beside")
    steps = [
        entry(f"s{n}", "ledger.post", 1, "huge", compensation=Call(tool="ledger.wire", args=args()))
        for n in range(1_500)
    ]
    plan: Plan = sealed(ledger_plan(context), steps)
    await hostile.write(plan)
    await hostile.write(ledger_plan(other, entry("enter", "ledger.post", 1, "beside")))
    assert (await hostile.outcome(other.header.task_id, "ledger")).status is OutcomeStatus.COMPLETED
    assert (await hostile.outcome(context.header.task_id, "ledger")).status is OutcomeStatus.DENIED
    assert hostile.world.applied(account="huge") == []
