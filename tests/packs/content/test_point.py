"""The information point: what a step is held against is read from the CMS and the repository, never from the plan."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mesh.applied import AppliedPage
from mesh.canonical import effect_key
from mesh.records import Call, Origin, Plan, Step
from packs.content.applied import cms_log, commits
from packs.content.page import path_of, text_in
from packs.content.reads import SITE_TARGET
from tests.packs.content.conftest import StartCms
from tests.packs.content.studio import Studio, studio_at

SCRIPT = "<script>alert(1)</script>\n"


@pytest_asyncio.fixture
async def studio(start_cms: StartCms, tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without any article."""
    async with studio_at(start_cms().url, tmp_path) as found:
        yield found


def forged(plan: Plan, step: str, **changed: Any) -> Plan:
    """The plan with other arguments in one step."""

    def of(each: Step) -> Step:
        if each.id != step:
            return each
        args = msgspec.json.decode(each.call.args) | changed
        return msgspec.structs.replace(
            each, call=Call(tool=each.call.tool, args=msgspec.Raw(msgspec.json.encode(args)))
        )

    return msgspec.structs.replace(plan, steps=tuple(of(each) for each in plan.steps))


async def test_an_article_that_lacks_nothing_is_published_once_to_both(studio: Studio) -> None:
    await studio.make_ready()
    assert (await studio.ask("publish.requested", slug="lamp", by="ann")).verdict == "allow"
    files = await studio.repository.files()
    assert files.keys() == {path_of("lamp", locale) for locale in ("en", "de", "fr")}
    for locale in ("en", "de", "fr"):
        assert text_in(files[path_of("lamp", locale)]) == await studio.text(locale=locale)
    release = (await studio.cms.article("lamp")).release
    assert release is not None and release.revisions == {"en": 1, "de": 1, "fr": 1}


@pytest.mark.parametrize(
    "changed",
    [
        {"slug": "chair"},
        {"locale": "de"},
        {"on": 0},
        {"on": 7},
        {"text": "Something else.\n"},
        {"text": SCRIPT},
        {"author": "ann"},
        {"of": 1},
        {"force": True},
        {"text": "x" * 9000},
    ],
    ids=str,
)
async def test_an_edit_is_the_one_that_was_handed_in(studio: Studio, changed: dict[str, Any]) -> None:
    await studio.begin()
    await studio.begin("chair", 2)
    text = await studio.text() + "More.\n"
    context = studio.accept("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=text)
    plan = await studio.plan(context)
    assert (await studio.judge(context, plan)).verdict == "allow"
    assert (await studio.judge(context, forged(plan, "edit", **changed))).verdict == "deny"


@pytest.mark.parametrize(
    ("step", "changed"),
    [
        ("commit", {"files": [{"locale": "en", "revision": 1, "blob": ""}]}),
        ("commit", {"slug": "chair"}),
        ("release", {"revisions": {"en": 1}}),
        ("release", {"revisions": {"en": 1, "de": 1, "fr": 2}}),
    ],
)
async def test_a_publication_is_of_what_stands(studio: Studio, step: str, changed: dict[str, Any]) -> None:
    await studio.make_ready()
    await studio.begin("chair", 2)
    context = studio.accept("publish.requested", slug="lamp", by="ann")
    plan = await studio.plan(context)
    assert (await studio.judge(context, plan)).verdict == "allow"
    assert (await studio.judge(context, forged(plan, step, **changed))).verdict == "deny"


async def test_a_compensation_takes_back_the_plans_own_commit_only(studio: Studio) -> None:
    await studio.make_ready()
    context = studio.accept("publish.requested", slug="lamp", by="ann")
    plan = await studio.plan(context)
    other = msgspec.Raw(msgspec.json.encode({"slug": "lamp", "commit_key": effect_key("another", "commit")}))
    step = msgspec.structs.replace(plan.steps[0], compensation=Call(tool="content.revert", args=other))
    bad = msgspec.structs.replace(plan, steps=(step, *plan.steps[1:]))
    assert (await studio.judge(context, bad)).verdict == "deny"


async def test_a_merge_shows_what_it_merges_and_who_wrote_it_does_not_approve_it(studio: Studio) -> None:
    await studio.begin()
    text, said = await studio.text(), "What our workshop says about it."
    ours, theirs = text.replace(said, "Eve's line."), text.replace(said, "Bob's line.")
    await studio.ask("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=theirs)
    context = studio.accept("edit.submitted", slug="lamp", by="eve", locale="en", base=1, text=ours)
    plan = await studio.plan(context)
    said_of_it = await studio.judge(context, plan)
    assert (said_of_it.verdict, said_of_it.steps[0].roles) == ("needs_approval", ("editor",))
    sheet = (await studio.sheets(context, plan))["merge"]
    assert {each["id"] for each in msgspec.json.decode(sheet.facts)["authors"]} >= {"bob", "eve"}
    changes: list[dict[str, Any]] = [
        {"theirs": "nothing"},
        {"ours": "nothing"},
        {"base": ""},
        {"conflicts": 0},
        {"text": ours},
        {"text": theirs},
        {"on": 1},
        {"author": "bob"},
    ]
    for changed in changes:
        said_of_it = await studio.judge(context, forged(plan, "merge", **changed), "editor")
        assert said_of_it.verdict == "deny", changed


async def test_a_person_may_write_the_merge_and_another_one_agrees(studio: Studio) -> None:
    await studio.begin()
    text, said = await studio.text(), "What our workshop says about it."
    await studio.ask(
        "edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=text.replace(said, "Bob's line.")
    )
    ours = text.replace(said, "Eve's line.")
    context = studio.accept("edit.submitted", slug="lamp", by="eve", locale="en", base=1, text=ours)
    notes = ("corrected by cleo (editor): both",)  # as policy writes a person's correction
    plan = msgspec.structs.replace(await studio.plan(context), revision=1, notes=notes)
    words = text.replace(said, "What Bob and Eve say.")
    for editor in ("", "ann", "eve"):
        assert (
            await studio.judge(context, forged(plan, "merge", text=words, editor=editor), "editor")
        ).verdict == "deny"
    written = forged(plan, "merge", text=words, editor="cleo")
    assert (await studio.judge(context, written)).verdict == "needs_approval"
    assert (await studio.judge(context, written, "editor")).verdict == "allow"
    assert (await studio.judge(context, forged(plan, "merge", text=SCRIPT, editor="cleo"), "editor")).verdict == "deny"


async def test_what_somebody_changed_in_the_repository_comes_into_the_cms_first(studio: Studio) -> None:
    await studio.make_ready()
    await studio.ask("publish.requested", slug="lamp", by="ann")
    path = path_of("lamp", "en")
    file = (await studio.repository.files())[path]
    changed = file.replace("What our workshop says about it.", "What a stranger says about it.")
    await studio.repository.commit("by-hand", time.time() + 10, "by hand", {path: changed}, {})
    await studio.ask(
        "edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=await studio.text() + "Bob's line.\n"
    )
    context = studio.accept("publish.requested", slug="lamp", by="ann")
    plan = await studio.plan(context)
    assert [step.call.tool for step in plan.steps] == ["content.merge"]
    assert (await studio.judge(context, plan)).verdict == "allow"  # both changed different places
    await studio.do(plan)
    text = await studio.text()
    assert "What a stranger says about it." in text and "Bob's line." in text
    assert (await studio.repository.files())[path] == changed  # nothing was written over
    refused = await studio.ask("publish.requested", slug="lamp", by="ann")
    assert "not of the source as it is now" in refused.reason
    await studio.ask(
        "edit.submitted", slug="lamp", by="bob", locale="en", base=3, text=text.replace("stranger", "maker")
    )
    await studio.ask("localisation.requested", slug="lamp", by="bob", locales=["de", "fr"])
    page = (await studio.cms.article("lamp")).page("de")
    assert page is not None and page.of == 4


async def test_localising_again_keeps_what_a_translator_wrote(studio: Studio) -> None:
    await studio.begin()
    await studio.ask("localisation.requested", slug="lamp", by="bob", locales=["de", "fr"])
    german = await studio.text(locale="de")
    hers: dict[str, Any] = {"slug": "lamp", "by": "dana", "locale": "de", "base": 1, "text": german + "Bis bald.\n"}
    await studio.ask("edit.submitted", **hers)
    said, warm = "What our workshop says about it.", "It comes with a warm word from the workshop."
    text = (await studio.text()).replace(said, warm)
    await studio.ask("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=text)
    assert (await studio.ask("localisation.requested", slug="lamp", by="bob", locales=["de"])).verdict == "allow"
    german = await studio.text(locale="de")
    assert "herzliches Wort" in german and german.endswith("Bis bald.\n")
    page = (await studio.cms.article("lamp")).page("de")
    assert page is not None and (page.of, page.authors) == (2, ("agent:studio", "dana"))
    assert (await studio.approve("lamp", "dana", "de")).verdict == "deny"


async def test_where_a_translator_and_the_source_changed_one_place_the_translator_hands_it_in(studio: Studio) -> None:
    await studio.begin()
    await studio.ask("localisation.requested", slug="lamp", by="bob", locales=["de"])
    german = await studio.text(locale="de")
    own = german.replace("Was unsere Werkstatt dazu sagt.", "Dazu die Werkstatt.")
    await studio.ask("edit.submitted", slug="lamp", by="dana", locale="de", base=1, text=own)
    text = (await studio.text()).replace("What our workshop says about it.", "Ask for it in our shop.")
    await studio.ask("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=text)
    context = studio.accept("localisation.requested", slug="lamp", by="bob", locales=["de"])
    assert "hand it in as an edit, of revision 2" in (await studio.plan(context)).refusal
    assert await studio.text(locale="de") == own
    words = own.replace("Dazu die Werkstatt.", "Fragen Sie die Werkstatt.")
    edit: dict[str, Any] = {"slug": "lamp", "by": "dana", "locale": "de", "base": 2, "text": words}
    assert "no lamp in de" in (await studio.plan(studio.accept("edit.submitted", of=3, **edit))).refusal
    assert (await studio.ask("edit.submitted", of=2, **edit)).verdict == "allow"
    page = (await studio.cms.article("lamp")).page("de")
    assert page is not None and (page.of, page.text) == (2, words)
    await studio.ask(
        "edit.submitted", slug="lamp", by="bob", locale="en", base=2, text=text + "Ask for it in our shop.\n"
    )
    confirmed = {**edit, "base": 3, "text": words, "of": 3}  # the translator says that it still holds
    assert (await studio.ask("edit.submitted", **confirmed)).verdict == "allow"
    assert (await studio.plan(studio.accept("edit.submitted", **confirmed))).refusal == "this text stands already"


async def test_a_conflict_with_the_repository_waits_for_a_person(studio: Studio) -> None:
    await studio.make_ready()
    await studio.ask("publish.requested", slug="lamp", by="ann")
    path, said = path_of("lamp", "en"), "What our workshop says about it."
    file = (await studio.repository.files())[path]
    by_hand = file.replace(said, "By hand.")
    await studio.repository.commit("by-hand", time.time() + 10, "by hand", {path: by_hand}, {})
    text = await studio.text()
    await studio.ask("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text=text.replace(said, "By Bob."))
    context = studio.accept("publish.requested", slug="lamp", by="ann")
    plan = await studio.plan(context)
    shown = msgspec.json.decode(plan.steps[0].call.args)
    assert (plan.steps[0].call.tool, shown["conflicts"], shown["author"]) == ("content.merge", 1, "site")
    assert (await studio.judge(context, plan)).verdict == "needs_approval"


async def test_a_commit_of_the_repository_is_refused_when_the_file_moved_meanwhile(studio: Studio) -> None:
    await studio.make_ready()
    plan = await studio.plan(studio.accept("publish.requested", slug="lamp", by="ann"))
    path = path_of("lamp", "en")
    await studio.repository.commit("by-hand", time.time() + 10, "by hand", {path: "mine\n"}, {})
    with pytest.raises(Exception, match=r"content/en/lamp\.md"):
        await studio.do(plan)
    assert (await studio.repository.files()) == {path: "mine\n"}
    assert (await studio.cms.article("lamp")).release is None


async def test_what_a_model_wrote_waits_for_an_editor_and_only_for_the_article_of_the_message(studio: Studio) -> None:
    await studio.begin()
    await studio.begin("chair", 2)
    context = studio.accept("message.received", by="bob", message="Please write the draft of lamp anew, warmer.")
    args = {"slug": "lamp", "locale": "en", "on": 1, "text": "# Lamp\n\nWarm.\n", "author": "agent:studio", "of": 0}

    def by_model(**changed: Any) -> Plan:
        raw = msgspec.Raw(msgspec.json.encode({**args, **changed}))
        call = Call(tool="content.draft", args=raw)
        step = Step(id="draft", call=call, effect_key=effect_key(context.header.task_id, "draft"))
        return Plan(
            header=context.header,
            playbook="content.plan",
            playbook_digest="sha256:0",
            digest="",
            steps=(step,),
            origin=Origin.MODEL,
        )

    assert (await studio.judge(context, by_model())).reason == "waits for approval by editor"
    assert (await studio.judge(context, by_model(), "editor")).verdict == "allow"
    for changed in ({"slug": "chair"}, {"author": "bob"}, {"on": 0}, {"text": SCRIPT}, {"locale": "de"}):
        assert (await studio.judge(context, by_model(**changed), "editor")).verdict == "deny", changed


@pytest.mark.parametrize("by", ["mallory", "agent:studio", "site", "Ann"])
async def test_only_the_staff_asks_for_anything(studio: Studio, by: str) -> None:
    await studio.make_ready()
    said = await studio.ask("publish.requested", slug="lamp", by=by)
    assert (said.verdict, said.steps[0].policies) == ("deny", ("person.known",))


async def test_the_cms_cannot_be_asked(tmp_path: Path) -> None:
    async with studio_at("http://127.0.0.1:9", tmp_path) as away:
        context = away.accept("edit.submitted", slug="lamp", by="bob", locale="en", base=1, text="x")
        args = {"slug": "lamp", "locale": "en", "on": 1, "text": "x", "author": "bob", "of": 0}
        step = Step(
            id="edit", call=Call(tool="content.edit", args=msgspec.Raw(msgspec.json.encode(args))), effect_key="k"
        )
        plan = Plan(header=context.header, playbook="p", playbook_digest="", digest="", steps=(step,))
        with pytest.raises(Exception, match="cannot be asked about lamp"):
            await away.sheets(context, plan)


async def test_the_logs_of_cms_and_site_are_read_to_their_ends(studio: Studio) -> None:
    await studio.begin()
    page = await cms_log(studio.cms, "")
    assert page.changes and len({each.key for each in page.changes}) == len(page.changes)
    assert (await cms_log(studio.cms, page.cursor)).changes == []
    assert await commits(studio.systems[SITE_TARGET], "") == AppliedPage([], "")
