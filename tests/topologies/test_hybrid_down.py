"""What comes down from a hub: bundles as a policy admin signed them, and facts; through cuts, kills and forgeries."""

import asyncio
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
from mesh.activation import Activation, active_key, control_key, standing
from mesh.clock import now
from mesh.downlink import Told
from mesh.facts import Claim, Fact, FactStatus, Judged
from mesh.identity import Identity
from mesh.link import NEVER_S, Heartbeat, HeartbeatAnswer, HeartbeatRequest
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
from tests.topologies.hybrid import SHARED, Hybrid, hybrid_in

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
    """Whether nothing waits at the hub for the site."""
    for stream in (subjects.SITES, subjects.MEMORY):
        info = await hybrid.hub.bus.api(f"CONSUMER.INFO.{stream}.{hybrid.name}")
        if info["num_pending"] or info["num_ack_pending"]:
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
        await running_memory.remember(hybrid.hub.bus, claim("other scope", subject="customer/1", uri="erp:1", authority=3),
                                      key=hybrid.erp)  # fmt: skip
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
        await act(hybrid.hub.bus, "resolve", choice, hybrid.anna)
        await status_of(hybrid, "customer/4", FactStatus.RETRACTED)
        second = (await hybrid.facts("customer/4"))[1]
        assert (second.status, bytes(second.fact.value)) == (FactStatus.CURRENT, b'"Trier"')

        await remember(hybrid, said("Jena", "customer/5", uri="erp:bad"))
        await arrived(hybrid, "customer/5")
        await act(hybrid.hub.bus, "revoke", RevokeRequest(source="erp:bad", reason="wrong"), hybrid.anna)
        await status_of(hybrid, "customer/5", FactStatus.RETRACTED)
        await remember(hybrid, said("Gera", "customer/6", uri="erp:bad"))
        await status_of(hybrid, "customer/6", FactStatus.RETRACTED)


async def test_who_is_forgotten_at_the_hub_is_forgotten_at_the_site_though_the_word_is_long_over(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await remember(hybrid, said("Unna", "customer/7"))
        await arrived(hybrid, "customer/7")
    wish = ForgetRequest(scope=SHARED, subject="customer/7", reason="asked for")
    over = running_memory.word("forget", wish, hybrid.anna, expires_s=1.0)
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
