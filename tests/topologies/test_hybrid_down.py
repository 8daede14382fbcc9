"""What comes down from a hub: bundles as a policy admin signed them, and facts; through cuts, kills and forgeries."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mesh import service, subjects
from mesh.activation import Activation, active_key, control_key
from mesh.clock import now
from mesh.downlink import Told
from mesh.errors import WorkmeshError
from mesh.facts import Claim, FactStatus, Judged
from mesh.identity import Identity
from mesh.link import Heartbeat, HeartbeatAnswer, HeartbeatRequest
from mesh.memory import ChangeAnswer, ForgetRequest, ResolveRequest, RevokeRequest, SignedRequest
from mesh.records import Decision, Word
from mesh.service import ServiceError
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, LINK_TYPE, sign
from policy_service.bundle import BundleContents
from tests.ledger_pack.running import until
from tests.memory_service import running_memory
from tests.memory_service.claims import claim
from tests.memory_service.running_memory import act, retract
from tests.mesh.live_mesh import stored
from tests.topologies.hybrid import SHARED, Hybrid, hybrid_in, typed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150), pytest.mark.slow]

CATCH_UP_S = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hybrid(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hybrid]:
    """The site and its hub."""
    roles = ("perception", "planner", "policy", "executor", "memory")
    async with hybrid_in(tmp_path_factory.mktemp("h"), *roles) as found:
        yield found


def said(value: Any, subject: str, *, uri: str = "erp:1", authority: int = 3, **more: Any) -> Claim:
    """A claim in the scope that the hub gives."""
    return msgspec.structs.replace(claim(value, uri=uri, authority=authority, subject=subject, **more), scope=SHARED)


async def remember(hybrid: Hybrid, *claims: Claim) -> list[Judged]:
    """Have the hub's own system say it at the hub."""
    return list((await running_memory.remember(hybrid.hub.bus, *claims, key=hybrid.erp)).facts)


async def arrived(hybrid: Hybrid, subject: str, count: int = 1) -> list[Judged]:
    """Wait until the site's memory holds so many facts of a subject."""

    async def are_there() -> bool:
        return len(await hybrid.facts(subject)) >= count

    await until(are_there, 20)
    return await hybrid.facts(subject)


async def status_of(hybrid: Hybrid, subject: str, status: FactStatus) -> Judged:
    """Wait until the first fact of a subject at the site has this status."""

    async def has() -> bool:
        found = await hybrid.facts(subject)
        return bool(found) and found[0].status is status

    await until(has, 20)
    return (await hybrid.facts(subject))[0]


async def told(hybrid: Hybrid) -> Told | None:
    """What the site said last at the hub."""
    message = await hybrid.hub.bus.last(subjects.SITES, subjects.told(hybrid.name, "ledger"))
    return msgspec.json.decode(message.data, type=Told) if message else None


async def has_told(hybrid: Hybrid) -> bool:
    """Whether it said anything."""
    return await told(hybrid) is not None


async def everything_looked_at(hybrid: Hybrid) -> bool:
    """Whether nothing waits at the hub for the site, by the sequences: its count of what waits may lag."""
    given = {
        subjects.SITES: [f"down.{hybrid.name}.>"],
        subjects.MEMORY: [f"fact.{SHARED.token}.>", "fact.source.>"],
    }
    for stream, filters in given.items():
        info = await hybrid.hub.bus.api(f"CONSUMER.INFO.{stream}.{hybrid.name}")
        last = max((message.seq for message in await hybrid.hub.bus.last_of_each(stream, filters)), default=0)
        if info["num_pending"] or info["num_ack_pending"] or info["ack_floor"]["stream_seq"] < last:
            return False
    return True


async def test_a_bundle_that_was_sent_is_in_force_at_the_site_as_it_was_signed(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await until(lambda: has_told(hybrid))
        before = await hybrid.in_force()
        report = await hybrid.send(hybrid.bundle("first"), "--comment", "from the hub", "--wait", "20")
        assert (report["over"], report["told"]["digest"]) == (before, report["digest"])
        assert await hybrid.in_force() == report["digest"] != before
        sent = await hybrid.hub.bus.last(subjects.SITES, subjects.down(hybrid.name, "active", "ledger"))
        in_force = await hybrid.site.bus.last("KV_POLICY", active_key("ledger"))
        on_record = await hybrid.site.bus.last(subjects.JOURNAL, control_key("ledger"))
        assert sent and in_force and on_record and sent.data == in_force.data == on_record.data


async def test_facts_come_down_with_where_they_come_from_and_only_canonical_ones_of_the_scope(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await running_memory.remember(hybrid.hub.bus, said("hearsay", "customer/1", uri="agent:x", authority=1))
        elsewhere = claim("other scope", subject="customer/1", uri="erp:1", authority=3)
        await running_memory.remember(hybrid.hub.bus, elsewhere, key=hybrid.erp)
        (theirs,) = await remember(hybrid, said("Hamburg", "customer/1"))
        (ours,) = await arrived(hybrid, "customer/1")
        fact = ours.fact
        assert (bytes(fact.value), ours.status, fact.source.uri) == (b'"Hamburg"', FactStatus.CURRENT, "hq:erp:1")
        assert (fact.source.authority, fact.asserted_by) == (3, "hq")
        assert (fact.evidence[0].stream, fact.evidence[0].subject) == ("hq/MEMORY", theirs.fact.id)
        assert fact.valid_from == theirs.fact.valid_from
        await until(lambda: everything_looked_at(hybrid))
        assert len(await hybrid.facts("customer/1")) == 1
        assert not await hybrid.facts("customer/1", claim("x").scope)


async def test_a_fact_of_the_hub_does_not_override_what_a_system_of_the_site_said(hybrid: Hybrid) -> None:
    people = {hybrid.erp: ("memory_source",)}
    await hybrid.site.site.bootstrap(hybrid.site.url, people)
    await running_memory.remember(hybrid.site.bus, said("Kiel", "customer/2", uri="erp:local"), key=hybrid.erp)
    async with hybrid.uplink():
        await remember(hybrid, said("Hamburg", "customer/2"))
        found = {each.fact.source.uri: each for each in await arrived(hybrid, "customer/2", 2)}
    assert found["erp:local"].status is FactStatus.CURRENT
    assert found["hq:erp:1"].status is FactStatus.CONTESTED


async def test_what_the_hub_takes_back_chooses_against_or_revokes_is_taken_back_at_the_site(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        (first,) = await remember(hybrid, said("Bonn", "customer/3"))
        await arrived(hybrid, "customer/3")
        await retract(hybrid.hub.bus, first.fact.id, key=hybrid.erp)
        await status_of(hybrid, "customer/3", FactStatus.RETRACTED)

        (old,) = await remember(hybrid, said("Ulm", "customer/4", uri="erp:4"))
        (new,) = await remember(hybrid, said("Trier", "customer/4", uri="erp:5"))
        slot = old.fact.slot
        choice = ResolveRequest(slot=slot, chosen=new.fact.id, seen=new.fact.version, reason="moved")
        await act(hybrid.hub.bus, "resolve", choice, hybrid.stella)
        await status_of(hybrid, "customer/4", FactStatus.RETRACTED)
        second = (await hybrid.facts("customer/4"))[1]
        assert (second.status, bytes(second.fact.value)) == (FactStatus.CURRENT, b'"Trier"')

        await remember(hybrid, said("Jena", "customer/5", uri="erp:bad"))
        await arrived(hybrid, "customer/5")
        await act(hybrid.hub.bus, "revoke", RevokeRequest(source="erp:bad", reason="wrong"), hybrid.stella)
        await status_of(hybrid, "customer/5", FactStatus.RETRACTED)
        await remember(hybrid, said("Gera", "customer/6", uri="erp:bad"))
        await status_of(hybrid, "customer/6", FactStatus.RETRACTED)


async def test_who_is_forgotten_at_the_hub_is_forgotten_at_the_site_when_it_is_linked_again(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await remember(hybrid, said("Unna", "customer/7"))
        await arrived(hybrid, "customer/7")
    wish = ForgetRequest(scope=SHARED, subject="customer/7", reason="asked for")
    over = running_memory.word("forget", wish, hybrid.stella, expires_s=1.0)
    await service.ask(hybrid.hub.bus, "memory", "forget", SignedRequest(signed=over), ChangeAnswer, timeout_s=20)
    await asyncio.sleep(1.1)
    with pytest.raises(ServiceError, match="expired"):
        await service.ask(hybrid.site.bus, "memory", "forget", SignedRequest(signed=over), ChangeAnswer)
    async with hybrid.uplink():

        async def is_gone() -> bool:
            return not await hybrid.facts("customer/7")

        await until(is_gone, 20)
    assert not [each for each in await stored(hybrid.site.bus, subjects.MEMORY) if b"Unna" in each.data]
    assert not [each for each in await stored(hybrid.hub.bus, subjects.MEMORY) if b"Unna" in each.data]


async def test_without_a_steward_of_the_site_what_was_forgotten_is_taken_back_and_said(
    hybrid: Hybrid,
) -> None:
    async with hybrid.uplink():
        await remember(hybrid, said("Werl", "customer/8"))
        await arrived(hybrid, "customer/8")
        wish = ForgetRequest(scope=SHARED, subject="customer/8")
        await act(hybrid.hub.bus, "forget", wish, hybrid.uwe)
        assert (await status_of(hybrid, "customer/8", FactStatus.RETRACTED)).reason.startswith(
            "at the hub: its subject"
        )

        async def is_said() -> bool:
            heard = await hybrid.heard()
            return heard is not None and "was forgotten at the hub" in heard.problem

        await until(is_said, 20)


@pytest.mark.parametrize("how", ["cut", "frozen", "hub killed"])
async def test_after_the_link_is_back_all_is_there_within_five_seconds(hybrid: Hybrid, how: str) -> None:
    subject = f"customer/{how.replace(' ', '-')}"
    async with hybrid.uplink():
        await until(lambda: has_told(hybrid))
        if how == "hub killed":
            await sent_and_said(hybrid, how, subject)
            async with hybrid.hub.bus_away():
                task = await hybrid.site.publish(f"during {how}")
                assert (await hybrid.site.outcome(task)).status == "completed"
            await hybrid.hub.bus.wait_connected(20)
        else:
            if how == "cut":
                await hybrid.wire.cut()
            else:
                hybrid.wire.freeze()
            await sent_and_said(hybrid, how, subject)
            task = await hybrid.site.publish(f"during {how}")
            assert (await hybrid.site.outcome(task)).status == "completed"
            await hybrid.wire.join()
        back = time.monotonic()
        await until(lambda: has_it_all(hybrid, how, subject), 20)
        assert time.monotonic() - back < CATCH_UP_S
    assert len(await hybrid.facts(subject)) == 1


async def sent_and_said(hybrid: Hybrid, how: str, subject: str) -> None:
    """At the hub, a bundle for the site and a fact."""
    await hybrid.send(hybrid.bundle(how), "--wait", "0")
    await remember(hybrid, said("Essen", subject))


async def has_it_all(hybrid: Hybrid, how: str, subject: str) -> bool:
    """Whether the site has both, and the hub every record of the site."""
    digest = BundleContents.read(hybrid.folder / "bundles" / how, "ledger").digest
    ours = (await hybrid.site.bus.api("STREAM.INFO.JOURNAL"))["state"]["messages"]
    async with hybrid.at_hub(hybrid.key) as hub:
        copy = subjects.site_stream(hybrid.name, subjects.JOURNAL)
        theirs = (await hub.api(f"STREAM.INFO.{copy}"))["state"]["messages"]
    return await hybrid.in_force() == digest and len(await hybrid.facts(subject)) == 1 and theirs >= ours


async def test_uplinks_that_are_killed_again_and_again_leave_nothing_out_and_do_nothing_twice(
    hybrid: Hybrid,
) -> None:
    count = 24
    before = len(await stored(hybrid.site.bus, subjects.JOURNAL, control_key("ledger")))
    async with hybrid.uplink() as first, hybrid.uplink("uplink-2") as second:

        async def say() -> None:
            for number in range(count):
                (fact,) = await remember(hybrid, said(f"city {number}", f"killed/{number}"))
                if number % 4 == 0:
                    await retract(hybrid.hub.bus, fact.fact.id, key=hybrid.erp)

        saying = asyncio.create_task(say())
        for number in range(4):
            child = (first, second)[number % 2]
            await hybrid.send(hybrid.bundle(f"killed-{number}"), "--wait", "0")
            child.ready.clear()
            os.kill(child.pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                await child.ready.wait()
        await saying
        await until(lambda: everything_looked_at(hybrid), 30)
    found = [await hybrid.facts(f"killed/{number}") for number in range(count)]
    assert [len(each) for each in found] == [1] * count
    assert [each[0].status is FactStatus.RETRACTED for each in found] == [n % 4 == 0 for n in range(count)]
    assert await hybrid.in_force() == BundleContents.read(hybrid.folder / "bundles" / "killed-3", "ledger").digest
    assert len(await stored(hybrid.site.bus, subjects.JOURNAL, control_key("ledger"))) == before + 4
    copied = await stored_at_hub(hybrid)
    originals = await stored(hybrid.site.bus)
    assert [message.data for message in copied] == [message.data for message in originals][: len(copied)]


async def stored_at_hub(hybrid: Hybrid) -> list[Any]:
    """The hub's copy of the site's journal."""
    async with hybrid.at_hub(hybrid.key) as hub:
        return list(await stored(hub, subjects.site_stream(hybrid.name, subjects.JOURNAL)))


async def test_what_is_given_again_from_the_first_on_changes_nothing(hybrid: Hybrid) -> None:
    before, in_force = len(await stored(hybrid.site.bus, subjects.MEMORY)), await hybrid.in_force()
    await typed(hybrid.hub, "bus", "site", f"{hybrid.key.path}.pub", "--facts", SHARED.text, "--again")
    async with hybrid.uplink():
        await until(lambda: everything_looked_at(hybrid), 40)
    assert len(await stored(hybrid.site.bus, subjects.MEMORY)) == before
    assert await hybrid.in_force() == in_force


async def refusal(hybrid: Hybrid, what: str, data: bytes) -> str:
    """Put something down for the site, as the hub's operator can; why the site did not take it."""
    seq = await hybrid.hub.bus.store(subjects.down(hybrid.name, what, "ledger"), data)

    async def is_told() -> bool:
        said = await told(hybrid)
        return said is not None and said.seen >= seq

    await until(is_told, 20)
    found = await told(hybrid)
    assert found is not None
    return found.refused


async def test_the_hub_cannot_have_anything_done_that_no_policy_admin_of_the_site_signed_for_it(hybrid: Hybrid) -> None:
    folder = hybrid.bundle("forged")
    contents = BundleContents.read(folder, "ledger")
    async with hybrid.uplink():
        await until(lambda: has_told(hybrid))
        first = await hybrid.send(hybrid.bundle("before"), "--wait", "20")
        second = await hybrid.send(hybrid.bundle("stands"), "--wait", "20")
        stands = await hybrid.in_force()
        assert stands == second["digest"]
        right = Activation(
            domain="ledger", digest=contents.digest, activated_at=now(), previous=stands, by="petra", site=hybrid.name
        )

        async def signed(key: Identity = hybrid.petra, **changes: Any) -> str:
            wanted = msgspec.structs.replace(right, **changes)
            return await refusal(hybrid, "active", bytes(sign(wanted, ACTIVATION_TYPE, key)))

        assert "not enrolled" in await refusal(hybrid, "bundle", bytes(sign(contents, BUNDLE_TYPE, hybrid.uwe)))
        whole = bytes(sign(contents, BUNDLE_TYPE, hybrid.petra))
        assert await refusal(hybrid, "bundle", whole[: len(whole) // 2])
        assert "publish the bundle first" in await signed()
        assert not await refusal_of_bundle(hybrid, whole)
        assert "not enrolled" in await signed(hybrid.uwe, by="uwe")
        assert "has not the role" in await signed(hybrid.stella, by="stella")
        assert "for no site" in await signed(site="")
        other = subjects.site_name(hybrid.other.public_key)
        assert f"for {other}" in await signed(site=other)
        assert "somebody changed it here meanwhile" in await signed(previous=first["digest"])
        assert "never replaces a newer one" in await signed(activated_at=right.activated_at - timedelta(days=1))
        for report in (first, second):  # what was in force once, sent again to the byte
            again = await hybrid.hub.bus.at(subjects.SITES, report["seq"])
            assert again is not None
            refused = await refusal(hybrid, "active", again.data)
            assert bool(refused) == (report is first)
        assert await hybrid.in_force() == stands
        on_record = await hybrid.site.bus.last(subjects.JOURNAL, control_key("ledger"))
        sent = await hybrid.hub.bus.at(subjects.SITES, second["seq"])
        assert on_record is not None and sent is not None and on_record.data == sent.data


async def refusal_of_bundle(hybrid: Hybrid, signed: bytes) -> str:
    """Why the site did not take a bundle; "" once it is on its shelf."""
    await hybrid.hub.bus.store(subjects.down(hybrid.name, "bundle", "ledger"), signed)
    await until(lambda: everything_looked_at(hybrid), 20)
    found = await stored(hybrid.site.bus, "KV_POLICY", "$KV.POLICY.bundle.ledger.*")
    return "" if signed in [message.data for message in found] else "it is not on the shelf"


async def test_what_was_changed_at_the_site_meanwhile_is_not_overridden_from_the_hub(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await until(lambda: everything_looked_at(hybrid), 20)
    local = hybrid.bundle("local")
    key = ("--key", str(hybrid.petra.path))
    await typed(hybrid.site, "policy", "publish", str(local), "--domain", "ledger", *key)
    digest = BundleContents.read(local, "ledger").digest
    await typed(hybrid.site, "policy", "activate", "ledger", digest, *key)
    await hybrid.send(hybrid.bundle("unaware"), "--wait", "0")
    async with hybrid.uplink():
        await until(lambda: everything_looked_at(hybrid), 20)
        assert await hybrid.in_force() == digest
        said = await told(hybrid)
        assert said is not None and "somebody changed it here meanwhile" in said.refused and said.digest == digest
        report = await hybrid.send(hybrid.bundle("aware"), "--wait", "20")  # it has told what is in force
        assert await hybrid.in_force() == report["digest"]


async def test_a_sites_key_has_what_is_meant_for_it_and_nothing_of_anothers(hybrid: Hybrid) -> None:
    async with hybrid.at_hub(hybrid.other, timeout_s=0.5) as hub:
        for stream in (subjects.SITES, subjects.MEMORY):
            for asked in (f"CONSUMER.INFO.{stream}.{hybrid.name}", f"STREAM.INFO.{stream}"):
                with pytest.raises(WorkmeshError, match="may not publish"):
                    await hub.api(asked)
            with pytest.raises(WorkmeshError):
                await hub.read(stream, 1, 10)
            with pytest.raises(WorkmeshError, match="may not publish"):
                pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{hybrid.name}"
                await hub.request(pull, b'{"batch":1,"no_wait":true}')
            with pytest.raises(WorkmeshError, match="may not publish"):
                await hub.api(f"CONSUMER.DELETE.{stream}.{subjects.site_name(hybrid.other.public_key)}")
        for subject in (
            subjects.told(hybrid.name, "ledger"),
            subjects.down(hybrid.name, "active", "ledger"),
            subjects.down(subjects.site_name(hybrid.other.public_key), "active", "ledger"),
            "fact.a.b.c",
            f"$JS.ACK.MEMORY.{hybrid.name}.1.1.1.1.1",
        ):
            before = await hybrid.hub.bus.api("STREAM.INFO.SITES")
            with pytest.raises(WorkmeshError, match="may not publish"):
                await hub.store(subject, b"{}")
            after = await hybrid.hub.bus.api("STREAM.INFO.SITES")
            assert after["state"]["last_seq"] == before["state"]["last_seq"]


LINKED = """
@id("half")
@reason("up to 50.00 nobody is asked")
permit (principal, action, resource) when { context.amount <= 5000 };

@id("linked")
@reason("up to 100.00 nobody is asked while the hub was heard in the last seconds")
permit (principal, action, resource)
when { context.amount > 5000 && context.amount <= 10000 && context has hub_silent_s && context.hub_silent_s <= 6 };

@id("cut-off")
@reason("the hub was not heard: a person at the site approves")
@approval("controller")
permit (principal, action == Action::"propose", resource)
when { context.amount > 5000 && context.amount <= 10000 && !(context has hub_silent_s && context.hub_silent_s <= 6) };

@id("cut-off-approved")
permit (principal, action == Action::"execute", resource)
when { context.amount > 5000 && context.amount <= 10000 && context.approvals.contains("controller") };
"""
LINKED_CASES = """
- {name: small, tool: ledger.post, amount: 100,
   facts: &f {frozen: false, amount: 1}, expect: {policies: [half], verdict: allow}}
- {name: linked, tool: ledger.post, amount: 8000, facts: *f, context: {hub_silent_s: 6},
   expect: {policies: [linked], verdict: allow}}
- {name: cut-off, tool: ledger.post, amount: 8000, facts: *f, context: {hub_silent_s: 7},
   expect: {policies: [cut-off], verdict: needs_approval}}
- {name: no-hub, tool: ledger.post, amount: 8000, facts: *f, expect: {policies: [cut-off], verdict: needs_approval}}
"""


def limited(hybrid: Hybrid) -> Path:
    """A bundle under which the site may do less by itself while it is cut off."""
    folder = hybrid.bundle("limited")
    (folder / "cases" / "ledger.yaml").write_text(LINKED_CASES)
    policies = folder / "ledger.cedar"
    policies.write_text(LINKED + policies.read_text().partition("};")[2])
    schema = folder / "schema.cedarschema"
    schema.write_text(schema.read_text().replace("currency: String,", "currency: String,\n    hub_silent_s?: Long,"))
    return folder


async def decision(hybrid: Hybrid, event: str) -> Decision:
    """What is decided on an entry of 80.00."""
    record = (await hybrid.site.record("decision", await hybrid.site.publish(event, amount=8000))).record
    assert isinstance(record, Decision)
    return record


async def test_a_site_that_is_cut_off_may_do_less_by_itself_until_it_is_linked_again(hybrid: Hybrid) -> None:
    async with hybrid.uplink() as child:
        report = await hybrid.send(limited(hybrid), "--wait", "20")
        await until(lambda: silent_under(hybrid, 4))
        await asyncio.sleep(1.1)  # every process has the bundle within a second: what is promised is the time
        linked = await decision(hybrid, "while-linked")
        assert (linked.bundle, linked.verdict, linked.steps[0].policies[0]) == (report["digest"], "allow", "linked")
        assert linked.hub_silent_s is not None and linked.hub_silent_s <= 6

        hybrid.wire.freeze()
        await until(lambda: silent_over(hybrid, 7), 30)
        cut = await decision(hybrid, "while-frozen")
        assert (cut.verdict, cut.steps[0].policies) == ("needs_approval", ("cut-off",))
        assert cut.hub_silent_s is not None and cut.hub_silent_s > 6
        task = cut.header.task_id
        await hybrid.site.waits(task)
        await hybrid.site.say(task, Word.APPROVE)
        assert (await hybrid.site.outcome(task)).status == "completed"
        explained = await typed(hybrid.site, "policy", "explain", task, "--json")
        assert f'"hub_silent_s":{cut.hub_silent_s}' in explained.replace(" ", "")
        small = await hybrid.site.publish("small-while-frozen", amount=4000)
        assert (await hybrid.site.outcome(small)).status == "completed"
        await hybrid.wire.join()
        await until(lambda: silent_under(hybrid, 4), 20)
        assert (await decision(hybrid, "linked-again")).verdict == "allow"

        os.kill(child.pid, signal.SIGSTOP)  # nobody says any more that the hub is heard
        try:
            await until(lambda: silent_over(hybrid, 7), 30)
            assert (await decision(hybrid, "uplink-stopped")).verdict == "needs_approval"
        finally:
            os.kill(child.pid, signal.SIGCONT)


async def silent_under(hybrid: Hybrid, seconds: float) -> bool:
    """Whether the hub was heard so lately."""
    heard = await hybrid.heard()
    return heard is not None and (now() - heard.at).total_seconds() < seconds


async def silent_over(hybrid: Hybrid, seconds: float) -> bool:
    """Whether it was not."""
    return not await silent_under(hybrid, seconds)


async def test_only_the_sites_own_uplink_says_that_the_hub_was_heard(hybrid: Hybrid) -> None:
    async def said_by(key: Identity, **changes: Any) -> None:
        heard = msgspec.structs.replace(Heartbeat(site=hybrid.name, at=now()), **changes)
        request = HeartbeatRequest(signed=sign(heard, LINK_TYPE, key))
        await service.ask(hybrid.site.bus, "policy", "heard", request, HeartbeatAnswer)

    for key, changes, why in (
        (hybrid.other, {}, "not enrolled"),
        (hybrid.petra, {}, "has not the role"),
        (hybrid.key, {"site": "UOTHER"}, "this site is"),
        (hybrid.key, {"at": now() + timedelta(hours=1)}, "ahead of now"),
        (hybrid.key, {"at": now() - timedelta(hours=1)}, "later than"),
    ):
        with pytest.raises(ServiceError, match=why):
            await said_by(key, **changes)
