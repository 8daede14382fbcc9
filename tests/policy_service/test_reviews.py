"""Explaining past decisions, deciding them again under a candidate, and trying one beside the bundle in force."""

import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mesh.activation import bundle_key
from mesh.clock import now
from mesh.identity import Identity
from mesh.ports import free_port
from mesh.records import Causation, Decision, Header, Phase, Verdict, Word
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Assessment
from policy_service.live import LiveBundles
from policy_service.shadow import Shadow
from policy_service.source_text import policy_texts
from tests.ledger_pack.running import installed, until
from tests.ledger_pack.world import world_in
from tests.policy_service.test_releases import Office

site = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.timeout(120)


@dataclass
class Past(Office):
    """A site where things have happened."""

    metrics: str = ""
    tasks: dict[str, str] = field(default_factory=dict)

    async def happen(self) -> None:
        """Some of everything."""
        world = self.world
        for name, amount in {"small": 100, "middle": 5_000, "large": 20_000, "denied": 2_000_000}.items():
            self.tasks[name] = await world.publish(name, amount=amount)
        for name in ("large", "rejected"):
            self.tasks[name] = await world.publish(name, amount=20_000)
            await world.waits(self.tasks[name])
        await world.say(self.tasks["large"], Word.APPROVE)
        await world.say(self.tasks["rejected"], Word.REJECT)
        for task in self.tasks.values():
            await world.outcome(task)

    def counted(self) -> dict[str, float]:
        """What the policy process has counted of shadows: by verdict in force and verdict of the shadow."""
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("workmesh_shadow_decisions_total{")]
        return {line.partition("live=")[2].partition("}")[0]: float(line.rpartition(" ")[2]) for line in found}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def past(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Past]:
    """The whole site."""
    folder = tmp_path_factory.mktemp("w")
    petra = Identity.create(folder / "petra.nk", "petra")
    port = free_port()
    async with world_in(folder, "perception", "planner", "executor") as world:
        with installed():
            await world.site.bootstrap(world.url, {petra: ("policy_admin",)})
        async with world.role("policy", env={"WORKMESH_METRICS__PORT": str(port)}):
            found = Past(world, petra, folder / "bundles", f"http://127.0.0.1:{port}/metrics")
            await found.happen()
            yield found


@site
async def test_an_allowed_step_is_explained_by_the_policy_as_it_was_written(past: Past) -> None:
    found = await past.json("explain", past.tasks["small"])
    (decision,) = found["decisions"]
    (step,) = decision["steps"]
    assert (decision["verdict"], decision["again"], step["tool"]) == ("allow", "allow", "ledger.post")
    assert [policy["id"] for policy in step["policies"]] == ["small"]
    assert step["policies"][0]["text"].startswith('@id("small")\n@reason("up to 100.00 nobody is asked")\npermit (')
    request = step["requests"][0]
    assert (request["principal"], request["action"]) == ('Agent::"planner"', 'Action::"propose"')
    assert request["context"]["amount"] == 100 and request["context"]["facts"]["frozen"] is False
    why = {(each["id"], each["action"]): each["why"] for each in step["unapplied"]}
    assert why["large", "propose"] == ["context.amount > 10000 is false: context.amount is 100"]
    assert why["huge-approved", "execute"][0] == "context.amount > 50000 is false: context.amount is 100"
    assert ("large-approved", "propose") not in why


@site
async def test_an_approval_is_explained_by_what_was_missing_before_it_and_what_applied_after(past: Past) -> None:
    before, after = (await past.json("explain", past.tasks["large"]))["decisions"]
    assert (before["verdict"], after["verdict"], after["approvals"]) == ("needs_approval", "allow", ["controller"])
    why = {each["id"]: each["why"] for each in before["steps"][0]["unapplied"]}
    assert why["large-approved"] == ['context.approvals.contains("controller") is false: context.approvals is []']
    assert {policy["id"] for policy in after["steps"][0]["policies"]} == {"large", "large-approved"}


@site
async def test_a_denial_is_explained_by_what_stood_in_the_way(past: Past) -> None:
    (decision,) = (await past.json("explain", past.tasks["denied"]))["decisions"]
    assert [policy["id"] for policy in decision["steps"][0]["policies"]] == ["limit"]
    shown = await past.run("explain", past.tasks["denied"])
    assert (
        "above the limit" in shown
        and "forbid (principal, action, resource) when { context.amount > 1000000 };" in shown
    )


@site
async def test_what_a_person_decided_is_told_apart(past: Past) -> None:
    found = await past.json("explain", past.tasks["rejected"])
    assert [decision["phase"] for decision in found["decisions"]] == ["propose"]
    assert "carla (controller) rejected it" in found["others"][0]


@site
async def test_what_cannot_be_explained_is_said(past: Past) -> None:
    assert "no task 'nothing'" in await past.run("explain", "nothing", code=1)
    task = await past.world.publish("gone")
    decision = (await past.world.record("decision", task)).record
    assert isinstance(decision, Decision)
    subject = bundle_key("ledger", decision.bundle)
    async with past.world.connected("admin") as bus:
        kept = await bus.last("KV_POLICY", subject)
        assert kept is not None
        await bus.request(subject, b"", {"KV-Operation": "DEL"})
        try:
            assert "is not in the bucket POLICY" in await past.run("explain", task, code=1)
            assert await past.json("list", "ledger") == []
        finally:
            await bus.request(subject, kept.data)


def _group(report: dict[str, Any], **wanted: object) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [group for group in report["groups"] if all(group[key] == value for key, value in wanted.items())]
    return found


@site
async def test_the_same_bundle_changes_nothing(past: Past) -> None:
    report = await past.json("diff", str(past.bundle("same")), "--domain", "ledger")
    assert (report["changed"], report["groups"]) == (0, [])
    assert report["decisions"] == report["stayed"] >= 6
    assert report["undecided"] == 1


@site
async def test_a_stricter_candidate_shows_what_it_changes_with_examples_and_the_money(past: Past) -> None:
    folder = past.bundle(
        "strict",
        ("context.amount <= 10000 }", "context.amount <= 1000 }"),
        ("context.amount > 10000 ", "context.amount > 1000 "),
    )
    report = await past.json("diff", str(folder), "--domain", "ledger")
    (group,) = report["groups"]
    assert (group["tool"], group["before"], group["after"]) == ("ledger.post", "allow", "needs_approval")
    assert (group["policies_before"], group["policies_after"]) == (["small"], ["large"])
    assert group["at_stake"] == [{"amount": 5_000, "currency": "USD"}]
    assert (group["count"], group["examples"]) == (1, [past.tasks["middle"]])
    shown = await past.run("diff", str(folder), "--domain", "ledger")
    assert "allow -> needs_approval" in shown and "50.00 USD" in shown and "1 steps change" in shown


@site
async def test_approvals_on_record_count_under_the_candidate_too(past: Past) -> None:
    folder = past.bundle(
        "capped",
        ("context.amount <= 50000", "context.amount <= 15000"),
        ("context.amount > 50000", "context.amount > 15000"),
    )
    report = await past.json("diff", str(folder), "--domain", "ledger")
    again = _group(report, phase="execute")
    assert (again["before"], again["after"], again["examples"]) == ("allow", "needs_approval", [past.tasks["large"]])


@site
async def test_only_what_came_since_a_time_is_looked_at(past: Past) -> None:
    folder = str(past.bundle("since"))
    at = now()
    task = await past.world.publish("since", amount=1)
    await past.world.outcome(task)
    assert (await past.json("diff", folder, "--domain", "ledger", "--since", at.isoformat()))["decisions"] == 1
    assert (await past.json("diff", folder, "--domain", "ledger", "--since", "2999-01-01"))["decisions"] == 0
    assert "no time in ISO 8601" in await past.run("diff", folder, "--since", "yesterday", code=2)


@site
async def test_a_shadow_is_counted_and_decides_nothing(past: Past) -> None:
    strict = await past.publish(
        "shadow",
        ("context.amount <= 10000 }", "context.amount <= 1000 }"),
        ("context.amount > 10000 ", "context.amount > 1000 "),
    )
    assert past.counted() == {}
    await past.run("shadow", "ledger", strict)
    before = (await past.stands()).activation
    assert before.shadow == strict

    async def is_tried() -> bool:
        await past.world.outcome(await past.world.publish(f"try-{now().timestamp()}", amount=1))
        return bool(past.counted())

    await until(is_tried)
    task = await past.world.publish("differs", amount=5_000)
    assert (await past.world.outcome(task)).status == "completed"
    assert (await past.json("explain", task))["decisions"][0]["bundle"] == before.digest
    counted = past.counted()
    assert counted['"allow",shadow="needs_approval"'] == 1 and counted['"allow",shadow="allow"'] >= 1
    await past.run("shadow", "ledger", "--off")


class _Shelf(LiveBundles):
    """Bundles of which the shadow cannot be had."""

    def __init__(self, error: Exception | None, bundle: Bundle | None = None) -> None:
        self.error = error
        self.bundle = bundle
        self.asked = 0

    def shadow(self, domain: str) -> str:
        return "sha256:tried" if domain == "till" else ""

    async def by_digest(self, domain: str, digest: str) -> Bundle:
        self.asked += 1
        if self.error is not None:
            raise self.error
        assert self.bundle is not None
        return self.bundle


ALLOWED = Assessment(verdict=Verdict.ALLOW)


def made(domain: str) -> Decision:
    """A decision that allows."""
    causation = Causation(stream="JOURNAL", subject="task.plan.till.t.-", seq=1)
    header = Header(task_id="t", domain=domain, causation=causation, writer="policy/1", at=now())
    return Decision(header=header, phase=Phase.PROPOSE, verdict=Verdict.ALLOW, plan_digest="", bundle="", steps=())


async def test_a_shadow_that_cannot_be_had_harms_nothing_and_is_not_asked_for_each_time() -> None:
    shelf = _Shelf(RuntimeError("broken"))
    shadow = Shadow(shelf)
    for _ in range(3):
        await shadow.compare(made("till"), lambda bundle: ALLOWED)
    assert shelf.asked == 1


async def test_a_shadow_that_raises_harms_nothing(retail_bundle: Bundle) -> None:
    def fail(bundle: Bundle) -> Assessment:
        raise ZeroDivisionError

    await Shadow(_Shelf(None, retail_bundle)).compare(made("till"), fail)


async def test_without_a_shadow_nothing_is_decided_twice(retail_bundle: Bundle) -> None:
    shelf = _Shelf(None, retail_bundle)
    await Shadow(shelf).compare(made("other"), lambda bundle: pytest.fail("decided twice"))
    assert shelf.asked == 0


def test_the_text_of_a_policy_is_found_whatever_stands_in_strings_and_comments() -> None:
    text = """
// a; comment with @id("no")
@id("one") @reason("a; \\" // b")
permit (principal, action, resource) // why; so
when { context.tool == "x;y" };
@id("two") forbid (principal, action, resource);
permit (principal, action, resource);
"""
    found = policy_texts(text)
    assert list(found) == ["one", "two"]
    assert found["one"].startswith('@id("one")') and found["one"].endswith('"x;y" };')
    assert found["two"] == '@id("two") forbid (principal, action, resource);'


def test_every_policy_of_the_retail_pack_has_its_text(retail_bundle: Bundle) -> None:
    texts: dict[str, str] = {}
    for name, text in retail_bundle.contents.files:
        if name.endswith(".cedar"):
            texts |= policy_texts(text)
    assert set(texts) == set(retail_bundle.policies)


@pytest.fixture(scope="module")
def retail_bundle(retail_policies: Path) -> Bundle:
    """The shop's policies, compiled."""
    return Bundle.load(BundleContents.read(retail_policies, "retail"))
