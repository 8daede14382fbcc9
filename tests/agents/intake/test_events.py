"""``POST /events``: CloudEvents by HTTP, durable before they are acknowledged."""

import asyncio
from typing import Any

import pytest

from agents.intake.tokens import add_token, remove_token
from mesh.canonical import task_id
from mesh.records import OutcomeStatus
from tests.agents.intake.reception import Reception, entry
from tests.ledger_pack.world import SOURCE

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(60)]

BATCH = "application/cloudevents-batch+json"


async def test_an_event_is_on_disk_when_202_is_said_and_is_carried_out(site: Reception) -> None:
    answer = await site.event(entry("one"))
    assert answer.status_code == 202, answer.text
    said = answer.json()
    assert said["task_id"] == task_id(SOURCE, "one")
    assert any(message.seq == said["seq"] for message in await site.events())
    assert (await site.world.outcome(said["task_id"])).status is OutcomeStatus.COMPLETED
    assert len(site.world.applied(said["task_id"])) == 1


async def test_binary_mode_is_the_same_event_as_structured(site: Reception) -> None:
    event = entry("binary", subject="konto/ä", time="2026-11-01T10:00:00+01:00")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "binary",
        "ce-source": SOURCE,
        "ce-type": "ledger.entry.requested",
        "ce-subject": "konto/%C3%A4",
        "ce-time": "2026-11-01T10:00:00+01:00",
        "content-type": "application/json",
    }
    first = await site.post("/events", event["data"], headers)
    assert first.status_code == 202, first.text
    again = await site.event(event)
    assert (again.status_code, again.json()["duplicate"]) == (202, True)
    assert again.json()["task_id"] == first.json()["task_id"]


async def test_a_batch_is_taken_whole_or_not_at_all(site: Reception) -> None:
    before = len(await site.events())
    answer = await site.event([entry("b1"), entry("b2"), entry("b1")], BATCH)
    assert [each["duplicate"] for each in answer.json()] == [False, False, True]
    answer = await site.event([entry("b3"), entry("b4", data={"amount": "much"})], BATCH)
    assert (answer.status_code, answer.json()["pointer"]) == (400, "/1/data/amount")
    answer = await site.event([entry("b5"), entry("b1", data={"amount": 6})], BATCH)
    assert (answer.status_code, answer.json()["pointer"]) == (409, "/1/id")
    assert len(await site.events()) == before + 2
    assert (await site.event([], BATCH)).json() == []


async def test_the_same_again_is_a_duplicate_and_another_under_its_id_a_conflict(site: Reception) -> None:
    first = await site.event(entry("again"))
    before = len(await site.events())
    again = await site.event(entry("again", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    assert again.json() == {"task_id": first.json()["task_id"], "seq": None, "duplicate": True}
    other = await site.event(entry("again", data={"amount": 7}))
    assert (other.status_code, other.json()["pointer"]) == (409, "/id")
    assert "came before with other content" in other.json()["error"]
    assert len(await site.events()) == before


async def test_of_two_at_once_under_one_id_one_is_refused(site: Reception) -> None:
    answers = await asyncio.gather(*(site.event(entry("race", data={"amount": 1 + n % 2})) for n in range(20)))
    assert {answer.status_code for answer in answers} == {202, 409}
    taken = {msg.data for msg in await site.events() if b'"race"' in msg.data}
    assert len(taken) == 1


WRONG = [
    ({"specversion": "0.3"}, 400, "/specversion", "1.0 is"),
    ({"id": ""}, 400, "/id", "1 to 1,024 characters"),
    ({"source": None}, 400, "/source", "str"),
    ({"type": "ledger.unheard.of"}, 400, "/type", "pack ledger knows"),
    ({"type": "nobody.at-home"}, 400, "/type", "no pack"),
    ({"time": "yesterday"}, 400, "/time", ""),
    ({"data": {"amount": "5"}}, 400, "/data/amount", "int"),
    ({"data": {"more": 1}}, 400, "/data", "more"),
    ({"data_base64": "AAAA"}, 400, "/data_base64", "JSON"),
    ({"original": "a" * 64}, 400, "/original", "set by intake"),
    ({"channel": "mail"}, 400, "/channel", "set by intake"),
    ({"data": {"memo": "x" * 70_000}}, 413, "", "bytes"),
]


@pytest.mark.parametrize(("fields", "status", "pointer", "said"), WRONG)
async def test_what_is_wrong_is_said_with_its_place(
    site: Reception, fields: dict[str, Any], status: int, pointer: str, said: str
) -> None:
    answer = await site.event(entry("wrong", **fields))
    assert (answer.status_code, answer.json()["pointer"]) == (status, pointer), answer.text
    assert said in answer.json()["error"]


async def test_a_required_attribute_that_is_missing_is_named(site: Reception) -> None:
    event = entry("missing")
    del event["type"]
    answer = await site.event(event)
    assert (answer.status_code, answer.json()) == (400, {"error": "/type: is required", "pointer": "/type"})


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/cloudevents+json", 400),
        (b"\xff\xfe", "application/cloudevents+json", 400),
        (b"[" * 5000, BATCH, 400),
        (b"{}", BATCH, 400),
        (b"{}", "application/json", 415),
        (b"<x/>", "application/cloudevents+xml", 415),
        (b"{}", "application/cloudevents+json; charset=latin-1", 415),
        (b"x" * (2 * 1024 * 1024), "application/cloudevents+json", 413),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", BATCH, 413),
    ],
)
async def test_what_is_no_event_is_refused(site: Reception, body: bytes, kind: str, status: int) -> None:
    answer = await site.post("/events", body, {"content-type": kind})
    assert answer.status_code == status, answer.text


async def test_nobody_sends_without_a_token_nor_for_another_domain(site: Reception) -> None:
    path = site.world.site.folder / "intake" / "tokens"
    assert (path.stat().st_mode & 0o777) == 0o600
    for given in ("", "Bearer", "Bearer wrong", f"Basic {site.token}"):
        answer = await site.post("/events", entry("t"), {"authorization": given})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="workmesh"')
    other = add_token(path, "elsewhere", ["retail"])
    assert other.encode() not in path.read_bytes()
    headers = {"authorization": f"Bearer {other}", "content-type": "application/cloudevents+json"}
    answer = await site.post("/events", entry("t"), headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "elsewhere may not send events of ledger")
    remove_token(path, "elsewhere")
    assert (await site.post("/events", entry("t"), headers)).status_code == 401


async def test_other_paths_and_methods_are_told_what_there_is(site: Reception) -> None:
    assert (await site.client.get("/events")).status_code == 405
    answer = await site.client.post("/else")
    assert (answer.status_code, "POST /events" in answer.json()["error"]) == (404, True)
    assert (await site.client.get("/health")).json() == {"status": "ok"}
