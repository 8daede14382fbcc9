"""The console in a real browser, over a real site: what people do there, and what their key never does."""

import json
import random
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Request, Route, async_playwright, expect

from console.slo.objectives import read_objectives
from console.web.places import url_path
from mesh import service
from mesh.canonical import canonical_json, digest, task_id
from mesh.clock import now
from mesh.facts import Claim, Source, SourceKind
from mesh.halts import read_halts
from mesh.journal import Journal, Write, committing
from mesh.memory import RememberAnswer, RememberRequest
from mesh.ports import free_port
from mesh.records import (
    AnyRecord,
    Causation,
    Context,
    Decision,
    Event,
    Header,
    Outcome,
    OutcomeStatus,
    Phase,
    StepVerdict,
    Verdict,
)
from tests.console.web.running_console import ROLES, Site, site_in
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in
from tests.ops.prometheus import prometheus

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LARGE = 20_000  # a controller approves
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SCRIPT = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
AUTONOMY = """
start: supervised
approvers: controller
promoters: owner
raise_when: {window: P1D, tasks: 3, override_rate: 0.4, error_rate: 0.1}
lower_when: {window: P1D, tasks: 3, override_rate: 0.4, error_rate: 0.3}
tools: [{tool: ledger.wire, approve_above: 500}]
"""
WAIT_MS = 20_000

expect.set_options(timeout=WAIT_MS)


@dataclass
class Person:
    """Somebody at a browser of their own; all that it sent, and all that it complained of."""

    name: str
    key: Path
    context: BrowserContext
    page: Page
    url: str
    sent: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def bring_key(self) -> None:
        await self.open("/keys")
        await self.page.set_input_files("#key-file", self.key)
        await expect(self.page.locator("#key-now")).to_contain_text("can only sign")

    def on_request(self, request: Request) -> None:
        self.sent.append(f"{request.method} {request.url} {request.headers} {request.post_data or ''}")


@dataclass
class Console:
    """The site, and a browser for each person."""

    site: Site
    browser: Browser

    @asynccontextmanager
    async def person(self, name: str, *, key: bool = True, **options: object) -> AsyncIterator[Person]:
        """Somebody who has signed in by typing a token."""
        context = await self.browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(WAIT_MS)
        page = await context.new_page()
        person = Person(name, self.site.people[name].path, context, page, self.site.url)
        page.on("request", person.on_request)
        page.on("console", lambda said: person.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: person.complaints.append(str(error)))
        try:
            await person.open("/")
            await page.fill("#token", self.site.token(name))
            await page.click("main button")
            await expect(page.locator("h1")).to_have_text("Overview")
            if key:
                await person.bring_key()
            yield person
        finally:
            await context.close()

    async def waiting(self, event_id: str, **data: object) -> str:
        task = await self.site.world.publish(event_id, amount=LARGE, **data)  # type: ignore[arg-type]
        await self.site.world.waits(task)
        return task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    chromium = shutil.which("chromium")
    assert chromium, "make test-ops installs chromium"
    port = str(free_port())  # one of its own: pages find the console again when it comes back
    (folder / "targets.json").write_text("[]")
    with prometheus(folder / "prometheus", folder / "targets.json") as measured:
        env = {"WORKMESH_CONSOLE__PORT": port, "WORKMESH_CONSOLE__PROMETHEUS_URL": measured.url}
        running = site_in(folder, *ROLES, "learner", govern={"autonomy.yaml": AUTONOMY}, env=env)
        async with running as site, async_playwright() as play:
            await site.enroll("mona", "memory_steward")
            browser = await play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            try:
                yield Console(site, browser)
            finally:
                await browser.close()


async def test_objectives_that_nothing_was_counted_of_are_unknown(console: Console) -> None:
    async with console.person("vera", key=False) as vera:
        await vera.open("/slos")
        await expect(vera.page.locator("section.card .chip")).to_have_text(["unknown"] * len(read_objectives()))


async def test_a_plan_is_approved_with_a_key_that_never_leaves_the_browser(console: Console) -> None:
    task = await console.waiting("br-approve", memo=SCRIPT)
    async with console.person("carla") as carla:
        await carla.open("/approvals?mine=1")
        await carla.page.click(f'a[href="/approvals/{task}"]')
        await expect(carla.page.locator(".step pre").first).to_have_text(re.compile('"amount": 20000'))
        await expect(carla.page.locator("#approval")).to_contain_text("computed here from what is shown")
        await carla.page.click("text=What the event says")
        assert await carla.page.title() != "ran"
        await carla.page.click("#approve")
        await expect(carla.page.locator("#state .good")).to_contain_text("allow")
        outcome = await console.site.world.outcome(task)
        assert outcome.status is OutcomeStatus.COMPLETED
        await carla.open(f"/tasks/{task}")
        await expect(carla.page.locator(".timeline")).to_contain_text("carla as controller: approve")
        await carla.page.click("text=What the event says")
        await expect(carla.page.locator("details pre")).to_contain_text("<script>document.title='ran'</script>")
        assert await carla.page.title() != "ran"
        seed = carla.key.read_text().strip()
        assert any("/signed/word" in each for each in carla.sent)
        assert not [each for each in carla.sent if seed in each or seed[4:40] in each]
        kept = await carla.page.evaluate(_READ_OUT)
        assert kept == {"extractable": False, "error": "InvalidAccessError"}
        # The page that shows an approval asks again once it is decided, and is told that nothing waits.
        assert [each for each in carla.complaints if "409" not in each] == []


_READ_OUT = """async () => {
  const { kept } = await import("/static/keys.js");
  const { key } = await kept();
  try { await crypto.subtle.exportKey("pkcs8", key); return { extractable: key.extractable, error: "" }; }
  catch (error) { return { extractable: key.extractable, error: error.name }; }
}"""


async def test_a_plan_that_is_not_what_is_shown_is_not_signed(console: Console) -> None:
    task = await console.waiting("br-lie")
    async with console.person("carla") as carla:

        async def lie(route: Route) -> None:
            told = await (await route.fetch()).text()
            await route.fulfill(body=told.replace('"amount":20000}', '"amount":200}'), content_type="application/json")

        await carla.page.route("**/shown", lie)
        await carla.open(f"/approvals/{task}")
        await expect(carla.page.locator("#wrong")).to_contain_text("Sign nothing")
        await expect(carla.page.locator("#approve")).to_have_count(0)


async def test_a_digest_is_the_same_in_the_browser(console: Console) -> None:
    chance = random.Random(7)
    texts = ["", '\x7f\x00\x1f\b\f\n\r\t/"\\', "é\u2028\u2029\U0001f600", "</script>", "a b"]
    numbers = [0, -1, 2**53 + 1, 10**30, 1.0, -0.0, 1e16, 1e-7, 0.1, 123456.789, 5e-324, 1.7976931348623157e308]

    def some(depth: int) -> object:
        kind = chance.randrange(8 if depth else 4)
        if kind < 4:
            return chance.choice([*texts, *numbers, None, True, False])
        if kind < 6:
            return [some(depth - 1) for _ in range(chance.randrange(4))]
        return {chance.choice([*texts, "é", "\uffff", "z", "B"]): some(depth - 1) for _ in range(chance.randrange(5))}

    values = [*texts, *numbers, *(some(5) for _ in range(300))]
    async with console.person("vera", key=False) as vera:
        found = await vera.page.evaluate(_DIGESTS, [canonical_json(value).decode() for value in values])
        spaced = await vera.page.evaluate(_DIGESTS, [json.dumps(value, indent=1) for value in texts])
    assert found == [digest(value) for value in values]
    assert spaced == [digest(value) for value in texts]


_DIGESTS = """async (texts) => {
  const { digest, parse } = await import("/static/canonical.js");
  return Promise.all(texts.map((text) => digest(parse(text))));
}"""


async def test_a_plan_is_rejected_with_a_comment(console: Console) -> None:
    task = await console.waiting("br-reject")
    async with console.person("carla") as carla:
        await carla.open(f"/approvals/{task}")
        await carla.page.fill("#comment", "not this quarter")
        await carla.page.click("#reject")
        await expect(carla.page.locator("#state .bad")).to_contain_text("not this quarter")
        await expect(carla.page.locator("#approval")).to_contain_text("What became of the task")
    assert (await console.site.world.outcome(task)).status is OutcomeStatus.DENIED


async def test_a_plan_is_corrected_and_another_person_approves_it(console: Console) -> None:
    task = await console.waiting("br-correct", account="br-correct")
    async with console.person("carla") as carla, console.person("colin") as colin:
        await carla.open(f"/approvals/{task}")
        await carla.page.click("#edit")
        await carla.page.click("#sign-correction")
        await expect(carla.page.locator("#state")).to_contain_text("nothing is changed")
        edited = (await carla.page.input_value("#args-1")).replace("20000", "15000")
        await carla.page.fill("#args-1", edited)
        await carla.page.click("#sign-correction")
        await expect(carla.page.locator("#state .good")).to_contain_text("corrected")
        await until(lambda: _amount(console, task, "15000"))
        await colin.open(f"/approvals/{task}")
        await expect(colin.page.locator(".step pre").first).to_have_text(re.compile('"amount": 15000'))
        await expect(colin.page.locator("#approval")).to_contain_text("corrected by carla")
        await colin.page.click("#approve")
        await expect(colin.page.locator("#state .good")).to_contain_text("allow")
    assert (await console.site.world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert [amount for _, _, amount in console.site.world.applied(account="br-correct")] == [15000]


async def _amount(console: Console, task: str, amount: str) -> bool:
    waiting = await console.site.world.waiting()
    return task in waiting and amount in str(bytes((await console.site.world.shown(task)).steps[0].call.args))


async def test_of_two_at_one_approval_the_second_sees_what_became_of_it(console: Console) -> None:
    task = await console.waiting("br-two")
    async with console.person("carla") as carla, console.person("colin") as colin:
        for each in (carla, colin):
            await each.open(f"/approvals/{task}")
            await expect(each.page.locator("#approve")).to_be_enabled()
        await carla.page.click("#approve")
        await expect(carla.page.locator("#state .good")).to_contain_text("allow")
        await expect(colin.page.locator("#state")).to_contain_text("does not wait")
        await expect(colin.page.locator("#approve")).to_have_count(0)


async def test_a_viewer_looks_and_the_key_of_another_is_not_taken(console: Console) -> None:
    task = await console.waiting("br-viewer")
    async with console.person("vera", key=False) as vera:
        await vera.open(f"/approvals/{task}")
        await expect(vera.page.locator("#not-yours")).to_contain_text("You may look")
        await expect(vera.page.locator("#approve")).to_have_count(0)
        await vera.open("/keys")
        await vera.page.set_input_files("#key-file", console.site.world.people["carla"].path)
        await expect(vera.page.locator("#key-problem")).to_contain_text("but vera is enrolled with")
        damaged = console.site.world.folder / "damaged.nk"
        seed = vera.key.read_text()
        damaged.write_text(seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:])
        await vera.page.set_input_files("#key-file", damaged)
        await expect(vera.page.locator("#key-problem")).to_contain_text("checksum")


async def test_what_is_in_quarantine_is_mended_and_released(console: Console) -> None:
    event = {
        "specversion": "1.0",
        "id": "br-mended",
        "source": "https://ledger.example",
        "type": "ledger.entry.requested",
        "subject": "br-mended",
        "data": {"account": "br-mended", "amount": "many", "kind": "post"},
    }
    world = console.site.world
    async with console.person("olga", key=False) as olga:
        await olga.open("/quarantine")
        item = await world.quarantined("perception", "", await world.publish_bytes(json.dumps(event).encode()))
        await olga.page.click(f'a[href="/quarantine/{item.id}"]')  # it has come while the page was open
        text = await olga.page.input_value("#original")
        await olga.page.fill("#original", text.replace('"many"', "5"))
        await olga.page.click("main form button")
        await expect(olga.page.locator(".notice.good")).to_contain_text("Released")
    await until(lambda: bool(world.applied(account="br-mended")))


async def test_the_kill_switch_is_signed_and_seen_by_others_at_once(console: Console) -> None:
    world = console.site.world
    async with console.person("olga") as olga, console.person("vera", key=False) as vera:
        await vera.open("/")
        await olga.open("/halts")
        await expect(olga.page.locator("#part-list")).to_contain_text("Nothing is halted")
        await olga.page.select_option("#halt-domain", "ledger")
        await olga.page.fill("#halt-reason", "a drill")
        await olga.page.click("main button.danger")
        await expect(olga.page.locator("#signing-payload")).to_contain_text('"domain": "ledger"')
        await olga.page.click("#signing-yes")
        await expect(vera.page.locator("#halted")).to_contain_text("a drill")
        root = world.site.admin.public_key
        assert (await read_halts(world.bus, root)).find("ledger") is not None
        await olga.page.click("#part-list button")
        await olga.page.click("#signing-yes")
        await expect(vera.page.locator("#halted")).not_to_contain_text("a drill")
        assert (await read_halts(world.bus, root)).find("ledger") is None


async def test_a_page_left_open_heals_after_the_bus_and_the_console_were_away(console: Console) -> None:
    world = console.site.world
    async with console.person("carla") as carla:
        await carla.open("/approvals")
        async with world.bus_away():
            await expect(carla.page.locator("#offline")).to_be_visible()
        await expect(carla.page.locator("#offline")).to_be_hidden()
        task = await console.waiting("br-healed")
        await expect(carla.page.locator(f'a[href="/approvals/{task}"]')).to_be_visible()
        await console.site.console.kill()
        after = await console.waiting("br-healed-again")
        await expect(carla.page.locator(f'a[href="/approvals/{after}"]')).to_be_visible()
        await expect(carla.page.locator("#offline")).to_be_hidden()


async def test_the_keyboard_alone_leads_to_an_approval(console: Console) -> None:
    task = await console.waiting("br-keyboard")
    async with console.person("carla") as carla:
        await carla.open(f"/approvals/{task}")
        await expect(carla.page.locator("#approve")).to_be_visible()
        await carla.page.keyboard.press("Tab")
        assert await carla.page.evaluate("document.activeElement.className") == "skip"
        await carla.page.keyboard.press("Enter")

        async def at_approve() -> bool:
            await carla.page.keyboard.press("Tab")
            return bool(await carla.page.evaluate("document.activeElement.id") == "approve")

        await until(at_approve)
        await carla.page.keyboard.press("Enter")
        await expect(carla.page.locator("#state .good")).to_contain_text("allow")


async def contested(console: Console, subject: str) -> str:
    """The id of a fact that contradicts one of more authority."""
    claims = tuple(
        Claim(
            subject=subject,
            predicate="owner",
            value=msgspec.Raw(msgspec.json.encode(name)),
            text=f"{subject} belongs to {name} {SCRIPT}",
            source=Source(uri=f"https://{name}.example", kind=SourceKind.DOCUMENT, authority=authority),
        )
        for name, authority in (("ann", 1), ("bert", 0))
    )
    found = ""
    for claim in claims:
        request = RememberRequest(claims=(claim,), by="tests")
        answer = await service.ask(console.site.world.bus, "memory", "remember", request, RememberAnswer)
        found = answer.facts[0].fact.id
    return found


async def test_a_steward_has_one_of_two_facts_stand(console: Console) -> None:
    fact = await contested(console, "account/a")
    async with console.person("mona") as mona:
        await mona.open("/facts")
        await mona.page.click("#part-list a")
        await expect(mona.page.locator("h1")).to_have_text("owner of account/a")
        await mona.page.fill("section.card input >> nth=0", "the register says so")
        await mona.page.click("section.card form button >> nth=0")
        await expect(mona.page.locator("#signing-payload")).to_contain_text(fact)
        await mona.page.click("#signing-yes")
        await expect(mona.page.locator(".answer.good").first).to_contain_text("judged anew")
        await mona.open("/facts")
        await expect(mona.page.locator("#part-list")).to_contain_text("Nothing is contested")
        assert await mona.page.title() != "ran"


async def test_a_stage_is_lowered_by_the_word_of_its_owner(console: Console) -> None:
    async with console.person("otto") as otto:
        await otto.open("/autonomy")
        await expect(otto.page.locator("#tool-1")).to_contain_text("ledger.wire supervised")
        lower = otto.page.locator("section.card").first.locator("form").last
        await lower.locator("input").fill("an audit")
        await lower.locator("button").click()
        await otto.page.click("#signing-yes")
        await expect(otto.page.locator("#tool-1")).to_contain_text("ledger.wire propose")


async def test_pages_are_accessible_in_light_and_dark_and_on_a_phone(console: Console) -> None:
    world = console.site.world
    task = await console.waiting("br-axe", memo=SCRIPT)
    item = await world.quarantined("perception", "", await world.publish_bytes(b"{}"))
    fact = await contested(console, "account/b")
    paths = (
        *("/", "/approvals", f"/approvals/{task}", "/tasks", f"/tasks/{task}", "/facts", f"/facts/{fact}", "/keys"),
        *("/quarantine", f"/quarantine/{item.id}", "/policies", "/policies/ledger", "/learning", "/autonomy"),
        *("/halts", "/slos", "/spending", "/nowhere"),
    )
    assert AXE.is_file(), "make test-ops installs it"
    wrong: list[str] = []
    for scheme, width in (("light", 1280), ("dark", 360)):
        look: dict[str, object] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
        async with console.person("carla", key=False, bypass_csp=True, **look) as carla:
            for path in paths:
                await carla.open(path)
                if path.startswith("/approvals/"):
                    await expect(carla.page.locator("#approve")).to_be_visible()
                await carla.page.evaluate(AXE.read_text(encoding="utf-8"))
                found = await carla.page.evaluate("axe.run().then(found => found.violations)")
                wrong += [f"{scheme} {path} {each['id']}: {each['nodes'][0]['html'][:150]}" for each in found]
                wide = await carla.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                wrong += [f"{scheme} {path} is {wide} px too wide"] if wide > 0 else []
    assert wrong == []


async def test_ten_thousand_tasks_and_five_hundred_approvals_stay_fast(console: Console, tmp_path: Path) -> None:
    async with world_in(tmp_path, env={"WORKMESH_CONSOLE__PORT": "0"}) as world:
        await _write(world, "perception", [_context(number) for number in range(10_000)])
        await _write(world, "perception", [_denied(number) for number in range(9_500)])
        await _write(world, "policy", [_asked(number) for number in range(9_500, 10_000)])
        async with world.roles("policy"), world.role("console") as running:
            url = url_path(world.site.settings).read_text().strip()
            many = Console(Site(world, running, url), console.browser)
            await until(lambda: _has_waiting(world, 500))
            async with many.person("carla", key=False) as carla:
                await until(lambda: _counted(carla, 10_000))
                for path in ("/", "/approvals", "/tasks", "/tasks?text=many-77", "/tasks?state=denied&before=9000"):
                    painted = [await _first_paint(carla, path) for _ in range(3)]
                    sys.stdout.write(f"{path}: first paint {', '.join(f'{each:.0f}' for each in painted)} ms\n")
                    assert min(painted) < 1000, path
                await expect(carla.page.locator("tbody tr")).to_have_count(50)


def _header(number: int, kind: str = "context") -> Header:
    cause = Causation(stream="EVENTS", subject="event.ledger.entry.requested", seq=number + 1)
    task = task_id("https://ledger.example", f"many-{number}")
    return Header(task_id=task, domain="ledger", causation=cause, writer=f"{kind}/1", at=now())


def _context(number: int) -> Context:
    event = Event(
        id=f"many-{number}",
        source="https://ledger.example",
        type="ledger.entry.requested",
        time=None,
        digest="",
        seq=number + 1,
        accepted_at=now(),
    )
    data = msgspec.Raw(msgspec.json.encode({"account": f"account-{number}", "amount": number, "memo": "one of many"}))
    return Context(header=_header(number), event=event, data=data, entity=f"account-{number}")


def _denied(number: int) -> Outcome:
    return Outcome(header=_header(number), status=OutcomeStatus.DENIED, reason="above the limit")


def _asked(number: int) -> Decision:
    step = StepVerdict(step="enter", verdict=Verdict.NEEDS_APPROVAL, policies=("large",), roles=("controller",))
    return Decision(
        header=_header(number, "policy"),
        phase=Phase.PROPOSE,
        verdict=Verdict.NEEDS_APPROVAL,
        plan_digest="sha256:0",
        bundle="sha256:0",
        steps=(step,),
        reason="waits for approval by controller: above 100.00 a controller approves",
        approve_by=now() + timedelta(days=3),
    )


async def _write(world: World, role: str, records: Sequence[AnyRecord]) -> None:
    """Have a role's key write records, as fast as the bus takes them."""
    async with world.connected(role) as bus, committing(bus) as committer:
        journal = Journal(bus, committer)
        for start in range(0, len(records), 250):
            await journal.commit(*(Write(record) for record in records[start : start + 250]))


async def _has_waiting(world: World, number: int) -> bool:
    return len(await world.waiting()) >= number


async def _counted(person: Person, number: int) -> bool:
    await person.open("/")
    chips = await person.page.locator("#part-states .chips b").all_inner_texts()
    return sum(int(each) for each in chips) >= number


async def _first_paint(person: Person, path: str) -> float:
    await person.open(path)
    await person.page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    return float(await person.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
