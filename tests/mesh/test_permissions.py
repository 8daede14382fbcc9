"""Permissions: each role can do its part of the flow on a real server, and nothing more."""

import json
from functools import partial
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from mesh import subjects
from mesh.errors import SettingsError
from mesh.natsaccounts import covers
from mesh.permissions import DURABLES, ROLES, BusUser
from tests.mesh.running_mesh import Mesh, settled, until

OWN = {
    "perception": ["task.context.d.t.-", "task.outcome.d.t.-", "quarantine.perception.i"],
    "planner": [
        "task.prompt.d.t.extract",
        "task.plan.d.t.-",
        "task.plan.d.t.v1",
        "task.plan.d.t.v3",
        "quarantine.planner.i",
    ],
    "model": ["task.completion.d.t.extract", "spend.d.2026-11-22", "spend.batches", "quarantine.model.i"],
    "policy": [
        "task.decision.d.t.-",
        "task.approval.d.t.r",
        "task.outcome.d.t.-",
        "task.plan.d.t.r1",
        "release.planner.i",
        "control.autonomy.d.t",
        "control.bundle.d",
        "limit.d.weekly.k",
        "quarantine.policy.i",
    ],
    "executor": ["task.effect.d.t.s", "task.result.d.t.s", "task.outcome.d.t.-", "quarantine.executor.i"],
    "learner": ["task.lesson.d.t.-", "quarantine.learner.i"],
    "memory": ["fact.scope.f"],
    "auditor": ["audit.entries.1", "audit.checkpoint.1", "audit.problem.missing.1"],
    "intake": ["event.d.x", "original.0a.1~1", "quarantine.intake.i"],
    "operator": ["event.d.x", "release.planner.i", "release.executor.i", "quarantine.released.i", "control.halt.-.-.-"],
    "console": ["event.d.x", "release.planner.i", "release.executor.i", "quarantine.released.i", "control.halt.-.-.-"],
    "tracer": [],
    "publisher": ["event.d.x"],
    "uplink": [],  # a hub's streams alone: tests/mesh/test_uplink.py
    "admin": ["control.bundle.d"],
}
SAID = {"memory": ["memory.changed.scope.s.-"], "learner": ["control.proposal.d.p"]}
EVERYTHING = sorted({subject for own in OWN.values() for subject in own})


async def denied(mesh: Mesh, role: str, client: Client, subject: str) -> None:
    """Publish, and see that the server refuses it with its reason, and stores nothing."""
    told = mesh.errors[role]
    told.clear()
    await client.publish(subject, b"{}")
    await until(lambda: any(is_violation(text) and f'"{subject.lower()}"' in text for text in told))


def is_violation(text: str) -> bool:
    """Whether the server says that a right is missing (nats-py passes its words on in lower case)."""
    return "permissions violation" in text


async def stored(admin: Client, subject: str) -> int:
    """How many messages stand under this subject."""
    info: Any = await admin.request(
        f"$JS.API.STREAM.INFO.{subjects.stream_of(subject)}", json.dumps({"subjects_filter": subject}).encode()
    )
    return int((json.loads(info.data)["state"].get("subjects") or {}).get(subject, 0))


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_writes_its_own_subjects_and_no_others(mesh: Mesh, role: str) -> None:
    client, admin = await mesh.connect(role), await mesh.connect("admin")
    for subject in OWN[role]:
        await client.jetstream().publish(subject, b"{}")
        assert await stored(admin, subject) == 1
    assert mesh.errors[role] == []
    for subject in EVERYTHING:
        if subject not in OWN[role]:
            await denied(mesh, role, client, subject)
            assert await stored(admin, subject) == 0


@pytest.mark.parametrize("stage", DURABLES)
async def test_a_stage_pulls_and_acks_its_durable_consumer(mesh: Mesh, stage: str) -> None:
    source, stream = ("operator", subjects.EVENTS) if stage == "perception" else ("perception", subjects.JOURNAL)
    subject = "event.d.x" if stage == "perception" else "task.context.d.t.-"
    await (await mesh.connect(source)).jetstream().publish(subject, b"{}")
    client = await mesh.connect(stage)
    pulled = await client.jetstream().pull_subscribe_bind(consumer=stage, stream=stream)
    (message,) = await pulled.fetch(1, timeout=5)
    await message.in_progress()
    await message.ack_sync(timeout=5)
    info = await client.jetstream().consumer_info(stream, stage)
    assert info.ack_floor is not None and info.ack_floor.stream_seq == 1
    assert (await client.jetstream().stream_info(stream)).config.name == stream
    assert mesh.errors[stage] == []


async def test_a_stage_cannot_pull_for_another(mesh: Mesh) -> None:
    client = await mesh.connect("planner")
    pulled = await client.jetstream().pull_subscribe_bind(consumer="executor", stream=subjects.JOURNAL)
    with pytest.raises(NatsTimeoutError):
        await pulled.fetch(1, timeout=0.3)
    await until(lambda: any(is_violation(text) for text in mesh.errors["planner"]))


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"admin", "publisher", "uplink"}))
async def test_a_member_reads_trust_and_the_journal(mesh: Mesh, role: str) -> None:
    client = await mesh.connect(role)
    await (await mesh.connect("perception")).jetstream().publish("task.context.d.t.-", b"{}")
    found = await client.jetstream().get_last_msg("JOURNAL", "task.context.d.t.-", direct=True)
    assert found.data == b"{}"
    registry = await client.jetstream().key_value("REGISTRY")
    await registry.put(f"{role}.one", b"{}")
    watcher: Any = await (await client.jetstream().key_value("TRUST")).watchall()
    assert await watcher.updates() is None
    await watcher.stop()
    assert mesh.errors[role] == []


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"admin"}))
async def test_only_the_admin_writes_trust_or_makes_streams_and_policy_alone_takes_policies(
    mesh: Mesh, role: str
) -> None:
    client = await mesh.connect(role)
    for subject in (
        "$KV.TRUST.alice",
        *(["$KV.POLICY.current"] if role != "policy" else []),
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.STREAM.PURGE.JOURNAL",
        "$JS.API.STREAM.DELETE.JOURNAL",
        "$JS.API.CONSUMER.DURABLE.CREATE.JOURNAL.planner",
        "$JS.API.CONSUMER.CREATE.JOURNAL",
    ):
        await denied(mesh, role, client, subject)


async def test_a_service_answers_those_who_may_ask_it(mesh: Mesh) -> None:
    memory, planner, executor, policy = [
        await mesh.connect(role) for role in ("memory", "planner", "executor", "policy")
    ]

    async def answer(message: Any) -> None:
        await message.respond(b"found")

    await memory.subscribe("svc.memory.>", "memory", cb=answer)
    await settled(memory)
    assert (await planner.request("svc.memory.recall", b"{}", timeout=5)).data == b"found"
    await denied(mesh, "planner", planner, "svc.memory.forget")
    await denied(mesh, "executor", executor, "svc.memory.recall")
    assert (await policy.request("svc.memory.standing", b"{}", timeout=5)).data == b"found"
    await denied(mesh, "policy", policy, "svc.memory.recall")
    await denied(mesh, "planner", planner, "svc.memory.standing")
    assert mesh.errors["memory"] == []


async def test_a_service_may_not_answer_where_it_was_not_asked(mesh: Mesh) -> None:
    memory = await mesh.connect("memory")
    await denied(mesh, "memory", memory, f"{mesh.identities['planner'].inbox_prefix}.x.y")


async def test_a_role_cannot_hear_the_replies_to_another(mesh: Mesh) -> None:
    client = await mesh.connect("executor")
    for subject in ("_INBOX.>", ">", f"{mesh.identities['policy'].inbox_prefix}.>", "svc.policy.>"):
        mesh.errors["executor"].clear()
        await client.subscribe(subject)
        await until(lambda: any(is_violation(text) for text in mesh.errors["executor"]))


async def test_a_key_that_is_a_user_no_more_is_disconnected(mesh: Mesh) -> None:
    planner = await mesh.connect("planner", allow_reconnect=False)
    await mesh.connect("policy")
    users = [BusUser(found.public_key, (role,)) for role, found in mesh.identities.items() if role != "planner"]
    mesh.server.reconfigure(users)
    await until(lambda: planner.is_closed)
    assert mesh.errors["policy"] == []


async def test_the_operator_sees_every_stream_and_asks_every_service(mesh: Mesh) -> None:
    client = await mesh.connect("operator")
    js = client.jetstream()
    assert {info.config.name for info in await js.streams_info()} >= {"EVENTS", "JOURNAL", "KV_TRUST"}
    assert [info.name for info in await js.consumers_info("EVENTS")] == ["perception"]
    with pytest.raises(NoRespondersError):
        await client.request("svc.policy.status", b"")
    assert mesh.errors["operator"] == []


def test_a_role_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="no role 'plannner'"):
        BusUser("U" * 56, ("plannner",)).permissions()


def test_several_roles_are_the_sum_of_their_subjects() -> None:
    both = BusUser("U" * 56, ("planner", "memory")).permissions()
    assert {"task.plan.*.*.-", "fact.>"} <= set(both.publish) and both.answers


async def test_what_a_role_says_is_heard_once_by_each_who_may_hear_it(mesh: Mesh) -> None:
    """Hints go from account to account; what was heard before it is stored still comes from one place."""
    heard: dict[tuple[str, str], int] = {}
    clients = {role: await mesh.connect(role) for role in ROLES}

    async def count(role: str, message: Any) -> None:
        heard[role, message.subject] = heard.get((role, message.subject), 0) + 1

    for role, client in clients.items():
        for subject in ROLES[role].subscribe:
            if not subject.startswith("svc."):
                await client.subscribe(subject, cb=partial(count, role))
        await settled(client)
    said = [(role, subject) for role, own in OWN.items() for subject in (*own, *SAID.get(role, ()))]
    wanted: dict[tuple[str, str], int] = {}
    for speaker, subject in said:
        await clients[speaker].publish(subject, b"{}")
        for role in ROLES:
            hears = any(covers(flt, subject) for flt in ROLES[role].subscribe)
            # Accounts that hear each other would be a cycle: of two that say and hear this, one hears the other.
            both = any(covers(flt, subject) for flt in ROLES[speaker].subscribe)
            if hears and not (both and (role, speaker) in (("intake", "operator"), ("operator", "console"))):
                wanted[role, subject] = wanted.get((role, subject), 0) + 1
    for client in clients.values():
        await settled(client)
    await until(lambda: heard == wanted)
    assert {subject.partition(".")[0] for _, subject in heard} >= {"task", "event", "control", "fact", "memory"}
