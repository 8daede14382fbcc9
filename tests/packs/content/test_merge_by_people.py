"""A conflict on a running site: it waits for an editor who wrote neither side, who may approve it or write it anew."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from console.words import say
from mesh import subjects
from mesh.approvals import Shown
from mesh.clock import now
from mesh.identity import Identity
from mesh.records import Change, Decision, Plan, Word
from mesh.service import ServiceError
from mesh.trust import TrustEntry, enroll
from packs.content.commands import read_tasks
from packs.content.measures import measure
from packs.content.sample.catalogue import brief
from tests.packs.content.site import ContentSite, content_site

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
ROLES = ("perception", "planner", "policy", "executor", "memory")
SAID = "What our workshop says about it."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContentSite]:
    """A running studio."""
    async with content_site(tmp_path_factory.mktemp("w"), *ROLES) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(site: ContentSite) -> dict[str, Identity]:
    """Three editors, with keys of their own."""
    found = {name: Identity.create(site.folder / "editors" / f"{name}.nk", name) for name in ("bob", "eve", "cleo")}
    async with site.world.connected("admin") as bus:
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        for name, key in found.items():
            entry = TrustEntry(
                name=name, public_key=key.public_key, kind="person", roles=("editor",), enrolled_at=now()
            )
            await enroll(bucket, site.world.site.admin, entry)
    return found


async def conflict(site: ContentSite, slug: str) -> tuple[str, Shown]:
    """Bob and Eve change one line; Eve's task, and what is shown of it."""
    await site.done("brief.submitted", slug=slug, by="ann", brief=brief(slug, 1))
    text = site.get(f"/articles/{slug}/en")["text"]
    edits = {"bob": text.replace(SAID, "Bob's line."), "eve": text.replace(SAID, "Eve's line.")}
    tasks = [
        await site.ask("edit.submitted", slug=slug, by=by, locale="en", base=1, text=edit) for by, edit in edits.items()
    ]
    assert (await site.outcome(tasks[0])).status == "completed"
    await site.world.waits(tasks[1])
    shown = await site.world.shown(tasks[1])
    (step,) = (await plan_of(site, tasks[1])).steps
    args = msgspec.json.decode(step.call.args)
    assert (args["base"], args["ours"], args["theirs"]) == (text, edits["eve"], edits["bob"])
    return tasks[1], shown


async def plan_of(site: ContentSite, task: str) -> Plan:
    plan = await site.record("plan", task)
    assert isinstance(plan, Plan)
    return plan


async def test_who_wrote_a_side_does_not_approve_and_somebody_else_does(
    site: ContentSite, people: dict[str, Identity]
) -> None:
    task, shown = await conflict(site, "lamp")
    for author in ("bob", "eve"):
        with pytest.raises(ServiceError, match="nobody approves a text that they wrote in"):
            await say(site.world.bus, people[author], shown, "editor", Word.APPROVE)
    await say(site.world.bus, people["cleo"], shown, "editor", Word.APPROVE)
    assert (await site.outcome(task)).status == "completed"
    page = site.get("/articles/lamp/en")
    assert "Bob's line.\nEve's line.\n" in page["text"]
    assert page["authors"] == ["agent:studio", "bob", "eve"]


async def test_an_editor_writes_the_merge_and_another_one_agrees(
    site: ContentSite, people: dict[str, Identity]
) -> None:
    task, shown = await conflict(site, "chair")
    (step,) = (await plan_of(site, task)).steps
    args = msgspec.json.decode(step.call.args)
    text = args["base"].replace(SAID, "What Bob and Eve say.")
    changes = (Change(step="merge", args=msgspec.Raw(msgspec.json.encode(args | {"text": text, "editor": "cleo"}))),)
    await say(site.world.bus, people["cleo"], shown, "editor", Word.CORRECT, changes=changes)
    decision = await site.record("decision", task, "r1")
    assert isinstance(decision, Decision) and decision.verdict == "needs_approval", decision
    anew = await site.world.shown(task)
    with pytest.raises(ServiceError, match="has corrected this plan"):
        await say(site.world.bus, people["cleo"], anew, "editor", Word.APPROVE)
    with pytest.raises(ServiceError, match="nobody approves a text that they wrote in"):
        await say(site.world.bus, people["bob"], anew, "editor", Word.APPROVE)
    entry_of_ann = Identity.create(site.folder / "editors" / "ann.nk", "ann")
    async with site.world.connected("admin") as bus:
        bucket = await bus.client.jetstream().key_value(subjects.TRUST_BUCKET)
        entry = TrustEntry(
            name="ann", public_key=entry_of_ann.public_key, kind="person", roles=("editor",), enrolled_at=now()
        )
        await enroll(bucket, site.world.site.admin, entry)
    await say(site.world.bus, entry_of_ann, anew, "editor", Word.APPROVE)
    assert (await site.outcome(task)).status == "completed"
    page = site.get("/articles/chair/en")
    assert (page["text"], page["authors"]) == (text, ["agent:studio", "bob", "eve", "cleo"])
    word = {"locale": "en", "revision": page["revision"], "verdict": "approved"}
    assert (await site.done("review.given", slug="chair", by="cleo", **word)).reason == (
        "nobody reviews a text that they wrote in"
    )


async def test_a_rejected_merge_leaves_what_stands_and_keeps_the_words_in_the_journal(
    site: ContentSite, people: dict[str, Identity]
) -> None:
    task, shown = await conflict(site, "clock")
    await say(site.world.bus, people["cleo"], shown, "editor", Word.REJECT, comment="Bob is right")
    assert (await site.outcome(task)).status == "denied"
    text = site.get("/articles/clock/en")["text"]
    assert "Bob's line." in text and "Eve's line." not in text
    assert "Eve's line." in bytes((await site.context(task)).data).decode()


async def test_the_measures_are_read_from_the_journal(site: ContentSite) -> None:
    found = measure(await read_tasks(site.world.bus))
    assert (found.briefs, found.merges, found.published) == (3, 2, 0)
