"""Memory over the bus: what is remembered is recalled, what is forgotten is not, and no update is lost."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import msgspec
import pytest

from memory_service.commands import all_facts
from memory_service.requests import FactsPage, FactsRequest
from memory_service.store import FactStore
from memory_service.versions import remembered
from mesh import service, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.facts import FactEvent, FactStatus, RecalledFact, RememberRequest
from mesh.journal import Committer, Message, committing
from mesh.service import ServiceError
from tests.memory_service.running_memory import Site, forget, history, provenance, recall, remember, until

SCOPE = "playbook/retail.return"


async def test_what_is_remembered_is_recalled_by_its_key(site: Site, operator: Bus) -> None:
    async with site.memory():
        fact = await remember(operator, SCOPE, "limit", "Returns over 500 need a manager", source="policy.pdf")
        found = await recall(operator, SCOPE, key="limit")
    expected = RecalledFact(
        id=fact.id, scope=SCOPE, key="limit", text="Returns over 500 need a manager", version=1, source="policy.pdf"
    )
    assert found == [expected]


async def test_a_change_is_the_next_version_and_stands_in_place_of_the_last(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "limit", "the limit is 500")
        changed = await remember(operator, SCOPE, "limit", "the limit is 800")
        found = await recall(operator, SCOPE, "limit")
        versions = await history(operator, SCOPE, "limit")
    assert changed.version == 2
    assert [fact.text for fact in found] == ["the limit is 800"]
    assert [(fact.version, fact.text) for fact in versions] == [(1, "the limit is 500"), (2, "the limit is 800")]


async def test_remembering_what_already_stands_writes_nothing(site: Site, operator: Bus) -> None:
    async with site.memory():
        first = await remember(operator, SCOPE, "limit", "500", value=msgspec.Raw(b'{"a": 1, "b": [2]}'))
        again = await remember(operator, SCOPE, "limit", "500", value=msgspec.Raw(b'{"b":[2],"a":1}'))
        versions = await history(operator, SCOPE, "limit")
    assert again == first
    assert versions == [first]


async def test_a_stale_count_leaves_what_stands(site: Site, operator: Bus) -> None:
    async with site.memory():
        newer = await remember(operator, SCOPE, "outcomes", "20 completed", as_of=20)
        same = await remember(operator, SCOPE, "outcomes", "twenty completed", as_of=20)
        older = await remember(operator, SCOPE, "outcomes", "10 completed", as_of=10)
        newest = await remember(operator, SCOPE, "outcomes", "30 completed", as_of=30)
    assert same == older == newer
    assert (newest.version, newest.text) == (2, "30 completed")


async def test_a_forgotten_fact_is_never_recalled_and_its_history_says_who_forgot_it(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "secret", "the customer lives in Bonn", value=msgspec.Raw(b'"Bonn"'))
        gone = await forget(operator, SCOPE, "secret", person="ada")
        by_key = await recall(operator, SCOPE, key="secret")
        by_words = await recall(operator, SCOPE, "customer Bonn")
        newest = await recall(operator, "/")
        listed = await all_facts(operator, SCOPE)
        versions = await history(operator, SCOPE, "secret")
    assert (gone.status, gone.version, gone.text, bytes(gone.value)) == (FactStatus.FORGOTTEN, 2, "", b"null")
    assert by_key == by_words == newest == []
    assert listed == []
    assert [(fact.status, fact.text, fact.provenance.person) for fact in versions] == [
        (FactStatus.CURRENT, "", ""),
        (FactStatus.FORGOTTEN, "", "ada"),
    ]
    with closing(sqlite3.connect(site.view_file())) as database:
        assert database.execute("SELECT count(*) FROM fact").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM words").fetchone() == (0,)


async def test_forgetting_twice_is_forgetting_once_and_needs_a_fact(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "secret", "text")
        first = await forget(operator, SCOPE, "secret")
        assert await forget(operator, SCOPE, "secret") == first
        with pytest.raises(ServiceError, match="nothing to forget"):
            await forget(operator, SCOPE, "unknown")


async def test_a_stale_count_does_not_bring_a_forgotten_fact_back(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "outcomes", "20 completed", as_of=20)
        gone = await forget(operator, SCOPE, "outcomes")
        assert await remember(operator, SCOPE, "outcomes", "20 completed", as_of=20) == gone
        assert await recall(operator, SCOPE) == []
        back = await remember(operator, SCOPE, "outcomes", "21 completed", as_of=21)
    assert (back.version, back.status) == (3, FactStatus.CURRENT)


async def test_a_prefix_recalls_the_scopes_under_it_and_no_others(site: Site, operator: Bus) -> None:
    async with site.memory():
        for scope in ("tool/a", "tool/a/b", "tool", "tools/a", "tool0"):
            await remember(operator, scope, "name", f"a fact about {scope}")
        under = await recall(operator, "tool/")
        by_words = await recall(operator, "tool/", "fact")
        by_key = await recall(operator, "tool/", key="name")
        exact = await recall(operator, "tool/a")
        everything = await recall(operator, "/")
    assert [fact.scope for fact in under] == ["tool/a/b", "tool/a"], "newest first"
    assert {fact.scope for fact in by_words} == {fact.scope for fact in by_key} == {"tool/a", "tool/a/b"}
    assert [fact.scope for fact in exact] == ["tool/a"]
    assert len(everything) == 5


async def test_words_find_the_best_facts_first_whatever_their_case_and_accents(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "a", "Café owners return kettles, and kettles again")
        await remember(operator, SCOPE, "b", "One of the many things that people sometimes return is a kettles set")
        await remember(operator, SCOPE, "c", "Lamps are exchanged")
        kettles = await recall(operator, SCOPE, "KETTLES?")
        accents = await recall(operator, SCOPE, "cafe\N{COMBINING ACUTE ACCENT} lamps")
        nothing = await recall(operator, SCOPE, "!!! --")
        most = await recall(operator, SCOPE, "kettles", limit=1)
    assert [fact.key for fact in kettles] == ["a", "b"]
    assert kettles[0].score > kettles[1].score > 0
    assert {fact.key for fact in accents} == {"a", "c"}
    assert nothing == []
    assert most == kettles[:1]


async def test_two_copies_that_write_one_fact_lose_no_update(site: Site, operator: Bus) -> None:
    async with site.memory("memory-1") as one, site.memory("memory-2") as two:
        answers = await asyncio.gather(
            *(remember(operator, SCOPE, "contended", f"text {number}") for number in range(50))
        )
        versions = await history(operator, SCOPE, "contended")
        await until(lambda: one.projection.seq == two.projection.seq)
        assert one.newest(SCOPE, 10) == two.newest(SCOPE, 10)
    assert sorted(fact.version for fact in answers) == list(range(1, 51))
    assert [fact.version for fact in versions] == list(range(1, 51))
    assert {fact.text for fact in versions} == {f"text {number}" for number in range(50)}
    assert {fact.version: fact for fact in answers} == {fact.version: fact for fact in versions}


async def test_a_rebuilt_view_gives_the_same_answers(site: Site, operator: Bus) -> None:
    async def answers() -> list[object]:
        return [
            await recall(operator, "/"),
            await recall(operator, SCOPE, "number three or thirty"),
            await recall(operator, SCOPE, key="key 3"),
            await all_facts(operator, "/"),
        ]

    async with site.memory():
        for number in range(40):
            await remember(operator, SCOPE, f"key {number % 30}", f"number {number} three" if number % 3 else "thirty")
        await forget(operator, SCOPE, "key 4")
        before = await answers()
    folder = site.view_file().parent
    for file in folder.iterdir():
        file.unlink()
    async with site.memory():
        assert await answers() == before


async def test_a_restarted_copy_goes_on_where_it_was(site: Site, operator: Bus) -> None:
    async with site.memory():
        await remember(operator, SCOPE, "a", "before")
    async with site.memory("memory-2"):
        await remember(operator, SCOPE, "b", "while the first was away")
    async with site.memory():
        assert [fact.key for fact in await recall(operator, SCOPE)] == ["b", "a"]


async def test_facts_are_listed_page_by_page_with_value_and_provenance(site: Site, operator: Bus) -> None:
    large = msgspec.Raw(msgspec.json.encode("x" * 30_000))
    async with site.memory():
        for number in range(25):
            await remember(operator, SCOPE, f"key {number:02}", f"text {number}", value=large, source=f"page {number}")
        page = await service.ask(operator, "memory", "facts", FactsRequest(scope=SCOPE), FactsPage)
        found = await all_facts(operator, "playbook/")
    assert page.more and 0 < len(page.facts) < 25, "the answer stays under its size"
    assert [fact.key for fact in found] == [f"key {number:02}" for number in range(25)]
    assert found[7].provenance.source == "page 7"
    assert bytes(found[7].value) == bytes(large)


async def test_the_history_of_an_unknown_fact_is_an_error_and_a_long_one_is_bounded(site: Site, operator: Bus) -> None:
    async with site.memory():
        for number in range(6):
            await remember(operator, SCOPE, "long", f"text {number}")
        last = await history(operator, SCOPE, "long", limit=2)
        with pytest.raises(ServiceError, match="no fact 'unknown'"):
            await history(operator, SCOPE, "unknown")
    assert [fact.version for fact in last] == [5, 6]


async def test_a_message_that_is_no_fact_is_passed_over(site: Site, operator: Bus) -> None:
    async with site.memory() as view, site.bus("memory") as bus:
        await bus.request(subjects.fact("stray", "stray"), b"not json")
        fact = await remember(operator, SCOPE, "a", "text")
        assert await recall(operator, SCOPE, key="a")
        assert view.projection.seq == 2
    assert isinstance(fact, FactEvent)


class LateAck(Committer):
    """A committer whose first acknowledgement is lost, while another copy writes on top."""

    def __init__(self, bus: Bus, other: FactStore) -> None:
        super().__init__(bus)
        self._other = other

    async def commit(self, messages: Sequence[Message], *, ordered: bool = False) -> tuple[int, ...]:
        """Store, let the other write, then publish again as after a time-out."""
        await super().commit(messages)
        await self._other.write(SCOPE, "late", lambda stands: version("theirs", stands))
        return await super().commit(messages)


async def test_a_write_whose_acknowledgement_is_lost_is_not_made_again_on_top_of_another(site: Site) -> None:
    async with site.bus("memory") as bus, committing(bus) as committer:
        other = FactStore(bus, committer)
        late = LateAck(bus, other)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(late.run())
            stands = await FactStore(bus, late).write(SCOPE, "late", lambda stands: version("ours", stands))
            running.cancel()
        versions = await other.history(SCOPE, "late", 10)
    assert stands is not None and stands.fact.text == "ours"
    assert [fact.text for fact in versions] == ["ours", "theirs"]


def version(text: str, stands: FactEvent | None) -> FactEvent | None:
    """The version after the one that stands."""
    request = RememberRequest(scope=SCOPE, key="late", text=text, provenance=provenance())
    return remembered(stands, request, now())
