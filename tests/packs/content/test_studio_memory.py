"""What briefs say is in organisational memory: plans cite it, and are void when it changes while they wait."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh import service
from mesh.facts import Judged, Scope
from mesh.memory import FactsPage, FactsRequest
from mesh.records import Plan
from packs.content.sample.catalogue import brief
from tests.ledger_pack.running import until
from tests.packs.content.site import ContentSite, content_site

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
ROLES = ("perception", "planner", "policy", "executor", "memory", "learner")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentSite]:
    """A running studio with memory and a learner."""
    async with content_site(tmp_path_factory.mktemp("w"), *ROLES) as found:
        yield found


async def known(site: ContentSite, slug: str) -> dict[str, Judged]:
    """What memory holds of a brief, by predicate."""
    request = FactsRequest(scope=Scope(domain="content"), subject=f"brief/{slug}")
    page = await service.ask(site.world.bus, "memory", "facts", request, FactsPage, timeout_s=10)
    return {item.fact.predicate: item for item in page.facts}


async def test_a_brief_is_remembered_fact_by_fact_and_a_correction_takes_the_place_of_what_was_wrong(
    site: ContentSite,
) -> None:
    task = await site.ask("brief.submitted", slug="lamp", by="ann", brief=brief("lamp", 1))
    assert (await site.outcome(task)).status == "completed"

    async def is_known() -> bool:
        return "fact/f2" in await known(site, "lamp")

    await until(is_known)
    held = await known(site, "lamp")
    assert held.keys() == {"fact/f1", "fact/f2", "licence/hero", "audience", "tone", "banned"}
    assert b"a guarantee of 4 years" in bytes(held["fact/f2"].fact.value)
    assert task in held["fact/f2"].fact.evidence[0].subject

    right = {"fact": "f2", "text": "a guarantee of 20 years", "source": "https://workshop.example/2026"}
    assert (await site.done("correction.requested", slug="lamp", by="ann", **right)).status == "completed"

    async def is_right() -> bool:
        return b"20 years" in bytes((await known(site, "lamp"))["fact/f2"].fact.value)

    await until(is_right)
    task = await site.ask("draft.requested", slug="lamp", by="bob", base=1)
    assert (await site.outcome(task)).status == "completed"
    plan = await site.record("plan", task)
    assert isinstance(plan, Plan)
    cited = {each.predicate: each.version for each in plan.citations}
    assert (cited["fact/f1"], cited["fact/f2"]) == (1, 2)
    assert "a guarantee of 20 years" in site.get("/articles/lamp/en")["text"]


async def test_a_brief_that_was_refused_is_not_remembered(site: ContentSite) -> None:
    ending = await site.done("brief.submitted", slug="chair", by="mallory", brief=brief("chair", 2))
    assert ending.status == "denied"
    await site.world.settled("learner")
    assert await known(site, "chair") == {}
