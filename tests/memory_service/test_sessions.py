"""Facts of a session: the same rules, in a bucket whose values end, in no stream."""

import asyncio

import msgspec
import pytest

from mesh import service, subjects
from mesh.bus import Bus
from mesh.facts import Claim, FactStatus, Judged, Level, Scope
from mesh.memory import FactsPage, FactsRequest, ForgetRequest, ResolveRequest, StandingRequest
from mesh.service import ServiceError
from tests.memory_service.claims import claim, day, many
from tests.memory_service.running_memory import Site, act, history, recall, remember, retract

SESSION = Scope(level=Level.SESSION, domain="retail", session="chat-1")
OTHER = Scope(level=Level.SESSION, domain="retail", session="chat-2")


def here(said: Claim, scope: Scope = SESSION) -> Claim:
    """The claim, of a session."""
    return msgspec.structs.replace(said, scope=scope)


async def test_a_session_remembers_judges_and_finds(site: Site, operator: Bus) -> None:
    async with site.memory():
        old = await remember(operator, here(claim("wants a refund", predicate="wish", uri="chat:1")))
        new = await remember(operator, here(claim("wants an exchange", predicate="wish", uri="chat:2")))
        await remember(operator, here(claim("blue shoes", predicate="item")))
        await remember(operator, here(claim("elsewhere"), OTHER))
        found = await recall(operator, "exchange or refund", scope=SESSION)
        assert [bytes(fact.value) for fact in found] == [b'"wants an exchange"'] and found[0].score == 1.0
        assert len(await recall(operator, scope=SESSION)) == 2 and len(await recall(operator, scope=OTHER)) == 1
        ids = (old.facts[0].fact.id, new.facts[0].fact.id)
        judged = await service.ask(operator, "memory", "standing", StandingRequest(ids=ids), list[Judged])
        assert [item.status for item in judged] == [FactStatus.SUPERSEDED, FactStatus.CURRENT]


async def test_a_session_leaves_no_trace_in_the_stream_and_ends_with_the_bucket(site: Site, operator: Bus) -> None:
    async with site.memory(), site.bus("admin") as admin:
        await remember(operator, here(claim("Main St 1")))
        assert await operator.read(subjects.MEMORY, 1, 10) == []
        config = (await admin.api("STREAM.INFO.KV_SESSION"))["config"]
        assert config["max_age"] > 0
        answer = await admin.api("STREAM.UPDATE.KV_SESSION", config | {"max_age": 10**9, "duplicate_window": 10**9})
        assert "error" not in answer
        async with asyncio.timeout(10):
            while await recall(operator, scope=SESSION):  # noqa: ASYNC110 - the server's clock ends it
                await asyncio.sleep(0.05)


async def test_copies_that_write_one_slot_of_a_session_lose_nothing(site: Site, operator: Bus) -> None:
    async with site.memory("a"), site.memory("b"):
        said = [here(many(f"item {n}", uri=f"chat:{n}")) for n in range(20)]
        await asyncio.gather(*(remember(operator, item) for item in said))
        assert len(await recall(operator, scope=SESSION, limit=50)) == 20


async def test_a_fact_of_a_session_is_retracted_and_forgotten(site: Site, operator: Bus) -> None:
    async with site.memory():
        wrong = (await remember(operator, here(claim("Main St 1")))).facts[0].fact.id
        assert (await retract(operator, wrong)).facts[0].status is FactStatus.RETRACTED
        assert await recall(operator, scope=SESSION) == []
        wish = ForgetRequest(scope=SESSION, subject="customer/7")
        assert (await act(operator, "forget", wish, site.person("anna"))).changed == 1
        request = FactsRequest(scope=SESSION, status=None)
        assert (await service.ask(operator, "memory", "facts", request, FactsPage)).facts == ()
        left = await operator.read("KV_SESSION", 1, 100)
        assert not [message for message in left if b"Main St" in message.data]


async def test_contradictions_in_a_session_are_shown(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(
            operator, here(claim("a", uri="a", valid_from=day(0))), here(claim("b", uri="b", valid_from=day(0)))
        )
        request = FactsRequest(scope=SESSION, status=FactStatus.CONTESTED)
        assert len((await service.ask(operator, "memory", "facts", request, FactsPage)).facts) == 2
        assert await recall(operator, scope=SESSION) == []


async def test_what_a_session_does_not_keep_is_refused_by_name(site: Site, operator: Bus) -> None:
    async with site.memory():
        fact = (await remember(operator, here(claim("x")))).facts[0].fact
        with pytest.raises(ServiceError, match="a session keeps no history"):
            await history(operator, fact.slot)
        with pytest.raises(ServiceError, match="a session keeps no choice"):
            await act(operator, "resolve", ResolveRequest(slot=fact.slot, chosen=fact.id, seen=1), site.person("anna"))
        with pytest.raises(ServiceError, match="make it two"):
            await remember(operator, claim("x"), here(claim("x")))
