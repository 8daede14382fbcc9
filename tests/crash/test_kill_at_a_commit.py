"""The kill between a commit to the studio's repository and its record: the executor finds it in the log, once."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from packs.content.sample.catalogue import brief
from tests.packs.content.site import ContentSite, content_site

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentSite]:
    """A running studio without an executor."""
    async with content_site(tmp_path_factory.mktemp("w"), "perception", "planner", "policy", "memory") as found:
        yield found


@pytest.mark.parametrize(("slug", "point"), [("lamp", "after_call"), ("chair", "after_effect")])
async def test_an_executor_killed_at_a_commit_has_it_once(site: ContentSite, slug: str, point: str) -> None:
    async with site.world.role("executor"):
        await site.make_ready(slug)
    # Publishing has two effects: the first time that the point is reached is at the commit.
    fault = f"executor.{point}=kill@{site.folder / slug}"
    async with site.world.role("executor", fault=fault) as executor:
        task = await site.ask("publish.requested", slug=slug, by="ann")
        await executor.died()
        ending = await site.outcome(task)
    assert ending.status == "completed"
    keys = [key for key, _ in await site.repository.log()]
    assert keys.count(f"wm-{task}-commit") == 1
    assert sum(entry["key"] == f"wm-{task}-release" for entry in site.get("/changes")) == 1
    assert {path for path in await site.repository.files() if f"/{slug}.md" in path} == {
        f"content/{locale}/{slug}.md" for locale in ("en", "de", "fr")
    }
    assert bool((await site.record("result", task, "commit")).recovered) is (point == "after_call")


async def test_an_edit_at_whose_call_the_executor_is_killed_is_one_revision(site: ContentSite) -> None:
    async with site.world.role("executor"):
        await site.done("brief.submitted", slug="clock", by="ann", brief=brief("clock", 3))
    text = site.get("/articles/clock/en")["text"] + "Once.\n"
    fault = f"executor.after_call=kill@{site.folder / 'edit'}"
    async with site.world.role("executor", fault=fault) as executor:
        task = await site.ask("edit.submitted", slug="clock", by="bob", locale="en", base=1, text=text)
        await executor.died()
        assert (await site.outcome(task)).status == "completed"
    page = site.get("/articles/clock/en")
    assert (page["revision"], page["text"]) == (2, text)
