"""Two editors at once, many times: nobody's words are written over, and what does not fit waits for a person."""

import asyncio
import random
import time
from pathlib import Path

import msgspec
import pytest

from mesh.toolbox import Toolbox
from packs.content.cms.documents import Merge
from tests.packs.content.conftest import StartCms
from tests.packs.content.studio import TOOLS, Studio, studio_at

ROUNDS, EDITORS = 25, ("bob", "eve", "cleo")


async def hand_in(studio: Studio, key: str, on: int, text: str, author: str) -> dict[str, object]:
    """An edit as the executor dispatches it, past all planning: what the CMS makes of it."""
    args = {"slug": "lamp", "locale": "en", "on": on, "text": text, "author": author, "of": 0}
    box = Toolbox(TOOLS, studio.systems)
    tool = box.find("content.edit")
    raw = msgspec.Raw(msgspec.json.encode(args))
    answer = await box.call(tool, raw, key=key, epoch=1, call_by=time.time() + 10)
    found: dict[str, object] = msgspec.json.decode(answer)
    return found


@pytest.mark.timeout(120)
async def test_editors_at_once_lose_nothing(start_cms: StartCms, tmp_path: Path) -> None:
    chance = random.Random(20261120)
    async with studio_at(start_cms().url, tmp_path) as studio:
        await studio.begin()
        written: list[str] = []
        kept: list[str] = []
        for n in range(ROUNDS):
            page = (await studio.cms.article("lamp")).page("en")
            assert page is not None
            lines = page.text.splitlines(keepends=True)
            edits = []
            for editor in EDITORS:
                said = f"{editor} says {'abcdefghijklmnopqrstuvwxyz'[n]}.\n"
                written.append(said)
                place = chance.randrange(len(lines))
                changed = [*lines[:place], said, *lines[place:]]
                edits.append(hand_in(studio, f"k-{n}-{editor}", page.revision, "".join(changed), editor))
            done = await asyncio.gather(*edits)
            kept += [str(each["merge"]) for each in done if each["merge"]]
            assert sum(1 for each in done if each["revision"] == page.revision + 1) == 1
        text = await studio.text()
        merges = [await studio.cms.merge(name) for name in kept]
    assert kept and len(kept) < len(written)  # some fitted, some did not
    held = text + "".join(merge.text for merge in merges if isinstance(merge, Merge) and merge.open)
    assert [said for said in written if said not in held] == []


async def test_a_call_that_is_made_again_is_not_merged_twice(start_cms: StartCms, tmp_path: Path) -> None:
    async with studio_at(start_cms().url, tmp_path) as studio:
        await studio.begin()
        text = await studio.text()
        await hand_in(studio, "k1", 1, "bob begins.\n" + text, "bob")
        first = await hand_in(studio, "k2", 1, text + "eve ends.\n", "eve")
        again = await hand_in(studio, "k2", 1, text + "eve ends.\n", "eve")
        assert (first["revision"], again["revision"], again["replayed"]) == (3, 3, True)
        assert (await studio.text()).count("eve ends.") == 1


async def test_an_open_merge_becomes_a_task_for_a_person_by_the_outbox_of_the_cms(
    start_cms: StartCms, tmp_path: Path
) -> None:
    async with studio_at(start_cms().url, tmp_path) as studio:
        await studio.begin()
        text = await studio.text()
        summary = "What our workshop says about it."
        await hand_in(studio, "k1", 1, text.replace(summary, "Bob's line."), "bob")
        kept = await hand_in(studio, "k2", 1, text.replace(summary, "Eve's line."), "eve")
        assert kept["merge"]
        (told,) = await studio.cms._get("/outbox", list[dict[str, object]])
        event = msgspec.convert(told["event"], dict[str, object])
        assert (event["type"], event["data"]) == (
            "content.merge.requested",
            {"slug": "lamp", "merge": kept["merge"]},
        )
        context = studio.accept("merge.requested", via="/cms", slug="lamp", merge=kept["merge"])
        plan = await studio.plan(context)
        shown = msgspec.json.decode(plan.steps[0].call.args)
        assert (shown["base"], shown["ours"], shown["theirs"]) == (
            text,
            text.replace(summary, "Eve's line."),
            text.replace(summary, "Bob's line."),
        )
        assert (await studio.judge(context, plan)).reason == "waits for approval by editor"
        assert (await studio.judge(context, plan, "editor")).verdict == "allow"
        await studio.do(plan)
        assert "Bob's line.\nEve's line.\n" in await studio.text()
        merge = await studio.cms.merge(str(kept["merge"]))
        assert merge is not None and not merge.open
        again = await studio.plan(studio.accept("merge.requested", via="/cms", slug="lamp", merge=kept["merge"]))
        assert again.refusal == "there is nothing left to bring together"


async def test_an_edit_made_while_a_merge_waited_is_not_lost_either(start_cms: StartCms, tmp_path: Path) -> None:
    async with studio_at(start_cms().url, tmp_path) as studio:
        await studio.begin()
        text = await studio.text()
        summary = "What our workshop says about it."
        await hand_in(studio, "k1", 1, text.replace(summary, "Bob's line."), "bob")
        theirs = text.replace(summary, "Eve's line.")
        context = studio.accept("edit.submitted", slug="lamp", by="eve", locale="en", base=1, text=theirs)
        plan = await studio.plan(context)
        assert plan.steps[0].call.tool == "content.merge"
        await hand_in(studio, "k3", 2, (await studio.text()) + "Cleo's line.\n", "cleo")
        assert (await studio.judge(context, plan, "editor")).reason == "the text was not made from what stands now"
        (done,) = await studio.do(plan)  # as if the page had moved on between the decision and the call
        assert done["revision"] == 4
        assert [said in await studio.text() for said in ("Bob's line.", "Eve's line.", "Cleo's line.")] == [True] * 3
