"""Every key of the bus against every subject that is not its own, and the server itself as an accomplice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client

from mesh import subjects
from mesh.bus import connect
from mesh.clock import now
from mesh.embedded import EmbeddedNats
from mesh.errors import BusUnavailableError, ForwardedError, SignatureError
from mesh.identity import Identity
from mesh.permissions import BUCKETS, DURABLES, ROLES, STREAMS, BusUser, kv_stream
from mesh.streams import BUCKETS as BUCKET_SPECS
from mesh.streams import stream_specs
from mesh.trust import TrustEntry, TrustWatcher, enroll, read_directory, revoke
from tests.mesh.running_mesh import Mesh, settled, until
from tests.redteam.catalogue import attack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

STORED = (
    "event.ledger.entry.requested",
    *(f"task.{kind}.ledger.victim.{step}" for kind in subjects.KINDS for step in ("-", "r1", "execute", "enter")),
    "limit.ledger.day.k",
    "release.policy.i",
    "release.executor.i",
    "control.halt.-.-.-",
    "control.autonomy.ledger.t",
    "control.bundle.ledger",
    "control.learned.ledger.choice.ledger=post.-",
    "control.proposal.ledger.p",
    *(f"quarantine.{stage}.i" for stage in (*DURABLES, "released")),
    "fact.scope.f",
    "audit.checkpoint",
    *(f"$KV.{bucket}.victim" for bucket in BUCKETS),
    *(f"$KV.REGISTRY.{role}.1" for role in ("planner", "policy", "executor", "operator")),
)
ASKED = (
    *(f"svc.{service}.{verb}" for service in ("policy", "memory", "learner") for verb in ("say", "recall", "remember")),
    *(
        f"$JS.API.{verb}.{stream}{rest}"
        for stream in (*STREAMS, *map(kv_stream, BUCKETS))
        for verb, rest in (
            ("STREAM.CREATE", ""),
            ("STREAM.UPDATE", ""),
            ("STREAM.PURGE", ""),
            ("STREAM.DELETE", ""),
            ("STREAM.MSG.DELETE", ""),
            ("STREAM.MSG.GET", ""),
            ("STREAM.SNAPSHOT", ""),
            ("STREAM.RESTORE", ""),
            ("CONSUMER.CREATE", ".thief"),
            ("CONSUMER.DURABLE.CREATE", ".executor"),
            ("CONSUMER.DELETE", ".executor"),
            ("CONSUMER.PAUSE", ".executor"),
            ("CONSUMER.UNPIN", ".executor"),
        )
    ),
    *(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{stage}" for stage, stream in DURABLES.items()),
    *(f"$JS.ACK.{stream}.{stage}.1.1.1.1.1" for stage, stream in DURABLES.items()),
    "$JS.API.ACCOUNT.PURGE.MESH",
    "$JS.API.META.LEADER.STEPDOWN",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.INFO",
)
HEARD = (
    ">",
    "_INBOX.>",
    "task.>",
    "event.>",
    "control.>",
    "fact.>",
    "quarantine.>",
    "svc.policy.>",
    "svc.policy.say",
    "svc.memory.>",
    "svc.learner.>",
    "$KV.>",
    "$JS.>",
    "$SYS.>",
    "limit.>",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A bus with the streams, buckets and consumers of a site."""
    folder = tmp_path_factory.mktemp("bus")
    identities = {role: Identity.create(folder / "keys" / f"{role}.nk", role) for role in ROLES}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    async with EmbeddedNats(folder / "nats", users) as server, AsyncExitStack() as stack:
        running = Mesh(server, identities, stack)
        admin = await running.connect("admin")
        for config in (
            *(spec.config(1) for spec in stream_specs({}, {})),
            *(bucket.config(1) for bucket in BUCKET_SPECS),
        ):
            await api(admin, f"STREAM.CREATE.{config['name']}", config)
        for stage, stream in DURABLES.items():
            consumer = {"durable_name": stage, "ack_policy": "explicit", "filter_subjects": []}
            await api(admin, f"CONSUMER.DURABLE.CREATE.{stream}.{stage}", {"stream_name": stream, "config": consumer})
        yield running


async def api(client: Client, name: str, request: Any = None) -> Any:
    """The answer of the server's own interface."""
    data = json.dumps(request).encode() if request is not None else b""
    answer = json.loads((await client.request(f"$JS.API.{name}", data, timeout=5)).data)
    assert "error" not in answer, answer
    return answer


async def state(admin: Client) -> dict[str, tuple[int, ...]]:
    """How many messages and consumers each stream has."""
    found: dict[str, tuple[int, ...]] = {}
    for stream in (*STREAMS, *map(kv_stream, BUCKETS)):
        info = await api(admin, f"STREAM.INFO.{stream}")
        found[stream] = (info["state"]["messages"], info["state"]["last_seq"], info["state"]["consumer_count"])
    return found


def may(role: str, subject: str) -> bool:
    """Whether a role has the right to publish a subject, by the table of permissions."""
    return any(_matches(flt, subject) for flt in ROLES[role].publish)


def _matches(flt: str, subject: str) -> bool:
    wanted, tokens = flt.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(a in ("*", b) for a, b in zip(wanted[:-1], tokens, strict=False))
    return len(wanted) == len(tokens) and all(a in ("*", b) for a, b in zip(wanted, tokens, strict=True))


def violations(mesh: Mesh, role: str) -> list[str]:
    """What the server said of missing rights."""
    return [text for text in mesh.errors[role] if "permissions violation" in text]


@attack(
    "bus",
    "each role",
    "publishes to every subject that is not its own: records of every kind, acts of governance, limits, facts, "
    "releases, buckets; JetStream's interface (create, update, purge, delete, snapshot, consumers, acks of others), "
    "services, the system account",
    "the server refuses each one, and says so; nothing is stored, no consumer made",
    "the server's refusals, counted one by one; the state of every stream before and after",
    "ASI03",
    "ASI07",
    "ASI10",
)
@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
async def test_a_key_writes_nothing_but_what_is_its_roles(mesh: Mesh, role: str) -> None:
    client, admin = await mesh.connect(role), await mesh.connect("admin")
    before = await state(admin)
    foreign = [subject for subject in (*STORED, *ASKED) if not may(role, subject)]
    assert len(foreign) > 150
    mesh.errors[role].clear()
    for subject in foreign:
        await client.publish(subject, b"{}")
    await settled(client)
    await until(lambda: len(violations(mesh, role)) >= len(foreign))
    told = " ".join(violations(mesh, role)).lower()
    assert [subject for subject in foreign if f'"{subject.lower()}"' not in told] == []
    assert await state(admin) == before


@attack(
    "bus",
    "each role",
    "listens to everything, to others' inboxes, to services it is not (so it could answer for them)",
    "the server refuses each subscription that is not the role's",
    "the server's refusals",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
async def test_a_key_hears_nothing_but_what_is_its_roles(mesh: Mesh, role: str) -> None:
    client = await mesh.connect(role)
    inboxes = [f"{found.inbox_prefix}.>" for name, found in mesh.identities.items() if name != role]
    foreign = [subject for subject in (*HEARD, *inboxes) if subject not in ROLES[role].subscribe]
    foreign = [subject for subject in foreign if not any(_matches(own, subject) for own in ROLES[role].subscribe)]
    mesh.errors[role].clear()
    for subject in foreign:
        await client.subscribe(subject)
    await settled(client)
    await until(lambda: len(violations(mesh, role)) >= len(foreign))


@attack(
    "bus",
    "whoever has no key",
    "connects without a key, or with one that nobody made a user",
    "the server closes the connection",
    "the client's error",
    "ASI03",
)
@pytest.mark.parametrize("with_key", [True, False])
async def test_a_stranger_is_not_let_in(mesh: Mesh, with_key: bool, tmp_path: Any) -> None:
    options: dict[str, str] = Identity.create(tmp_path / "x.nk", "x").nats_options() if with_key else {}
    with pytest.raises(BusUnavailableError, match=r"(?i)authorization"):
        async with connect(mesh.server.url, name="stranger", options=options, connect_timeout_s=2):
            pass


async def detour(client: Client, own: str, data: bytes, target: str) -> None:
    """Have the server send what this key wrote to a subject that it may not write."""
    seq = (await client.jetstream().publish(own, data)).seq
    await client.publish("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":%d}' % seq, reply=target)
    await settled(client)


@attack(
    "bus",
    "planner",
    "names a subject of a stream or bucket as the reply of a read, so that the server writes there what it may not",
    "nothing is stored: the server's answer goes no further than the role's own account",
    "the last message of the subject, as the root reads it",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("target", ["limit.ledger.day.k", "task.outcome.ledger.t.-", "$KV.TRUST.carla", "event.a.b"])
async def test_the_server_writes_nothing_that_the_key_may_not(mesh: Mesh, target: str) -> None:
    client = await mesh.connect("planner")
    stream = "KV_TRUST" if target.startswith("$KV") else subjects.stream_of(target)
    await detour(client, f"task.plan.ledger.{target.partition('.')[0].strip('$')}.-", b'{"evil":1}', target)
    async with connect(mesh.server.url, name="admin", options=mesh.identities["admin"].nats_options()) as bus:
        assert await bus.last(stream, target) is None


@attack(
    "bus",
    "planner, or who holds the root's key",
    "has the server copy a record to another subject, headers and all",
    "not stored for a role, not even under a subject of its own; what is stored for the root bears the mark of its "
    "detour, and every reader refuses it",
    "the stored message's headers as the bus of the project reads them",
    "ASI03",
    "ASI07",
)
async def test_what_the_server_was_made_to_write_is_known_as_such(mesh: Mesh) -> None:
    client, root, target = await mesh.connect("planner"), await mesh.connect("admin"), "task.plan.ledger.copied.-"
    await detour(client, "task.plan.ledger.carrier.-", b'{"evil":1}', target)
    async with connect(mesh.server.url, name="admin", options=mesh.identities["admin"].nats_options()) as bus:
        own = await bus.last("JOURNAL", "task.plan.ledger.carrier.-")
        assert own is not None and not own.is_forwarded
        assert await bus.last("JOURNAL", target) is None
        await root.publish("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":%d}' % own.seq, reply=target)
        async with asyncio.timeout(10):
            while (found := await bus.last("JOURNAL", target)) is None:  # noqa: ASYNC110 - the server sets no event here
                await asyncio.sleep(0.01)
        assert found.is_forwarded
        with pytest.raises(ForwardedError):
            found.require_published()


@attack(
    "bus",
    "planner",
    "puts a revoked key's old trust entry back, by the server's answer to a read of the bucket's history",
    "the key stays revoked, for processes that run and for those that start",
    "the trust as a new process reads it",
    "ASI03",
    "ASI10",
)
async def test_a_revocation_is_not_undone_by_an_old_entry(mesh: Mesh) -> None:
    root = mesh.identities["admin"]
    ann = mesh.identities["operator"]
    entry = TrustEntry(name="ann", public_key=ann.public_key, kind="person", roles=("manager",), enrolled_at=now())
    async with connect(mesh.server.url, name="admin", options=root.nats_options()) as bus:
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        await enroll(bucket, root, entry)
        old = await bus.last("KV_TRUST", "$KV.TRUST.ann")
        assert old is not None
        await revoke(bucket, root, "ann")
        thief = await mesh.connect("planner")
        await thief.publish("$JS.API.DIRECT.GET.KV_TRUST", b'{"seq":%d}' % old.seq, reply="$KV.TRUST.ann")
        await settled(thief)
        # The server no longer does it for a key of the site; whoever holds the root's could: readers hold all the same.
        await (await mesh.connect("admin")).publish(
            "$JS.API.DIRECT.GET.KV_TRUST", b'{"seq":%d}' % old.seq, reply="$KV.TRUST.ann"
        )
        async with asyncio.timeout(10):
            while (last := await bus.last("KV_TRUST", "$KV.TRUST.ann")) is None or not last.is_forwarded:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        known = await read_directory(bus, root.public_key)
        async with TrustWatcher(bucket, root.public_key, known=known) as watcher:
            for directory in (await read_directory(bus, root.public_key), watcher.directory):
                with pytest.raises(SignatureError, match="was revoked"):
                    directory.require(ann.public_key, "manager")


@attack(
    "bus",
    "publisher",
    "has the acknowledgement of its event sent to the interface that purges a stream, or deletes a message",
    "refused: streams deny purging and deleting, and the server knows no such request",
    "the state of the journal",
    "ASI03",
    "ASI08",
)
@pytest.mark.parametrize("verb", ["STREAM.PURGE.JOURNAL", "STREAM.MSG.DELETE.JOURNAL"])
async def test_an_acknowledgement_purges_nothing(mesh: Mesh, verb: str) -> None:
    admin, client = await mesh.connect("admin"), await mesh.connect("publisher")
    await (await mesh.connect("planner")).jetstream().publish("task.plan.ledger.kept.-", b"{}")
    before = (await state(admin))["JOURNAL"]
    await client.publish("event.ledger.x", b"{}", reply=f"$JS.API.{verb}")
    await settled(client)
    with pytest.raises(AssertionError):
        await api(admin, verb, {"seq": 1})
    assert (await state(admin))["JOURNAL"] == before


DETOURS = {
    "an empty answer to a read": ("$JS.API.DIRECT.GET.JOURNAL.task.none", b""),
    "the answer to a read": ("$JS.API.DIRECT.GET.JOURNAL", b'{"seq":1}'),
    "the end of a pull": ("$JS.API.CONSUMER.MSG.NEXT.JOURNAL.planner", b'{"batch":1,"no_wait":true}'),
    "the description of a stream": ("$JS.API.STREAM.INFO.JOURNAL", b""),
    "the acknowledgement of a record": ("task.plan.ledger.detour.-", b"{}"),
    "an acknowledged acknowledgement": ("$JS.ACK.JOURNAL.planner.1.1.1.1.0", b"+ACK"),
    "the sync of the servers": ("durability.jsz", b""),
    "that nobody answers": ("svc.memory.recall", b"{}"),
}
"""What the planner's key may ask, and what comes back to the subject that it names."""


@attack(
    "bus",
    "planner, or any key that may read the journal",
    "has an answer (of the server's to a read, a pull or a record, or that nobody answers) sent to the interface that "
    "deletes a stream, or makes one",
    "the streams are as before: an answer goes no further than the role's own account",
    "the list of streams, with their configurations",
    "ASI03",
    "ASI08",
    "ASI10",
)
@pytest.mark.parametrize("verb", ["STREAM.DELETE.AUDIT", "STREAM.CREATE.EVIL", "CONSUMER.DELETE.JOURNAL.executor"])
@pytest.mark.parametrize("how", DETOURS)
async def test_an_answer_of_the_server_deletes_no_stream(mesh: Mesh, how: str, verb: str) -> None:
    client, admin = await mesh.connect("planner"), await mesh.connect("admin")
    subject, data = DETOURS[how]
    before = await consumers(admin)
    assert "AUDIT" in before and "executor" in before["JOURNAL"]
    await client.publish(subject, data, reply=f"$JS.API.{verb}")
    await settled(client)
    # The same key's next request is answered behind whatever the first one did.
    await client.request("$JS.API.STREAM.INFO.JOURNAL", b"", timeout=5)
    await asyncio.sleep(0.1)
    assert await consumers(admin) == before


async def consumers(admin: Client) -> dict[str, list[str]]:
    """The durable consumers of each stream."""
    names = (await api(admin, "STREAM.NAMES"))["streams"]
    return {name: sorted((await api(admin, f"CONSUMER.NAMES.{name}"))["consumers"] or ()) for name in names}


@attack(
    "bus",
    "planner",
    "asks memory something, and names the interface that deletes a stream, or a stream's subject, as where to answer",
    "the answer, which memory may send anywhere once, goes no further than the planner's account",
    "the list of streams, and the last message of the subject",
    "ASI03",
    "ASI07",
    "ASI08",
)
@pytest.mark.parametrize("target", ["$JS.API.STREAM.DELETE.AUDIT", "fact.scope.answered", "limit.ledger.day.answered"])
async def test_a_services_answer_goes_nowhere_else(mesh: Mesh, target: str) -> None:
    planner, memory, admin = [await mesh.connect(role) for role in ("planner", "memory", "admin")]
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def answer(message: Any) -> None:
        await memory.publish(message.reply, b"")
        asked.put_nowait(message.reply)

    serving = await memory.subscribe("svc.memory.recall", cb=answer)
    try:
        await settled(memory)
        before = (await consumers(admin), await state(admin))
        await planner.publish("svc.memory.recall", b"{}", reply=target)
        assert (await asyncio.wait_for(asked.get(), 10)) != target
        await settled(memory)
        await asyncio.sleep(0.1)
        assert (await consumers(admin), await state(admin)) == before
    finally:
        await serving.unsubscribe()


@attack(
    "bus",
    "planner",
    "has the server's answer acknowledge a delivery of the executor's, so that it does not come again",
    "the server refuses the reply subject",
    "the server's refusal, and the consumer's floor",
    "ASI03",
    "ASI08",
)
async def test_an_answer_acknowledges_no_delivery_of_anothers(mesh: Mesh) -> None:
    client, admin = await mesh.connect("planner"), await mesh.connect("admin")
    before = await api(admin, "CONSUMER.INFO.JOURNAL.executor")
    mesh.errors["planner"].clear()
    for reply in ("$JS.ACK.JOURNAL.executor.1.1.1.1.0", "_R_.abcdef"):
        await client.publish("$JS.API.DIRECT.GET.JOURNAL.task.none", b"", reply=reply)
    await settled(client)
    await until(lambda: len(violations(mesh, "planner")) >= 2)
    after = await api(admin, "CONSUMER.INFO.JOURNAL.executor")
    assert (after["ack_floor"], after["num_ack_pending"]) == (before["ack_floor"], before["num_ack_pending"])


@attack(
    "bus",
    "planner",
    "makes a push consumer on a bucket that it may watch, which delivers to a subject of a stream, or to the interface "
    "that deletes one, with and without bodies",
    "nothing is stored and nothing deleted: the server delivers only where somebody listens by that very name",
    "the state of every stream",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize("headers_only", [False, True])
@pytest.mark.parametrize("target", ["task.outcome.ledger.pushed.-", "$JS.API.STREAM.DELETE.AUDIT"])
async def test_a_consumer_delivers_into_no_stream(mesh: Mesh, target: str, headers_only: bool) -> None:
    client, admin = await mesh.connect("planner"), await mesh.connect("admin")
    await admin.jetstream().publish("$KV.TRUST.somebody", b"{}")
    before = {stream: counts[:2] for stream, counts in (await state(admin)).items()}
    config = {"name": "thief", "deliver_subject": target, "ack_policy": "none", "headers_only": headers_only}
    request = json.dumps({"stream_name": "KV_TRUST", "config": config}).encode()
    await client.request("$JS.API.CONSUMER.CREATE.KV_TRUST.thief", request, timeout=5)
    await asyncio.sleep(0.3)
    await client.request("$JS.API.CONSUMER.DELETE.KV_TRUST.thief", b"", timeout=5)
    assert {stream: counts[:2] for stream, counts in (await state(admin)).items()} == before
