"""Memory over the bus: what is said is judged, found, explained, taken back and forgotten, and no update is lost."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial

import msgspec
import pytest

from memory_service.view import FactView
from mesh import service, subjects
from mesh.bus import Bus
from mesh.facts import FactStatus, Judged, Level, Scope, subject_token
from mesh.memory import (
    ChangeAnswer,
    Changed,
    FactsPage,
    FactsRequest,
    ForgetRequest,
    Grounds,
    ResolveRequest,
    RevokeRequest,
    StandingRequest,
    WhyRequest,
)
from mesh.records import Causation
from mesh.service import ServiceError
from tests.memory_service.claims import SCOPE, SLOT, claim, day, many
from tests.memory_service.running_memory import Site, act, history, recall, remember, retract, until


async def judged(bus: Bus, *ids: str) -> list[Judged]:
    """What is made of these facts now."""
    return await service.ask(bus, "memory", "standing", StandingRequest(ids=ids), list[Judged])


async def statuses(bus: Bus, *ids: str) -> list[FactStatus]:
    """The statuses of these facts now."""
    return [item.status for item in await judged(bus, *ids)]


def reads_to(view: FactView, seq: int) -> bool:
    """Whether a copy has taken in what is stored up to there."""
    return view.projection.seq >= seq


async def contested(bus: Bus) -> list[str]:
    """The ids of contested facts in the scope of the tests."""
    request = FactsRequest(scope=SCOPE, status=FactStatus.CONTESTED)
    return [item.fact.id for item in (await service.ask(bus, "memory", "facts", request, FactsPage)).facts]


async def test_a_fact_is_answered_with_id_version_status_source_and_score(site: Site, operator: Bus) -> None:
    async with site.memory():
        answer = await remember(operator, claim("Main St 1", uri="crm:7"), by="reader")
        (found,) = await recall(operator, "where is main street", subject="customer/7")
        fact = answer.facts[0].fact
        assert (found.id, found.version, found.status, found.source) == (fact.id, 1, FactStatus.CURRENT, "crm:7")
        assert found.score > 0 and fact.asserted_by == "reader" and answer.added == 1
        assert (await recall(operator, subject="customer/7", predicate="address"))[0].text == fact.text


async def test_what_is_contested_or_superseded_is_never_answered_as_current(site: Site, operator: Bus) -> None:
    async with site.memory():
        key = site.person("bob")
        await remember(operator, claim("Main St 1", uri="mail:1"))
        await remember(operator, claim("Oak Ave 2", uri="letter:2", authority=2), key=key)
        await remember(operator, claim("Elm Rd 3", uri="mail:3"))
        for question in ("main st address", "oak ave", "elm rd address", ""):
            assert [bytes(fact.value) for fact in await recall(operator, question)] == [b'"Oak Ave 2"']
        assert await recall(operator, "main elm") == []
        assert len(await contested(operator)) == 1


async def test_scopes_never_meet(site: Site, operator: Bus) -> None:
    other = Scope(domain="retail", tenant="acme")
    async with site.memory():
        await remember(operator, claim("Main St 1"))
        await remember(operator, msgspec.structs.replace(claim("Oak Ave 2", uri="b"), scope=other))
        assert [f.scope for f in await recall(operator, "st ave address")] == [SCOPE.text]
        assert [f.scope for f in await recall(operator, "st ave address", scope=other)] == [other.text]


async def test_claims_of_one_request_are_kept_all_or_none(site: Site, operator: Bus) -> None:
    async with site.memory():
        good = [claim(f"street {n}", subject=f"customer/{n}") for n in range(20)]
        with pytest.raises(ServiceError, match=r"is no integer: Expected `int`"):
            await remember(operator, *good, claim("x", subject="customer/99", type="integer"))
        assert await recall(operator, limit=50) == []
        answer = await remember(operator, *good, *good)
        assert answer.added == 20 and [item.fact.subject for item in answer.facts[20:]] == [c.subject for c in good]


async def test_asking_again_writes_nothing(site: Site, operator: Bus) -> None:
    async with site.memory() as view:
        first = await remember(operator, claim("Main St 1"))
        seq = view.projection.seq
        again = await remember(operator, claim("Main St 1"))
        assert again.added == 0 and again.facts[0].fact.id == first.facts[0].fact.id and view.projection.seq == seq


async def test_copies_that_write_one_slot_at_once_lose_nothing(site: Site, operator: Bus) -> None:
    async with site.memory("a") as a, site.memory("b") as b, site.memory("c") as c:
        views = (a, b, c)
        claims = [many(f"item {n}", uri=f"src:{n}") for n in range(40)]
        answers = await asyncio.gather(*(remember(operator, item) for item in claims))
        versions = sorted(answer.facts[0].fact.version for answer in answers)
        assert versions == list(range(1, 41))
        for view in views:  # a copy may be a moment behind the one that has written
            await until(partial(reads_to, view, 40))
        assert len(await recall(operator, limit=100)) == 40


async def test_of_writers_that_expect_the_same_version_one_wins(site: Site, operator: Bus) -> None:
    async with site.memory("a"), site.memory("b"):
        tries = [remember(operator, claim(f"house {n}", uri=f"src:{n}", expected=0)) for n in range(8)]
        ends = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(end, BaseException) for end in ends) == 1
        assert all("stands at version 1" in str(end) for end in ends if isinstance(end, ServiceError))


async def test_authority_must_be_signed_for(site: Site, operator: Bus) -> None:
    async with site.memory():
        with pytest.raises(ServiceError, match="needs a signature"):
            await remember(operator, claim("x", authority=2))
        with pytest.raises(ServiceError, match="bob may not say what is canonical"):
            await remember(operator, claim("x", uri="erp:7", authority=3), key=site.person("bob"))
        with pytest.raises(ServiceError, match="erp may not say what is canonical"):
            await remember(operator, claim("x", uri="crm:7", authority=3), key=site.person("erp"))
        answer = await remember(operator, claim("x", uri="erp:7", authority=3), key=site.person("erp"), by="ignored")
        assert answer.facts[0].fact.asserted_by == "erp"


async def test_a_canonical_fact_changes_by_its_source_or_a_steward_alone(site: Site, operator: Bus) -> None:
    async with site.memory():
        (erp, anna, bob) = (site.person(name) for name in ("erp", "anna", "bob"))
        canon = (await remember(operator, claim("Main St 1", uri="erp:7", authority=3), key=erp)).facts[0].fact.id
        doubt = (await remember(operator, claim("Oak Ave 2", uri="mail:1", authority=2), key=bob)).facts[0].fact.id
        assert await statuses(operator, canon, doubt) == [FactStatus.CURRENT, FactStatus.CONTESTED]
        with pytest.raises(ServiceError, match="is canonical: only its source"):
            await retract(operator, canon, key=bob)
        resolution = ResolveRequest(slot=SLOT, chosen=doubt, seen=2, reason="the customer showed a letter")
        with pytest.raises(ServiceError, match="bob may not resolve"):
            await act(operator, "resolve", resolution, bob)
        await act(operator, "resolve", resolution, anna)
        assert await statuses(operator, canon, doubt) == [FactStatus.SUPERSEDED, FactStatus.CURRENT]
        assert await contested(operator) == []
        assert [line.what for line in await history(operator)] == ["asserted", "asserted", f"chose {doubt}"]


async def test_a_choice_counts_for_what_the_person_saw(site: Site, operator: Bus) -> None:
    async with site.memory():
        one = (await remember(operator, claim("a", uri="a", valid_from=day(0)))).facts[0].fact.id
        await remember(operator, claim("b", uri="b", valid_from=day(0)))
        await remember(operator, claim("c", uri="c", valid_from=day(0)))
        with pytest.raises(ServiceError, match="stands at version 3, not at the 2 that you saw"):
            await act(operator, "resolve", ResolveRequest(slot=SLOT, chosen=one, seen=2), site.person("anna"))


async def test_a_word_counts_once_and_for_what_it_says(site: Site, operator: Bus) -> None:
    from mesh.memory import RememberRequest, RetractRequest, SignedRequest
    from tests.memory_service.running_memory import word

    async with site.memory():
        anna = site.person("anna")
        said = word("revoke", RevokeRequest(source="poison:1"), anna)
        await service.ask(operator, "memory", "revoke", SignedRequest(signed=said), ChangeAnswer)
        with pytest.raises(ServiceError, match="was said before"):
            await service.ask(operator, "memory", "revoke", SignedRequest(signed=said), ChangeAnswer)
        with pytest.raises(ServiceError, match="signed 'revoke', not 'forget'"):
            await service.ask(operator, "memory", "forget", SignedRequest(signed=said), ChangeAnswer)
        other = RememberRequest(claims=(claim("x", authority=2),), by="anna")
        signed = word("remember", msgspec.structs.replace(other, claims=(claim("y", authority=2),)), anna)
        with pytest.raises(ServiceError, match="signed another remember"):
            await remember_signed(operator, other, signed)
        late = word("remember", other, anna, expires_s=-1)
        with pytest.raises(ServiceError, match="expired"):
            await remember_signed(operator, other, late)
        # A word that was overheard does not bring back what was retracted since.
        good = word("remember", other, anna)
        await remember_signed(operator, other, good)
        fact = (await recall(operator))[0].id
        gone = RetractRequest(ids=(fact,), by="anna")
        await retract(operator, fact, key=anna)
        with pytest.raises(ServiceError, match="was said before"):
            await remember_signed(operator, other, good)
        assert gone.ids == (fact,) and await recall(operator) == []


async def remember_signed(bus: Bus, request: msgspec.Struct, signed: msgspec.Raw) -> None:
    """Remember with this very envelope."""
    await service.ask(bus, "memory", "remember", msgspec.structs.replace(request, signed=signed), msgspec.Raw)


async def test_what_rests_on_a_retracted_fact_is_contested_at_any_distance(site: Site, operator: Bus) -> None:
    async with site.memory():
        root = (await remember(operator, claim("VIP", predicate="tier"))).facts[0].fact.id
        near = (await remember(operator, claim("free", predicate="shipping", derived_from=(root,)))).facts[0].fact.id
        far = (await remember(operator, claim("low", predicate="margin", derived_from=(near,)))).facts[0].fact.id
        apart = (await remember(operator, claim("Main St 1"))).facts[0].fact.id
        await retract(operator, root)
        expected = [FactStatus.RETRACTED, FactStatus.CONTESTED, FactStatus.CONTESTED, FactStatus.CURRENT]
        assert await statuses(operator, root, near, far, apart) == expected
        late = (await remember(operator, claim("gold", predicate="badge", derived_from=(far,)))).facts[0]
        assert late.status is FactStatus.CONTESTED and "rests on" in late.reason


async def test_a_revoked_source_takes_all_that_it_said_and_says(site: Site, operator: Bus) -> None:
    async with site.memory():
        good = (await remember(operator, claim("Main St 1", uri="crm:7"))).facts[0].fact.id
        bad = [
            (await remember(operator, claim(f"street {n}", subject=f"customer/{n}", uri="poison:1"))).facts[0].fact.id
            for n in range(7, 12)
        ]
        child = (await remember(operator, claim("far", predicate="zone", derived_from=(bad[0],)))).facts[0].fact.id
        answer = await act(operator, "revoke", RevokeRequest(source="poison:1", reason="stolen"), site.person("anna"))
        assert answer.changed == 6
        assert await statuses(operator, *bad, child) == [FactStatus.RETRACTED] * 6
        assert await statuses(operator, good) == [FactStatus.CURRENT]  # it stands again
        after = await remember(operator, claim("street", subject="customer/99", uri="poison:1"))
        assert after.facts[0].status is FactStatus.RETRACTED and "revoked its source" in after.facts[0].reason


async def test_as_of_both_times(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, claim("Main St 1", valid_from=day(0)))
        known = (await remember(operator, claim("Oak Ave 2", valid_from=day(100)))).facts[0].fact.recorded_at
        await remember(operator, claim("Elm Rd 3", valid_from=day(50), uri="late:1"))

        async def at(valid: float, known_at: object = None) -> list[bytes]:
            found = await recall(operator, valid_at=day(valid), known_at=known_at)
            return [bytes(fact.value) for fact in found]

        assert (
            await at(49) == [b'"Main St 1"'] and await at(60) == [b'"Elm Rd 3"'] and await at(101) == [b'"Oak Ave 2"']
        )
        assert await at(60, known) == [b'"Main St 1"']  # what was said later was not known then
        words = await recall(operator, "main st", valid_at=day(10))
        assert [bytes(fact.value) for fact in words] == [b'"Main St 1"']


async def test_why_goes_down_to_the_records(site: Site, operator: Bus) -> None:
    async with site.memory():
        record = Causation(stream="JOURNAL", subject="task.outcome.retail.abc.-", seq=12)
        root = (await remember(operator, claim("VIP", predicate="tier", evidence=(record,)))).facts[0].fact.id
        fact = (await remember(operator, claim("free", predicate="shipping", derived_from=(root,)))).facts[0].fact.id
        grounds = await service.ask(operator, "memory", "why", WhyRequest(id=fact), Grounds)
        assert grounds.judged.fact.id == fact and grounds.grounds[0].judged.fact.evidence == (record,)
        stands = await operator.at(subjects.MEMORY, grounds.grounds[0].seq)
        assert stands is not None and root.encode() in stands.data
        with pytest.raises(ServiceError, match="no fact 'nothing-1'"):
            await service.ask(operator, "memory", "why", WhyRequest(id="nothing-1"), Grounds)


async def test_forgetting_takes_a_subject_out_of_everything(site: Site, operator: Bus) -> None:
    async with site.memory("a") as a, site.memory("b") as b:
        secret = "Quetzalcoatl Boulevard 77"
        told: list[str] = []

        async def hear(message: object) -> None:
            told.append(message.subject)  # type: ignore[attr-defined]

        async with site.bus("planner") as listener:
            await listener.client.subscribe("memory.changed.>", cb=hear)
            await listener.settle()
            gone = (await remember(operator, claim(secret), claim("Q", predicate="nick"))).facts[0].fact.id
            child = (await remember(operator, claim("x", subject="zone/9", derived_from=(gone,)))).facts[0].fact.id
            await remember(operator, claim("stays", subject="customer/8"))
            answer = await act(
                operator, "forget", ForgetRequest(scope=SCOPE, subject="customer/7"), site.person("anna")
            )
            assert answer.changed == 2
            await until(lambda: b.projection.seq >= answer.seq and a.projection.seq >= answer.seq)
            whole = subjects.memory_changed(SCOPE.token, subject_token(SCOPE, "customer/7"))
            await until(lambda: whole in told)
        assert await judged(operator, gone) == []
        assert await statuses(operator, child) == [FactStatus.CONTESTED]
        assert [fact.subject for fact in await recall(operator, "boulevard quetzalcoatl stays")] == ["customer/8"]
        with pytest.raises(ServiceError, match="nothing is known"):
            await history(operator)

        def holding() -> list[str]:
            files = [file for name in ("a", "b") for file in site.view_file(name).parent.iterdir()]
            return [str(file) for file in files if b"Quetzalcoatl" in file.read_bytes()]

        await until(lambda: not holding())  # the copy that was not asked does it by itself
        left = await operator.read(subjects.MEMORY, 1, 100)
        assert not [message for message in left if b"Quetzalcoatl" in message.data]
    on_disk = [file for file in (site.folder / "nats").rglob("*") if file.is_file()]
    assert on_disk and not [file for file in on_disk if b"Quetzalcoatl" in file.read_bytes()]


async def test_what_was_forgotten_can_be_learned_anew(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, claim("Main St 1"))
        await act(operator, "forget", ForgetRequest(scope=SCOPE, subject="customer/7"), site.person("anna"))
        assert (await remember(operator, claim("Oak Ave 2"))).facts[0].status is FactStatus.CURRENT
        with pytest.raises(ServiceError, match="nothing is known of 'customer/70'"):
            await act(operator, "forget", ForgetRequest(scope=SCOPE, subject="customer/70"), site.person("anna"))


async def test_an_erasure_that_was_cut_short_is_finished_by_whoever_starts_next(site: Site, operator: Bus) -> None:
    async with site.memory("a"):
        await remember(operator, claim("Main St 1"), claim("M", predicate="nick"))
        erased = ForgetRequest(scope=SCOPE, subject="customer/7")
        async with site.bus("memory") as bus:  # the record of it is there, its writer is dead
            from mesh.clock import now
            from mesh.facts import Erased

            tokens = SCOPE.token, subject_token(SCOPE, erased.subject)
            event = Erased(at=now(), by="anna", scope_token=tokens[0], subject_token=tokens[1], events=2)
            await bus.request(subjects.fact(*tokens, "-"), msgspec.json.encode(event))
    async with site.memory("b"):

        async def left() -> int:
            return len(await operator.read(subjects.MEMORY, 1, 100))

        async with asyncio.timeout(15):
            while await left() > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await recall(operator) == []


async def test_a_view_made_anew_from_the_stream_gives_the_same_answers(site: Site, operator: Bus) -> None:
    async with site.memory("a") as view:
        erp = site.person("erp")
        await remember(operator, *(claim(f"house {n}", subject=f"customer/{n}", uri="crm:1") for n in range(30)))
        await remember(operator, *(claim(f"flat {n}", subject=f"customer/{n}", uri="mail:1") for n in range(0, 30, 2)))
        for n in range(3):
            said = claim(f"villa {n}", subject=f"customer/{n}", uri="erp:1", authority=3)
            await remember(operator, said, key=erp)
        await retract(operator, (await recall(operator, subject="customer/8"))[0].id)
        await act(operator, "revoke", RevokeRequest(source="mail:1"), site.person("anna"))
        await act(operator, "forget", ForgetRequest(scope=SCOPE, subject="customer/5"), site.person("anna"))
        await until(lambda: view.table.unswept() == [])
        tables = ("fact", "slot", "mark", "rests", "revoked", "used_word")
        with closing(sqlite3.connect(site.view_file("a"))) as database:
            before = {name: sorted(database.execute(f"SELECT * FROM {name}").fetchall()) for name in tables}
        answers = [await recall(operator, query, limit=50) for query in ("", "house 3", "villa flat 4")]
    async with site.memory("fresh"):
        with closing(sqlite3.connect(site.view_file("fresh"))) as database:
            after = {name: sorted(database.execute(f"SELECT * FROM {name}").fetchall()) for name in tables}
        assert after == before
        again = [await recall(operator, query, limit=50) for query in ("", "house 3", "villa flat 4")]
        assert [[f.id for f in facts] for facts in again] == [[f.id for f in facts] for facts in answers]


async def test_a_change_is_told_with_its_sequence(site: Site, operator: Bus) -> None:
    heard: list[tuple[str, int]] = []

    async def hear(message: object) -> None:
        seq = msgspec.json.decode(message.data, type=Changed).seq  # type: ignore[attr-defined]
        heard.append((message.subject, seq))  # type: ignore[attr-defined]

    async with site.memory() as view, site.bus("planner") as bus:
        await bus.client.subscribe("memory.changed.>", cb=hear)
        await bus.settle()
        await remember(operator, claim("Main St 1"))
        await until(lambda: bool(heard))
        assert heard == [(subjects.memory_changed(*SLOT.tokens), view.projection.seq)]


async def test_a_token_budget_bounds_the_texts_of_an_answer(site: Site, operator: Bus) -> None:
    async with site.memory():
        texts = [claim(f"{n} " + "word " * 50, subject=f"note/{n}") for n in range(10)]
        await remember(operator, *texts)
        assert len(await recall(operator, limit=10)) == 10
        assert 1 <= len(await recall(operator, limit=10, token_budget=150)) <= 3


async def test_pages_hold_every_fact_once(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, *(claim(f"x{n}", subject=f"customer/{n % 9}", predicate=f"p{n}") for n in range(60)))
        found: list[str] = []
        request = FactsRequest(scope=SCOPE, limit=7)
        while True:
            page = await service.ask(operator, "memory", "facts", request, FactsPage)
            found += [item.fact.id for item in page.facts]
            if page.next is None:
                break
            request = msgspec.structs.replace(request, after=page.next)
        assert len(found) == len(set(found)) == 60


async def test_bad_claims_are_refused_with_the_way_out(site: Site, operator: Bus) -> None:
    async with site.memory():
        cases = [
            (claim("x", subject=""), "the subject is empty"),
            (claim("x", subject="customer/"), "ends in '/'"),
            (claim("x", uri=" "), "has no source.uri"),
            (claim("  "), "is empty: retract"),
            (claim("2026-01-01T00:00:00", type="time"), "without a zone"),
            (claim(12, type="decimal"), "is no decimal"),
            (claim({"amount": "1"}, type="money"), "is no money"),
            (claim("x", valid_from=day(2), valid_to=day(2)), "is not after valid_from"),
            (claim("x", derived_from=("nothing-1",)), "rests on 'nothing-1', unknown here"),
            (claim("x" * 40_000), "keep a reference"),
        ]
        for wrong, reason in cases:
            with pytest.raises(ServiceError, match=reason):
                await remember(operator, wrong)
        session = Scope(level=Level.SESSION, domain="retail")
        with pytest.raises(ServiceError, match="name a session"):
            await recall(operator, scope=session)
