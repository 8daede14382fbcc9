"""``POST /webhooks/<source>``: signatures, mappings, what no rule is meant for, and its release after mending."""

import hmac
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.intake.door import ARRIVAL_HEADER
from mesh import quarantine
from mesh.canonical import task_id
from mesh.originals import Originals
from mesh.quarantine import Quarantined, Reason
from mesh.records import Context, OutcomeStatus
from tests.agents.intake.reception import SECRET, Reception

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(60)]

ISSUES = {"x-github-event": "issues"}


def payload(folder: Path, name: str, **issue: Any) -> bytes:
    """A real payload, with other fields of its issue."""
    body = msgspec.json.decode((folder / "webhooks" / f"{name}.payload.json").read_bytes())
    body["issue"] |= issue
    return msgspec.json.encode(body)


async def item(site: Reception, item_id: str) -> Quarantined:
    """The item of this id that waits in quarantine."""
    (found,) = [each for each in await quarantine.waiting(site.world.bus) if each.id == item_id]
    return found


async def test_a_real_payload_becomes_the_event_that_its_mapping_says(site: Reception, shared_data: Path) -> None:
    body = payload(shared_data, "issues.opened")
    answer = await site.hook("desk", body, ISSUES)
    assert answer.status_code == 202, answer.text
    (event,) = answer.json()["events"]
    issue = msgspec.json.decode(body)["issue"]
    repository = msgspec.json.decode(body)["repository"]["full_name"]
    assert event["task_id"] == task_id(f"https://tickets.example/{repository}", f"issue-{issue['id']}")
    context = (await site.world.record("context", event["task_id"])).record
    assert isinstance(context, Context)
    assert context.event.channel == "desk"
    assert context.entity == f"issue/{issue['number']}"
    assert await Originals(site.world.bus).read(context.event.original) == body
    assert (await site.world.outcome(event["task_id"])).status is OutcomeStatus.COMPLETED
    again = await site.hook("desk", body, ISSUES)
    assert again.json()["events"] == [{"task_id": event["task_id"], "seq": None, "duplicate": True}]


async def test_every_real_payload_is_an_event_ignored_or_in_quarantine(site: Reception, shared_data: Path) -> None:
    paths = sorted((shared_data / "webhooks").glob("*.json"))
    assert len(paths) == 36
    for path in paths:
        answer = await site.hook("desk", path.read_bytes(), {"x-github-event": path.name.partition(".")[0]})
        said = answer.json()
        assert answer.status_code == 202
        assert len(said["events"]) + len(said["quarantined"]) + said["ignored"] == 1, path.name


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-hub-signature-256": "sha256=" + "0" * 64}, "not of this body"),
        ({"x-hub-signature-256": ""}, "not of this body"),
    ],
)
async def test_a_wrong_signature_is_refused_and_nothing_is_kept(
    site: Reception, headers: dict[str, str], said: str
) -> None:
    body = msgspec.json.encode({"forged": str(headers)})
    answer = await site.hook("desk", body, headers)
    assert answer.status_code == 401
    assert said in answer.json()["error"]
    assert SECRET not in answer.text
    answer = await site.client.post("/webhooks/desk", content=body)
    assert answer.json()["error"] == "the header x-hub-signature-256 is missing"
    assert await site.world.bus.last("ORIGINALS", f"original.{sha256(body).hexdigest()}.1~1") is None


async def test_an_older_secret_counts_while_it_is_in_the_file(site: Reception, shared_data: Path) -> None:
    body = payload(shared_data, "issues.opened", id=77)
    signature = hmac.digest(b"an older one", body, sha256).hex()
    assert (await site.hook("desk", body, {**ISSUES, "x-hub-signature-256": f"sha256={signature}"})).status_code == 202


def stripe(body: bytes, at: float, secret: str = SECRET) -> dict[str, str]:
    """The header that Stripe sends."""
    signed = hmac.digest(secret.encode(), f"{at:.0f}.".encode() + body, sha256).hex()
    return {"stripe-signature": f"t={at:.0f},v0=00,v1={'0' * 64},v1={signed}"}


async def test_one_body_may_hold_many_events_and_an_old_signature_counts_for_nothing(site: Reception) -> None:
    entries = [{"id": f"p{n}", "account": "paid", "amount": n} for n in range(1, 4)]
    body = msgspec.json.encode({"entries": entries})
    answer = await site.hook("payments", body, stripe(body, time.time() - 301))
    assert (answer.status_code, "300 are allowed" in answer.json()["error"]) == (401, True)
    assert (await site.hook("payments", body, stripe(body, time.time() + 301))).status_code == 401
    answer = await site.hook("payments", body, stripe(body, time.time() - 200))
    assert [each["duplicate"] for each in answer.json()["events"]] == [False] * 3
    assert (await site.hook("payments", body, {"stripe-signature": "t=x,v1=00"})).status_code == 401


async def test_a_form_is_taken_with_a_token_and_what_is_looked_up(site: Reception) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = await site.hook("form", b"account=form&amount=12", kind)
    assert answer.status_code == 202, answer.text
    (event,) = answer.json()["events"]
    context = (await site.world.record("context", event["task_id"])).record
    assert isinstance(context, Context)
    assert msgspec.json.decode(context.data) == {
        "account": "form",
        "amount": 12,
        "kind": "post",
        "memo": "balance before: 0",
    }
    answer = await site.hook("form", b"account=form&amount=12", {**kind, "authorization": "Bearer wrong"})
    assert answer.status_code == 401


async def test_while_what_is_looked_up_is_away_nothing_is_taken_and_nothing_lost(site: Reception) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    async with site.world.target_away():
        answer = await site.hook("form", b"account=away&amount=1", kind)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "send it again" in answer.json()["error"]
    answer = await site.hook("form", b"account=away&amount=1", kind)
    while answer.status_code == 503:  # the breaker is still open
        answer = await site.hook("form", b"account=away&amount=1", kind)
    assert len(answer.json()["events"]) == 1


async def test_what_no_rule_is_meant_for_waits_and_is_taken_when_its_mapping_is_mended(
    site: Reception, shared_data: Path, mended: Any
) -> None:
    body = payload(shared_data, "issues.pinned", id=4242)
    (name,) = (await site.hook("desk", body, ISSUES)).json()["quarantined"]
    found = await item(site, name)
    assert (found.stage, found.reason, found.data) == ("intake", Reason.UNKNOWN_TYPE, body)
    assert "no rule of" in found.detail
    assert "authorization" not in found.headers[ARRIVAL_HEADER]
    assert site.token not in str(found)
    async with mended("desk", 'body.action == "opened"', 'body.action in ["opened", "pinned"]'):
        await quarantine.release(site.world.committer, found, person="olga")
        repository = msgspec.json.decode(body)["repository"]["full_name"]
        task = task_id(f"https://tickets.example/{repository}", "issue-4242")
        assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert name not in [each.id for each in await quarantine.waiting(site.world.bus)]


async def test_what_is_still_not_understood_waits_again(site: Reception) -> None:
    (name,) = (await site.hook("desk", b"{", {"x-github-event": "again"})).json()["quarantined"]
    first = await item(site, name)
    assert first.reason is Reason.MALFORMED
    await quarantine.release(site.world.committer, first, person="olga")
    again = await item(site, name)
    while again.at == first.at:
        again = await item(site, name)
    assert again.data == b"{"


async def test_a_large_original_is_kept_by_reference(site: Reception) -> None:
    body = msgspec.json.encode({"action": "deleted", "text": "x" * 600_000})
    (name,) = (await site.hook("desk", body, ISSUES)).json()["quarantined"]
    found = await item(site, name)
    assert (found.data, found.kept) == (b"", sha256(body).hexdigest())
    assert await Originals(site.world.bus).read(found.kept) == body


async def test_an_unknown_source_is_told(site: Reception) -> None:
    answer = await site.hook("nobody", b"{}")
    assert (answer.status_code, answer.json()["error"]) == (404, "no webhook 'nobody' is configured here")
