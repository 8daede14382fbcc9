"""The console over a real site, asked as a browser would ask it: who may see and do what, and what comes of it."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from markupsafe import escape

from console.web.places import tokens_path
from console.web.tokens import remove_tokens
from mesh import quarantine
from mesh.activation import Activation, store_bundle
from mesh.clock import now
from mesh.halts import Halt, read_halts
from mesh.quarantine import Quarantined
from mesh.records import OutcomeStatus, Word
from mesh.signing import BUNDLE_TYPE, CONTROL_TYPE, STATEMENT_TYPE, sign
from policy_service.bundle import BundleContents
from tests.console.web.running_console import ROLES, Browser, Site, site_in
from tests.ledger_pack.running import until
from tests.ledger_pack.world import POLICIES
from tests.mesh.publishing import publish

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

FORBIDDEN = '@id("never") @reason("nothing any more") forbid (principal, action, resource);'
LARGE = 20_000  # a controller approves
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site_in(tmp_path_factory.mktemp("console"), *ROLES) as running:
        yield running


async def waiting_task(site: Site, event_id: str, **data: Any) -> str:
    task = await site.world.publish(event_id, amount=LARGE, **data)
    await site.world.waits(task)
    return task


async def test_nobody_sees_anything_before_signing_in(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as http:
        for path in ("/", "/approvals", "/tasks", "/quarantine", "/halts", "/policies/ledger", "/spending"):
            answer = await http.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/signin")
        assert (await http.get("/live")).status_code == 401
        assert (await http.get("/approvals/x/shown")).status_code == 401
        assert (await http.post("/signed/word", content=b"{}")).status_code == 401
        assert (await http.get("/health")).text == "ok"


async def test_every_answer_carries_the_headers(site: Site) -> None:
    async with site.browser("vera") as vera:
        for path in ("/", "/signin", "/static/console.css", "/nowhere", "/tasks/nothing", "/approvals/x/shown"):
            headers = (await vera.http.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        page = await vera.http.get("/")
        assert page.headers["cache-control"] == "no-store"


async def test_the_cookie_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as http:
        answer = await http.post("/signin", data={"token": site.token("vera")})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "max-age=43200" in cookie


async def test_a_wrong_token_lets_nobody_in_and_many_must_wait(site: Site) -> None:
    over = site.token("vera", timedelta(hours=-1))
    async with httpx2.AsyncClient(base_url=site.url) as http:
        for token in (over, *("wmc_guess" for _ in range(9))):
            answer = await http.post("/signin", data={"token": token})
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
        answer = await http.post("/signin", data={"token": "wmc_guess"})
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


async def test_an_approval_is_signed_elsewhere_and_passed_on(site: Site) -> None:
    task = await waiting_task(site, "web-approve", memo=SCRIPT)
    async with site.browser("carla") as carla:
        listed = await carla.page("/approvals?mine=1")
        assert task in listed and "200.00 USD" in listed
        shown = await site.world.shown(task)
        told = json.loads((await carla.http.get(f"/approvals/{task}/shown")).content)
        assert told["plan_digest"] == shown.plan_digest
        statement = site.world.statement(shown, Word.APPROVE, "carla", "controller")
        answer = await carla.say("word", statement, STATEMENT_TYPE)
        assert answer.status_code == 200 and answer.json()["verdict"] == "allow"
        assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED
        gone = await carla.http.get(f"/approvals/{task}/shown")
        assert gone.status_code == 409 and "does not wait" in gone.json()["error"]
        page = await carla.page(f"/tasks/{task}")
        assert str(escape(SCRIPT)) in page and SCRIPT not in page and "approve by carla" in page


async def test_a_word_goes_no_further_without_its_person_key_and_page(site: Site) -> None:
    task = await waiting_task(site, "web-refused")
    shown = await site.world.shown(task)
    async with site.browser("vera") as vera, site.browser("colin") as colin:
        carlas = site.world.statement(shown, Word.APPROVE, "carla", "controller")
        stolen = sign(carlas, STATEMENT_TYPE, site.world.people["carla"])
        answer = await vera.give("word", stolen)
        assert answer.status_code == 403 and "not signed with the key of vera" in answer.json()["error"]
        veras = site.world.statement(shown, Word.APPROVE, "vera", "controller")
        answer = await vera.say("word", veras, STATEMENT_TYPE)
        assert answer.status_code == 409 and "has not the role" in answer.json()["error"]
        colins = sign(site.world.statement(shown, Word.REJECT, "colin", "controller"), STATEMENT_TYPE, colin.person)
        body = msgspec.json.encode({"signed": colins})
        assert (await colin.http.post("/signed/word", content=body)).status_code == 403
        colin.http.headers["origin"] = "https://evil.example"
        assert (await colin.give("word", colins)).status_code == 403
        del colin.http.headers["origin"]
        colin.http.headers["sec-fetch-site"] = "cross-site"
        assert (await colin.give("word", colins)).status_code == 403
        del colin.http.headers["sec-fetch-site"]
        assert (await colin.give("nothing", colins)).status_code == 404
        assert task in await colin.page("/approvals")
        assert (await colin.give("word", colins)).json()["verdict"] == "deny"
    assert (await site.world.outcome(task)).status is OutcomeStatus.DENIED


async def test_who_loses_the_token_or_the_trust_is_signed_out(site: Site) -> None:
    async with site.browser("anna") as anna:
        await anna.page("/tasks")
        remove_tokens(tokens_path(site.settings), "anna")
        await anna.page("/tasks", 303)
        assert (await anna.http.get("/live")).status_code == 401


async def test_signing_out_needs_the_page_and_ends_the_session(site: Site) -> None:
    async with site.browser("vera") as vera:
        kept = vera.http.cookies
        assert (await vera.http.post("/signout", data={"csrf": "x"})).status_code == 403
        await vera.page("/")
        assert (await vera.form("/signout")).status_code == 303
        vera.http.cookies = kept
        await vera.page("/", 303)


async def quarantined(site: Site, text: str) -> Quarantined:
    return await site.world.quarantined("perception", "", await site.world.publish_bytes(text.encode()))


async def test_an_event_is_mended_and_released_under_the_name_of_who_did_it(site: Site) -> None:
    event = {
        "specversion": "1.0",
        "id": "web-mended",
        "source": "https://ledger.example",
        "type": "ledger.entry.requested",
        "subject": "web-mended",
        "data": {"account": "a", "amount": "many", "kind": "post"},
    }
    item = await quarantined(site, json.dumps(event))
    mended = json.dumps({**event, "data": {"account": "a", "amount": 5, "kind": "post"}})
    async with site.browser("vera") as vera, site.browser("olga") as olga:
        assert "readonly" in await vera.page(f"/quarantine/{item.id}")
        assert (await vera.form(f"/quarantine/{item.id}", mended=mended)).status_code == 403
        assert str(escape('"many"')) in await olga.page(f"/quarantine/{item.id}")
        assert (await olga.http.post(f"/quarantine/{item.id}", data={"mended": mended})).status_code == 403
        wrong = await olga.form(f"/quarantine/{item.id}", mended=mended + "}")
        assert wrong.status_code == 422 and "This is no JSON" in wrong.text
        answer = await olga.form(f"/quarantine/{item.id}", mended=mended)
        assert answer.status_code == 303
        assert item.id in await olga.page(answer.headers["location"])
        await olga.page(f"/quarantine/{item.id}", 404)
    (task,) = await found(site, "web-mended")
    assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED
    note = await site.world.bus.last("QUARANTINE", f"quarantine.released.{item.id}")
    assert note is not None and json.loads(note.data)["person"] == "olga" and json.loads(note.data)["mended"]


async def found(site: Site, text: str) -> list[str]:
    """The tasks that a search finds, once there are any."""
    tasks: list[str] = []
    async with site.browser("vera") as vera:

        async def is_there() -> bool:
            page = await vera.page(f"/tasks?text={text}")
            tasks[:] = [part.partition('"')[0] for part in page.split('<a href="/tasks/')[1:]]
            return bool(tasks)

        await until(is_there)
    return tasks


async def test_tasks_are_found_by_id_event_state_and_words(site: Site) -> None:
    task = await site.world.publish("web-found", amount=7, memo="a needle in hay")
    await site.world.outcome(task)
    for text in (task, task[:8], "web-found", "needle", "need hay"):
        assert task in await found(site, text)
    async with site.browser("vera") as vera:
        await until(lambda: _listed(vera, "/tasks?text=needle&state=completed", task))
        assert task not in await vera.page("/tasks?text=needle&state=denied")
        assert task not in await vera.page("/tasks?text=needle&domain=retail")
        assert "No task is like that" in await vera.page("/tasks?text=%22%27)(*%00OR")
        assert task in await vera.page("/tasks?before=999999999")
        await vera.page("/tasks/unknown", 404)
        await vera.page("/tasks/%3Cscript%3E", 404)


async def _listed(browser: Browser, path: str, task: str) -> bool:
    return task in await browser.page(path)


async def test_a_task_is_replayed_and_nothing_is_done(site: Site) -> None:
    task = await site.world.publish("web-replayed", amount=8)
    await site.world.outcome(task)
    before = site.world.applied()
    async with site.browser("vera") as vera:
        await vera.page(f"/tasks/{task}")
        answer = await vera.form(f"/tasks/{task}/replay")
        assert answer.status_code == 200 and "the same (" in answer.text
    assert site.world.applied() == before


async def test_the_kill_switch_needs_a_signed_act_of_who_may(site: Site) -> None:
    async with site.browser("vera") as vera, site.browser("olga") as olga:
        act = Halt(person="vera", at=now(), reason="drill", domain="ledger", halted=True)
        answer = await vera.say("halt", act, CONTROL_TYPE)
        assert answer.status_code == 200 and "domain ledger is halted" in answer.json()["message"]
        root = site.world.site.admin.public_key
        assert (await read_halts(site.world.bus, root)).find("ledger") is not None
        assert "drill" in await olga.page("/halts") and "drill" in await vera.page("/")
        task = await site.world.publish("web-halted", amount=9)
        again = Halt(person="vera", at=now(), domain="ledger", halted=False)
        answer = await vera.say("halt", again, CONTROL_TYPE)
        assert answer.status_code == 409 and "may not let work go on" in answer.json()["error"]
        old = Halt(person="olga", at=now() - timedelta(minutes=5), domain="ledger", halted=False)
        answer = await olga.say("halt", old, CONTROL_TYPE)
        assert answer.status_code == 409 and "not just now" in answer.json()["error"]
        answer = await olga.say("halt", Halt(person="olga", at=now(), domain="ledger", halted=False), CONTROL_TYPE)
        assert answer.status_code == 200
        replayed = await vera.say("halt", act, CONTROL_TYPE)
        assert replayed.status_code == 409 and "a replay" in replayed.json()["error"]
    assert (await site.world.outcome(task)).status is OutcomeStatus.COMPLETED


async def test_policies_are_shown_as_they_are_in_force(site: Site) -> None:
    async with site.browser("vera") as vera:
        assert "/policies/ledger" in await vera.page("/policies")
        page = await vera.page("/policies/ledger")
        assert str(escape('@reason("above 100.00 a controller approves")')) in page
        await vera.page("/policies/nothing", 404)
        await vera.page("/spending?by=model")
        assert "No Prometheus is set" in await vera.page("/slos")


async def test_a_shadow_is_tried_on_past_tasks_and_nothing_is_done(site: Site) -> None:
    task = await site.world.publish("web-shadow", amount=11, memo="shadowed")
    await site.world.outcome(task)
    shipped = BundleContents.read(POLICIES, "ledger")
    files = {**dict(shipped.files), "ledger.cedar": FORBIDDEN}
    shadow = BundleContents(domain="ledger", files=tuple(sorted(files.items())))
    active = Activation(domain="ledger", digest=shipped.digest, activated_at=now(), shadow=shadow.digest)
    before = site.world.applied()
    async with site.browser("vera") as vera:
        await vera.page("/policies/ledger")
        assert (await vera.form("/policies/ledger")).status_code == 409
        async with site.world.connected("admin") as bus:
            signed = sign(shadow, BUNDLE_TYPE, site.world.site.admin)
            await store_bundle(bus, "ledger", shadow.digest, bytes(signed))
            await publish(bus, site.world.site.admin, shipped, active)
        await until(lambda: _listed(vera, "/tasks?text=shadowed&state=completed", task))
        answer = await vera.form("/policies/ledger")
    assert answer.status_code == 200 and f"/tasks/{task}" in answer.text and "nothing any more" in answer.text
    assert site.world.applied() == before


async def test_a_change_is_told_to_the_pages_that_show_it(site: Site) -> None:
    async with site.browser("vera") as vera:
        told: list[dict[str, object]] = []
        async with vera.http.stream("GET", "/live?topics=tasks,nonsense") as stream:
            task = ""
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    told.append(json.loads(line[6:]))
                    if not task:
                        task = await site.world.publish("web-live", amount=3)
                    if "tasks" in told[-1]["topics"]:  # type: ignore[operator]
                        break
        assert told[0] == {"topics": [], "bus": True} and told[-1]["bus"] is True


async def test_without_the_bus_a_page_says_so_and_comes_back(site: Site) -> None:
    async with site.browser("vera") as vera:
        async with site.world.bus_away():
            async with httpx2.AsyncClient(base_url=site.url) as http:
                await until(lambda: _answers(http, "/health", 503))
            assert "The bus does not answer" in await vera.page("/approvals", 503)
            await vera.page("/tasks")
        await until(lambda: _shows(vera.http, "/approvals"))


async def _answers(http: httpx2.AsyncClient, path: str, status: int) -> bool:
    return (await http.get(path)).status_code == status


async def _shows(http: httpx2.AsyncClient, path: str) -> bool:
    return (await http.get(path)).status_code == 200


async def test_a_released_original_is_the_same_bytes(tmp_path: Path, site: Site) -> None:
    text = '{"specversion": "1.0",\r\n "id": "web-crlf"}'
    item = await quarantined(site, text)
    async with site.browser("olga") as olga:
        await olga.page(f"/quarantine/{item.id}")
        await olga.form(f"/quarantine/{item.id}", mended=text)
    (again,) = [each for each in await _all(site) if each.event_id == "web-crlf" or b"web-crlf" in each.data]
    assert again.data == text.encode() and again.seq > item.seq


async def _all(site: Site) -> list[Quarantined]:
    items: list[Quarantined] = []

    async def is_there() -> bool:
        items[:] = [each for each in await quarantine.waiting(site.world.bus) if b"web-crlf" in each.data]
        return bool(items)

    await until(is_there)
    return items
