"""People's words on a running site: what counts, what is refused, and that each refusal is on record."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio

from mesh import subjects
from mesh.clock import now
from mesh.records import Decision, OutcomeStatus, Purpose, ResultStatus, Statement, Word
from mesh.service import ServiceError
from mesh.trust import revoke
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LARGE, HUGE = 20_000, 60_000
Change = Callable[[Statement], Statement]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The whole site."""
    stages = ("perception", "planner", "policy", "executor")
    async with world_in(tmp_path_factory.mktemp("w"), *stages) as found:
        yield found


async def waiting_task(world: World, name: str, amount: int = LARGE, account: str = "a") -> str:
    """A task that waits for approval."""
    task = await world.publish(name, amount=amount, account=account)
    await world.waits(task)
    return task


async def test_approved_by_the_role_that_it_waits_for_it_is_carried_out_as_shown(world: World) -> None:
    task = await waiting_task(world, "approved")
    shown = await world.shown(task)
    assert (shown.waiting.purpose, shown.waiting.roles, shown.waiting.amount) == (Purpose.PLAN, ("controller",), LARGE)
    assert msgspec.json.decode(shown.steps[0].call.args) == {"account": "a", "amount": LARGE}
    assert (await world.say(task, Word.APPROVE)).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert world.applied(task) == [("post", shown.steps[0].effect_key, LARGE)]
    await until(lambda: _gone(world, task))


async def _gone(world: World, task: str) -> bool:
    return task not in await world.waiting()


async def test_rejected_it_is_denied_for_good_with_the_persons_reason(world: World) -> None:
    task = await waiting_task(world, "rejected")
    shown = await world.shown(task)
    assert (await world.say(task, Word.REJECT)).verdict == "deny"
    ending = await world.outcome(task)
    assert (ending.status, ending.reason) == (OutcomeStatus.DENIED, "carla (controller) rejected it")
    with pytest.raises(ServiceError, match="does not wait"):
        await world.say_on(shown, Word.APPROVE, "colin")
    assert world.applied(task) == []


async def test_a_second_word_on_the_same_plan_is_refused(world: World) -> None:
    task = await waiting_task(world, "double")
    shown = await world.shown(task)
    statement = world.statement(shown, Word.APPROVE, "carla", "controller")
    assert (await world.give(statement, world.people["carla"])).verdict == "allow"
    for person in ("carla", "colin"):
        with pytest.raises(ServiceError, match="does not wait for approval"):
            await world.say_on(shown, Word.APPROVE, person)
    with pytest.raises(ServiceError, match="does not wait for approval"):
        await world.give(statement, world.people["carla"])
    await world.outcome(task)
    assert await world.count("approval", task) == 1


async def test_two_roles_are_two_people_and_each_counts_once(world: World) -> None:
    task = await waiting_task(world, "two", HUGE)
    first = await world.say(task, Word.APPROVE)
    assert (first.verdict, first.reason) == ("", "another person must approve too: auditor")
    with pytest.raises(ServiceError, match="stands already"):
        await world.say(task, Word.APPROVE, "colin")
    assert task in await world.waiting()
    assert (await world.say(task, Word.APPROVE, "anna", "auditor")).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    decision = (await world.record("decision", task, "execute")).record
    assert isinstance(decision, Decision)
    assert len(world.applied(task)) == 1


async def test_two_people_who_approve_in_the_same_moment_are_both_counted(world: World) -> None:
    for n in range(4):
        task = await waiting_task(world, f"at-once-{n}", HUGE)
        shown = await world.shown(task)
        said = await asyncio.gather(
            world.say_on(shown, Word.APPROVE), world.say_on(shown, Word.APPROVE, "anna", "auditor")
        )
        assert "allow" in {answer.verdict for answer in said}
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        assert len(world.applied(task)) == 1


def _same(said: Statement) -> Statement:
    return said


def _with(**changes: object) -> Change:
    def change(said: Statement) -> Statement:
        return msgspec.structs.replace(said, **changes)

    return change


WRONG: list[tuple[str, str, Change, str]] = [
    ("a role that the person has not", "carla", _with(role="auditor"), "has not the role auditor"),
    ("a role that it does not wait for", "anna", _with(person="anna", role="auditor"), "waits for controller, not for"),
    ("another person's key", "colin", _same, "signed by colin"),
    ("a stranger's key", "thief", _same, "not enrolled"),
    ("an agent's key", "executor", _with(person="executor", role="executor"), "only a person may approve"),
    ("a statement that has expired", "carla", _with(expires_at=now() - timedelta(seconds=1)), "expired at"),
    ("another plan", "carla", _with(plan_digest="sha256:0"), "look again"),
    ("another task", "carla", _with(task_id="none"), "no task none"),
    ("a word that is none for a plan", "carla", _with(word=Word.HAPPENED), "needs approve, reject or correct"),
    ("a step that is not in doubt", "carla", _with(purpose=Purpose.IN_DOUBT, word=Word.HAPPENED), "not in doubt"),
    ("no word on a doubt", "carla", _with(purpose=Purpose.IN_DOUBT, step="enter"), "happened or not_happened"),
]


@pytest.mark.parametrize(("name", "key", "change", "reason"), WRONG, ids=[name for name, *_ in WRONG])
async def test_a_word_that_is_not_right_is_refused_and_kept(
    world: World, name: str, key: str, change: Change, reason: str
) -> None:
    task = await waiting_task(world, name)
    said = change(world.statement(await world.shown(task), Word.APPROVE, "carla", "controller"))
    signers = {**world.people, "thief": world.thief, "executor": world.site.identity("executor")}
    with pytest.raises(ServiceError, match=reason):
        await world.give(said, signers[key])
    item = await world.quarantined("policy", reason)
    assert item.reason == "refused_word"
    assert item.data.startswith(b'{"signed":')
    assert task in await world.waiting()
    assert world.applied(task) == []


async def test_a_revoked_key_approves_nothing_and_what_it_approved_counts_no_more(world: World) -> None:
    task = await waiting_task(world, "revoked", HUGE)
    other = await waiting_task(world, "revoked-alone")
    await world.say(task, Word.APPROVE, "colin")
    async with world.connected("admin") as bus:
        await revoke(await bus.client.jetstream().key_value(subjects.TRUST_BUCKET), world.site.admin, "colin")

    async def is_refused() -> bool:
        try:
            await world.say(other, Word.REJECT, "colin", "auditor")
        except ServiceError as error:
            return "was revoked" in str(error)
        return False

    await until(is_refused)
    answer = await world.say(task, Word.APPROVE, "anna", "auditor")
    assert (answer.verdict, answer.reason) == ("", "another person must approve too: controller")
    assert task in await world.waiting()
    assert world.applied(task) == []


async def test_facts_that_changed_since_it_was_proposed_deny_it_and_are_on_record(world: World) -> None:
    task = await waiting_task(world, "frozen", account="frozen-later")
    world.freeze("frozen-later")
    answer = await world.say(task, Word.APPROVE)
    assert (answer.verdict, answer.reason) == ("deny", "the account is frozen")
    assert (await world.outcome(task)).status is OutcomeStatus.DENIED
    decision = (await world.record("decision", task, "execute")).record
    assert isinstance(decision, Decision)
    assert msgspec.json.decode(decision.sheets[0].facts)["frozen"] is True
    assert world.applied(task) == []


async def test_a_doubt_is_shown_with_its_reason_and_settled_by_one_word(world: World) -> None:
    hold = world.hold("wire")
    task = await world.publish("doubt", kind="wire")
    waiting = await world.waits(task)
    hold.unlink()
    assert (waiting.purpose, waiting.step) == (Purpose.IN_DOUBT, "enter")
    shown = await world.shown(task)
    assert "a person must say" in shown.waiting.reason
    said = world.statement(shown, Word.HAPPENED, "olga", "operator")
    for word in (Word.APPROVE, Word.REJECT):
        with pytest.raises(ServiceError, match="needs happened or not_happened"):
            await world.give(msgspec.structs.replace(said, word=word), world.people["olga"])
    with pytest.raises(ServiceError, match=r"'close' of task .* is not in doubt"):
        await world.give(msgspec.structs.replace(said, step="close"), world.people["olga"])
    with pytest.raises(ServiceError, match="viewer may not settle"):
        await world.say_on(shown, Word.HAPPENED, "vera", "viewer")
    assert (await world.give(said, world.people["olga"])).verdict == "settled"
    with pytest.raises(ServiceError, match="not in doubt"):
        await world.give(said, world.people["olga"])
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    result = await world.result(task)
    assert (result.status, result.recovered) == (ResultStatus.SUCCEEDED, "person")
    assert len(world.applied(task)) == 1


async def test_a_word_on_one_doubt_says_nothing_of_the_next(world: World) -> None:
    hold = world.hold("wire")
    task = await world.publish("doubts", kind="wire")
    await world.waits(task)
    said = world.statement(await world.shown(task), Word.NOT_HAPPENED, "olga", "operator")
    await world.give(said, world.people["olga"])

    async def is_in_doubt_again() -> bool:
        return await world.count("result", task) == 2

    await until(is_in_doubt_again)
    await world.waits(task)
    with pytest.raises(ServiceError, match="said before"):
        await world.give(said, world.people["olga"])
    hold.unlink()
    await world.say(task, Word.HAPPENED, "olga", "operator")
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED


async def test_a_plan_above_every_limit_is_denied_and_a_refused_one_needs_no_decision(world: World) -> None:
    task = await world.publish("limit", amount=2_000_000)
    ending = await world.outcome(task)
    assert (ending.status, ending.reason) == (OutcomeStatus.DENIED, "above the limit")
    refused = await world.publish("less", amount=-1)
    ending = await world.outcome(refused)
    assert (ending.status, ending.reason) == (OutcomeStatus.REFUSED, "an entry of less than nothing")
    assert [await world.count("decision", each) for each in (task, refused)] == [1, 0]
