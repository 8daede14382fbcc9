"""Quarantine: what waits, what was released, and nothing lost between the two."""

import pytest

from mesh import quarantine, subjects
from mesh.errors import WorkmeshError
from mesh.journal import Message, committing
from mesh.quarantine import Quarantined, Reason, decode, item_id, quarantined
from tests.mesh.live_mesh import LiveMesh, stored


def refused(stage: str = "planner", seq: int = 1, *, stream: str = subjects.JOURNAL, detail: str = "no") -> Message:
    """An item."""
    return quarantined(
        stage=stage,
        reason=Reason.MALFORMED,
        detail=detail,
        stream=stream,
        subject="task.context.d.t.-",
        seq=seq,
        data=b"\x00\xff not text",
        headers={"a": "b"},
        event_id="e1",
    )


async def test_an_item_keeps_the_original_bytes_and_why(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        await committer.commit([refused()])
        (item,) = await quarantine.waiting(bus)
        assert item.data == b"\x00\xff not text"
        assert (item.reason, item.detail, item.headers, item.event_id) == (Reason.MALFORMED, "no", {"a": "b"}, "e1")
        (message,) = await stored(bus, subjects.QUARANTINE)
        assert message.subject == f"quarantine.planner.{item.id}" and decode(message) == item


def test_an_item_is_named_by_what_was_refused_and_by_whom() -> None:
    ids = {item_id(*each) for each in (("a", "S", 1), ("b", "S", 1), ("a", "T", 1), ("a", "S", 2))}
    assert len(ids) == 4 and item_id("a", "S", 1) in ids


async def test_a_second_refusal_of_one_input_counts_once(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        for message in (refused(), refused("policy"), refused(seq=2), refused(detail="still no")):
            await committer.commit([message])
        found = [(item.stage, item.seq, item.detail) for item in await quarantine.waiting(bus)]
        assert sorted(found) == [("planner", 1, "still no"), ("planner", 2, "no"), ("policy", 1, "no")]


async def only(live: LiveMesh) -> Quarantined:
    """The one item that waits."""
    async with live.bus() as bus:
        (item,) = await quarantine.waiting(bus)
        return item


async def test_what_is_released_waits_no_more(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        await committer.commit([refused()])
        await quarantine.release(committer, await only(live), person="ann")
        assert await quarantine.waiting(bus) == []
        (again,) = await stored(bus, subjects.JOURNAL, "release.planner.>")
        assert again.data == b"\x00\xff not text"
        told = {name: again.headers[name] for name in ("Workmesh-Stream", "Workmesh-Subject", "Workmesh-Sequence", "a")}
        assert told == {
            "Workmesh-Stream": "JOURNAL",
            "Workmesh-Subject": "task.context.d.t.-",
            "Workmesh-Sequence": "1",
            "a": "b",
        }


async def test_a_refusal_after_the_release_waits_even_when_the_note_of_the_release_comes_later(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        await committer.commit([refused()])
        item = await only(live)
        await committer.commit([refused(detail="still no")])  # the stage was faster than the note
        await quarantine.release(committer, item, person="ann")
        assert (await only(live)).detail == "still no"
        await quarantine.release(committer, await only(live), person="ann")
        assert await quarantine.waiting(bus) == []


async def test_what_came_from_elsewhere_cannot_be_given_back(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        await committer.commit([refused(stream=subjects.MEMORY)])
        with pytest.RaisesGroup(pytest.RaisesExc(WorkmeshError, match="came from MEMORY, which takes nothing back")):
            async with committing(bus) as other:
                await quarantine.release(other, await only(live), person="ann")
        assert (await only(live)).seq == 1
