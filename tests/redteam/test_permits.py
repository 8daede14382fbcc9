"""Forged permits and forged words of people: nothing is done on them, and the genuine ones still count."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from mesh import service
from mesh.approvals import WordAnswer, WordRequest
from mesh.clock import now
from mesh.identity import Identity
from mesh.journal import Write, message_of
from mesh.plans import plan_digest
from mesh.records import Call, Decision, OutcomeStatus, Permit, Phase, Plan, Statement, Verdict, Word
from mesh.service import ServiceError
from mesh.signing import PERMIT_TYPE, STATEMENT_TYPE, open_envelope, pae, sign
from mesh.site import ADMIN, OPERATOR, ROLES
from mesh.subjects import ORIGIN_SEQUENCE, ORIGIN_STREAM, ORIGIN_SUBJECT
from mesh.trust import TrustEntry, enroll, revoke
from tests.ledger_pack.world import World
from tests.redteam.catalogue import attack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LARGE, HUGE = 20_000, 60_000
Envelope = dict[str, Any]


async def waiting(world: World, name: str, amount: int = LARGE) -> tuple[str, Decision, Permit]:
    """A task that waits for approval, with the decision that says so and the permit in it."""
    task = await world.publish(name, amount=amount)
    decision = (await world.record("decision", task)).record
    assert isinstance(decision, Decision)
    return task, decision, open_envelope(decision.signed, PERMIT_TYPE, Permit, lambda key: None)[0]


async def put(world: World, decision: Decision, signed: bytes) -> None:
    """Write the second decision, with this envelope, as somebody would who may write decisions."""
    forged = msgspec.structs.replace(
        decision, phase=Phase.EXECUTE, verdict=Verdict.ALLOW, signed=msgspec.Raw(signed), reason="forged"
    )
    message = message_of(Write(forged))
    async with world.connected("policy") as bus:
        await bus.request(message.subject, message.data)


def enveloped(payload: bytes, keyid: str, signature: bytes, kind: str = PERMIT_TYPE) -> Envelope:
    """An envelope of these parts."""
    signatures = [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}]
    return {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}


@attack(
    "permits",
    "planner, executor, operator, admin, a controller, a stranger",
    "signs a permit with a key that is not policy's, and writes it where policy's decision would stand",
    "the task is refused: the signer has not the role",
    "the outcome and the ledger's log",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("who", ["planner", "executor", "operator", "admin", "carla", "thief"])
async def test_a_permit_that_another_key_signed_permits_nothing(world: World, who: str) -> None:
    task, decision, permit = await waiting(world, f"signer-{who}")
    signer: Identity = {"carla": world.people["carla"], "thief": world.thief}.get(who) or world.site.identity(who)
    await put(world, decision, bytes(sign(msgspec.structs.replace(permit, verdict=Verdict.ALLOW), PERMIT_TYPE, signer)))
    ending = await world.outcome(task)
    assert (ending.status, "signature is refused" in ending.reason) == (OutcomeStatus.REFUSED, True)
    assert world.applied(task) == []


def _edit(genuine: bytes, change: Callable[[Envelope], object]) -> bytes:
    envelope = json.loads(genuine)
    change(envelope)
    return json.dumps(envelope).encode()


def _payload(envelope: Envelope) -> bytes:
    return base64.b64decode(envelope["payload"]).replace(b'"needs_approval"', b'"allow"')


def _swap_payload(envelope: Envelope) -> None:
    envelope["payload"] = base64.b64encode(_payload(envelope)).decode()


def _sign_as(envelope: Envelope, change: Callable[[Envelope], object]) -> None:
    _swap_payload(envelope)
    change(envelope)


TAMPERED: dict[str, Callable[[bytes], bytes]] = {
    "the payload changed": lambda data: _edit(data, _swap_payload),
    "the payload cut off": lambda data: _edit(data, lambda e: e.update(payload=e["payload"][:-8])),
    "the signature cut off": lambda data: _edit(data, lambda e: e["signatures"][0].update(sig="AAAA")),
    "no signature": lambda data: _edit(data, lambda e: _sign_as(e, lambda e: e.update(signatures=[]))),
    "an empty signature": lambda data: _edit(data, lambda e: _sign_as(e, lambda e: e["signatures"][0].update(sig=""))),
    "a signature of zeros": lambda data: _edit(
        data, lambda e: _sign_as(e, lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()))
    ),
    "two signatures": lambda data: _edit(data, lambda e: e["signatures"].append(e["signatures"][0])),
    "another type of payload": lambda data: _edit(data, lambda e: e.update(payloadType=STATEMENT_TYPE)),
    "no algorithm": lambda data: _edit(data, lambda e: e["signatures"][0].update(alg="none")),
    "an unknown field": lambda data: _edit(data, lambda e: e.update(allow=True)),
    "the payload given twice": lambda data: (
        b'{"payload":"' + base64.b64encode(_payload(json.loads(data))) + b'",' + data[1:] + b""
    ),
    "the payload given twice, the other way round": lambda data: (
        data[:-1] + b',"payload":"' + base64.b64encode(_payload(json.loads(data))) + b'"}'
    ),
    "base64 with white space": lambda data: _edit(data, lambda e: e.update(payload="\n" + e["payload"])),
    "base64 of the other alphabet": lambda data: _edit(
        data, lambda e: e["signatures"][0].update(sig="_" + e["signatures"][0]["sig"][1:])
    ),
    "base64 without padding": lambda data: _edit(
        data, lambda e: e["signatures"][0].update(sig=e["signatures"][0]["sig"].rstrip("="))
    ),
    "a list": lambda data: b"[" + data + b"]",
    "nothing": lambda data: b"null",
    "a text": lambda data: b'"allow"',
    "as it was, which says that it waits": lambda data: data,
}


@attack(
    "permits",
    "policy's right to write decisions, without its key",
    "changes an envelope: payload, signature, type, encoding, fields twice, two signatures, none",
    "the task is refused: one right signature over one payload, in one form, or nothing",
    "the outcome and the ledger's log",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("name", TAMPERED)
async def test_a_permit_that_was_changed_permits_nothing(world: World, name: str) -> None:
    task, decision, _ = await waiting(world, f"tampered-{list(TAMPERED).index(name)}")
    await put(world, decision, TAMPERED[name](bytes(decision.signed)))
    assert (await world.outcome(task)).status is OutcomeStatus.REFUSED
    assert world.applied(task) == []


@attack(
    "permits",
    "a later or a broken version of policy",
    "signs, with policy's own key, a permit with a field that this executor does not know, or a field twice",
    "refused: nothing is done on what is not understood to the last field",
    "the outcome and the ledger's log",
    "ASI07",
)
@pytest.mark.parametrize("name", ["unknown field", "field twice", "obligation that nobody can meet"])
async def test_a_permit_that_is_not_understood_permits_nothing(world: World, name: str) -> None:
    task, decision, permit = await waiting(world, f"unknown-{name.replace(' ', '-')}")
    data = msgspec.json.encode(msgspec.structs.replace(permit, verdict=Verdict.ALLOW))
    if name == "unknown field":
        data = data[:-1] + b',"only_if":"the manager agrees"}'
    elif name == "field twice":
        data = data[:-1] + b',"verdict":"deny"}'
    else:
        data = data.replace(b'"obligations":[]', b'"obligations":[{"name":"pray","value":"","step":""}]')
        assert b"pray" in data
    key = world.site.identity("policy")
    await put(world, decision, json.dumps(enveloped(data, key.public_key, key.sign(pae(PERMIT_TYPE, data)))).encode())
    assert (await world.outcome(task)).status is OutcomeStatus.REFUSED
    assert world.applied(task) == []


@attack(
    "permits",
    "policy's right to write decisions, without its key",
    "swaps the permits of two tasks, one of which is allowed",
    "refused: a permit is for one task and one plan",
    "the ledger's log",
    "ASI03",
)
async def test_a_permit_of_another_task_permits_nothing(world: World) -> None:
    done = await world.publish("swapped-allowed")
    await world.outcome(done)
    allowed = (await world.record("decision", done)).record
    assert isinstance(allowed, Decision)
    task, decision, _ = await waiting(world, "swapped-waits")
    await put(world, decision, bytes(allowed.signed))
    ending = await world.outcome(task)
    assert (ending.status, done in ending.reason) == (OutcomeStatus.REFUSED, True)
    assert (world.applied(task), len(world.applied(done))) == ([], 1)


@attack(
    "permits",
    "operator (the site's machine key)",
    "releases from quarantine what never was there: a decision of its own to the executor, a plan of its own to policy",
    "the executor asks for policy's signature all the same, and carries out the plan on record, not the one released",
    "the outcomes and the ledger's log",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("stage", ["executor", "policy"])
async def test_a_release_of_what_never_was_there_permits_nothing(world: World, stage: str) -> None:
    task, decision, permit = await waiting(world, f"released-{stage}")
    plan = (await world.record("plan", task)).record
    assert isinstance(plan, Plan)
    if stage == "executor":
        allowed = msgspec.structs.replace(permit, verdict=Verdict.ALLOW)
        signed = sign(allowed, PERMIT_TYPE, world.site.identity("operator"))
        forged = msgspec.structs.replace(decision, phase=Phase.EXECUTE, verdict=Verdict.ALLOW, signed=signed)
        message = message_of(Write(forged))
    else:
        call = Call(tool="ledger.post", args=msgspec.Raw(b'{"account":"thief","amount":1}'))
        steps = (msgspec.structs.replace(plan.steps[0], call=call),)
        digest = plan_digest(task, "ledger", steps)
        message = message_of(Write(msgspec.structs.replace(plan, steps=steps, digest=digest)))
    headers = {ORIGIN_STREAM: "JOURNAL", ORIGIN_SUBJECT: message.subject, ORIGIN_SEQUENCE: "1"}
    await world.bus.request(f"release.{stage}.forged", message.data, headers)
    if stage == "executor":
        assert (await world.outcome(task)).status is OutcomeStatus.REFUSED
    else:
        await world.settled("policy")
        assert (await world.say(task, Word.APPROVE)).verdict == "allow"
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        assert world.applied(task) == [("post", plan.steps[0].effect_key, LARGE)]
    assert world.applied(account="thief") == []


async def say(world: World, signed: bytes) -> WordAnswer:
    """Give an envelope to the policy service with the operator's key."""
    request = WordRequest(signed=msgspec.Raw(signed))
    return await service.ask(world.bus, "policy", "say", request, WordAnswer, timeout_s=10)


ROLES_THAT_ARE_NONE = (
    "controller:1",
    "controller:2",
    "Controller",
    "controller ",
    "controller\n",
    "controller.x",
    "c\u043entroller",
    "controller\u200b",
    "*",
    ">",
    "",
    "operator",
    "policy",
)


@attack(
    "people",
    "a controller with a key of her own, and whoever may ask the policy service",
    "approves in a role that she has not, in a spelling of it, or under another person's name",
    "refused, in quarantine; the task still waits",
    "the service's answer, what waits, and the ledger's log",
    "ASI03",
    "ASI09",
)
@pytest.mark.parametrize("role", ROLES_THAT_ARE_NONE)
async def test_a_role_that_is_none_approves_nothing(world: World, role: str) -> None:
    task, _, _ = await waiting(world, f"role-{ROLES_THAT_ARE_NONE.index(role)}")
    statement = world.statement(await world.shown(task), Word.APPROVE, "carla", role)
    with pytest.raises(ServiceError):
        await world.give(statement, world.people["carla"])
    assert (task in await world.waiting(), world.applied(task)) == (True, [])


Change = Callable[[Statement], Statement]
STATEMENTS: dict[str, Change] = {
    "in another's name": lambda said: msgspec.structs.replace(said, person="colin"),
    "in a look-alike of her name": lambda said: msgspec.structs.replace(said, person="c\u0430rla"),
    "for another plan": lambda said: msgspec.structs.replace(said, plan_digest="sha256:" + "0" * 64),
    "for a task that is none": lambda said: msgspec.structs.replace(said, task_id="nothing"),
    "for all tasks": lambda said: msgspec.structs.replace(said, task_id="*"),
    "for the rest of the subject": lambda said: msgspec.structs.replace(said, task_id=">"),
    "expired": lambda said: msgspec.structs.replace(said, expires_at=now() - timedelta(seconds=1)),
    "with another word": lambda said: msgspec.structs.replace(said, word=Word.HAPPENED),
}


@attack(
    "people",
    "a controller, or who has her key for a moment",
    "signs a word in another's name, for another plan or task, in the past, with a word that is none here",
    "refused, in quarantine; the task still waits",
    "the service's answer, what waits, and the ledger's log",
    "ASI03",
    "ASI09",
)
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_word_that_is_not_about_this_approves_nothing(world: World, name: str) -> None:
    task, _, _ = await waiting(world, f"word-{list(STATEMENTS).index(name)}")
    statement = world.statement(await world.shown(task), Word.APPROVE, "carla", "controller")
    with pytest.raises(ServiceError):
        await world.give(STATEMENTS[name](statement), world.people["carla"])
    assert (task in await world.waiting(), world.applied(task)) == (True, [])


WORDS: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "an unknown field": lambda data: _edit(data, lambda e: e.update(x=1)),
    "two signatures": lambda data: _edit(data, lambda e: e["signatures"].append(e["signatures"][0])),
    "the type of a permit": lambda data: _edit(data, lambda e: e.update(payloadType=PERMIT_TYPE)),
    "nested 20,000 deep": lambda data: b"[" * 20_000 + b"]" * 20_000,
    "half a megabyte": lambda data: _edit(data, lambda e: e.update(payload="A" * 500_000)),
    "not UTF-8": lambda data: b'"\xc0\xaf"',
    "a lone surrogate": lambda data: b'"\\ud800"',
    "a number": lambda data: b"1e999",
}


@attack(
    "inputs",
    "whoever may ask the policy service",
    "sends words that are cut off, nested 20,000 deep, huge, not UTF-8, of another type",
    "an answer with the reason; the service goes on: the genuine word counts after it",
    "the service's answer, and the outcome after the genuine word",
    "ASI05",
    "ASI08",
)
@pytest.mark.parametrize("name", WORDS)
async def test_a_word_that_is_none_stops_no_service(world: World, name: str) -> None:
    task, _, _ = await waiting(world, f"bytes-{list(WORDS).index(name)}")
    statement = world.statement(await world.shown(task), Word.APPROVE, "carla", "controller")
    genuine = sign(statement, STATEMENT_TYPE, world.people["carla"])
    data = b'{"signed":' + WORDS[name](bytes(genuine)) + b"}"
    answer = json.loads((await world.bus.request("svc.policy.say", data, timeout_s=10)).data)
    assert answer["error"], answer
    assert world.applied(task) == []
    assert (await say(world, bytes(genuine))).verdict == "allow"
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED


@attack(
    "people",
    "an agent",
    "signs an approval with its own key, in a person's name and in its own",
    "refused: only a person may approve",
    "the service's answer and the ledger's log",
    "ASI03",
    "ASI09",
    "ASI10",
)
@pytest.mark.parametrize("agent", [*ROLES, OPERATOR, ADMIN])
async def test_an_agent_approves_nothing(world: World, agent: str) -> None:
    task, _, _ = await waiting(world, f"agent-{agent}")
    said = world.statement(await world.shown(task), Word.APPROVE, "carla", "controller")
    for person, role in (("carla", "controller"), (agent, agent), (agent, "controller")):
        with pytest.raises(ServiceError):
            await world.give(msgspec.structs.replace(said, person=person, role=role), world.site.identity(agent))
    assert (task in await world.waiting(), world.applied(task)) == (True, [])


@attack(
    "people",
    "a person with both roles that a plan waits for",
    "approves it in one role, then in the other",
    "refused: one person is one voice",
    "the service's answer, what waits, and the ledger's log",
    "ASI03",
    "ASI09",
)
async def test_a_person_with_two_roles_is_one_voice(world: World) -> None:
    dora = Identity.create(world.folder / "people" / "dora.nk", "dora")
    async with world.connected("admin") as bus:
        bucket = await bus.client.jetstream().key_value("TRUST")
        entry = TrustEntry(
            name="dora", public_key=dora.public_key, kind="person", roles=("auditor", "controller"), enrolled_at=now()
        )
        await enroll(bucket, world.site.admin, entry)
    task, _, _ = await waiting(world, "dora", HUGE)
    shown = await world.shown(task)
    assert (await world.give(world.statement(shown, Word.APPROVE, "dora", "auditor"), dora)).verdict == ""
    with pytest.raises(ServiceError, match="has approved this plan already"):
        await world.give(world.statement(shown, Word.APPROVE, "dora", "controller"), dora)
    assert (task in await world.waiting(), world.applied(task)) == (True, [])


async def refusal(world: World, statement: Statement, person: str) -> str:
    """Why a word is refused."""
    with pytest.raises(ServiceError) as raised:
        await world.give(statement, world.people[person])
    return str(raised.value)


@attack(
    "keys",
    "who has stolen a person's key",
    "approves with it after it was revoked",
    "refused within a second of the revocation",
    "the service's answer and the ledger's log",
    "ASI03",
    "ASI09",
)
async def test_a_revoked_person_approves_nothing(world: World) -> None:
    task, _, _ = await waiting(world, "revoked")
    shown = await world.shown(task)
    stale = msgspec.structs.replace(world.statement(shown, Word.APPROVE, "colin", "controller"), plan_digest="sha256:0")
    async with world.connected("admin") as bus:
        await revoke(await bus.client.jetstream().key_value("TRUST"), world.site.admin, "colin")
    async with asyncio.timeout(1):
        while "was revoked at" not in await refusal(world, stale, "colin"):  # noqa: ASYNC110 - polls a service
            await asyncio.sleep(0.02)
    with pytest.raises(ServiceError, match="was revoked at"):
        await world.say_on(shown, Word.APPROVE, "colin")
    assert (task in await world.waiting(), world.applied(task)) == (True, [])
