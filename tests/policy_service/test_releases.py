"""Publishing, activating and rolling back on a running site: by whom, over what, and never a bundle that is wrong."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import tests.ledger_pack.pack as ledger
from mesh import quarantine, service, subjects
from mesh.activation import (
    ActivateAnswer,
    ActivateRequest,
    Activation,
    PublishAnswer,
    PublishRequest,
    Standing,
    active_key,
    control_key,
    last_on_record,
    recorded,
    standing,
)
from mesh.clock import now
from mesh.identity import Identity
from mesh.pack import load_packs
from mesh.records import Decision
from mesh.service import ServiceError
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, sign
from mesh.trust import revoke
from policy_service.bootstrap import publish_bundles
from policy_service.bundle import BundleContents
from tests.ledger_pack.running import installed, until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

CASES = """
- {name: small, tool: ledger.post, amount: 100,
   facts: &f {frozen: false, amount: 1}, expect: {policies: [small], verdict: allow}}
- {name: none, tool: ledger.post, amount: 2000000, facts: *f, expect: {verdict: deny}}
"""


@dataclass
class Office:
    """A site with a policy admin, and bundles of hers."""

    world: World
    petra: Identity
    folder: Path

    def bundle(self, name: str, *changes: tuple[str, str], cases: str = CASES) -> Path:
        """A folder with the ledger's policies, changed."""
        folder = self.folder / name
        (folder / "cases").mkdir(parents=True)
        for path in ledger.FOLDER.joinpath("policies").iterdir():
            text = path.read_text()
            for old, new in changes:
                text = text.replace(old, new)
            folder.joinpath(path.name).write_text(text)
        folder.joinpath("cases", "ledger.yaml").write_text(f"# {name}\n{cases}")
        return folder

    async def run(self, *args: str, key: Path | None = None, code: int = 0) -> str:
        """``workmesh policy`` with her key; its stdout, or its stderr when it fails."""
        env = {**os.environ, **self.world.env, "WORKMESH_KEY": str(key or self.petra.path)}
        argv = (sys.executable, "-m", "console.main", "policy", *args)
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == code, (args, out.decode(), err.decode())
        return (err if code else out).decode()

    async def json(self, *args: str) -> Any:
        """The same with ``--json``, decoded."""
        return json.loads(await self.run(*args, "--json"))

    async def publish(self, name: str, *changes: tuple[str, str]) -> str:
        """A bundle of hers on the shelf; its digest."""
        folder = self.bundle(name, *changes)
        digest: str = (await self.json("publish", str(folder), "--domain", "ledger"))["digest"]
        return digest

    async def stands(self) -> Standing:
        """What is in force."""
        found = await standing(self.world.bus, "ledger")
        assert found is not None
        return found

    async def decided_under(self, name: str) -> str:
        """The bundle that a new task is decided under."""
        record = (await self.world.record("decision", await self.world.publish(name))).record
        assert isinstance(record, Decision)
        return record.bundle

    async def ask_to_publish(self, contents: BundleContents, signer: Identity | None = None) -> PublishAnswer:
        """Past the command line."""
        request = PublishRequest(signed=sign(contents, BUNDLE_TYPE, signer or self.petra))
        return await service.ask(self.world.bus, "policy", "publish", request, PublishAnswer, timeout_s=20)

    async def ask_to_activate(self, wanted: Activation, signer: Identity | None = None) -> ActivateAnswer:
        """Past the command line."""
        request = ActivateRequest(signed=sign(wanted, ACTIVATION_TYPE, signer or self.petra))
        return await service.ask(self.world.bus, "policy", "activate", request, ActivateAnswer, timeout_s=20)

    async def wanted(self, bundle: str, **changes: Any) -> Activation:
        """An activation that is right, but for the changes."""
        after = await last_on_record(self.world.bus, "ledger")
        right = Activation(domain="ledger", digest=bundle, activated_at=now(), after=after, by="petra", chosen=True)
        return msgspec.structs.replace(right, **changes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    """The whole site."""
    folder = tmp_path_factory.mktemp("w")
    petra = Identity.create(folder / "petra.nk", "petra")
    async with world_in(folder, "perception", "planner", "policy", "executor") as world:
        with installed():
            await world.site.bootstrap(world.url, {petra: ("policy_admin",)})
        yield Office(world, petra, folder / "bundles")


async def test_a_published_bundle_is_in_force_only_once_it_is_activated(office: Office) -> None:
    before = (await office.stands()).activation
    digest = await office.publish("first")
    assert await office.decided_under("published") == before.digest
    done = await office.json("activate", "ledger", digest[:15], "--comment", "the new year")
    assert done["activation"]["digest"] == digest
    await asyncio.sleep(1)  # every process has it within a second: what is promised is the time
    assert await office.decided_under("activated") == digest
    act = (await office.stands()).activation
    assert (act.by, act.comment, act.previous, act.accepted) == (
        "petra",
        "the new year",
        before.digest,
        (before.digest,),
    )
    assert (await office.world.outcome(await office.world.publish("carried-out"))).status == "completed"


async def test_an_activation_is_on_record_to_the_byte(office: Office) -> None:
    await office.run("activate", "ledger", await office.publish("recorded"))
    record = await office.world.bus.last(subjects.JOURNAL, control_key("ledger"))
    bucket = await office.world.bus.last("KV_POLICY", active_key("ledger"))
    assert record is not None and bucket is not None and record.data == bucket.data
    history = await office.json("history", "ledger")
    assert history[0]["activation"]["by"] == "petra"
    assert history[-1]["activation"]["comment"] == "came with the pack"


async def test_rolled_back_it_is_the_one_before_and_the_one_left_permits_nothing(office: Office) -> None:
    first, second, third = [await office.publish(f"back-{number}") for number in range(3)]
    for digest in (first, second, third):
        await office.run("activate", "ledger", digest)
    assert (await office.stands()).activation.accepted == (second,)
    await office.run("rollback", "ledger", "--comment", "it permits too much")
    assert (await office.stands()).activation.digest == second
    assert (await office.stands()).activation.accepted == ()
    await office.run("rollback", "ledger", "--accept-old")
    act = (await office.stands()).activation
    assert (act.digest, act.accepted) == (first, (second,))


async def test_what_is_wrong_with_a_bundle_is_said_and_it_is_not_published(office: Office) -> None:
    shelf = await office.json("list", "ledger")
    folder = office.bundle("failing", ("context.amount <= 10000", "context.amount <= 10"))
    assert "case 'small': verdict deny" in await office.run("publish", str(folder), "--domain", "ledger", code=1)
    folder = office.bundle(
        "uncapped",
        (
            "forbid (principal, action, resource) when { context.amount > 1000000 }",
            "forbid (principal, action, resource) when { context.amount < 0 }",
        ),
    )
    assert "policy huge: permits any amount" in await office.run("publish", str(folder), code=1)
    assert await office.json("list", "ledger") == shelf


WRONG_BUNDLES = [
    ("broken", "permit (principal", "", "petra", "does not parse"),
    ("of a failing case", '"small"', '"tiny"', "petra", "expected small"),
    ("of no case", CASES, "", "petra", "holds no case"),
    ("of a stranger", "", "", "thief", "not enrolled"),
    ("of one without the role", "", "", "carla", "has not the role policy_admin"),
    ("of the policy service itself", "", "", "policy", "has not the role policy_admin"),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "signer", "reason"), WRONG_BUNDLES, ids=[row[0] for row in WRONG_BUNDLES]
)
async def test_the_service_takes_no_bundle_that_is_wrong(
    office: Office, name: str, old: str, new: str, signer: str, reason: str
) -> None:
    contents = BundleContents.read(office.bundle(f"wrong {name}"), "ledger")
    files = tuple((file, text.replace(old, new) if old else text) for file, text in contents.files)
    world = office.world
    signers = {**world.people, "petra": office.petra, "thief": world.thief, "policy": world.site.identity("policy")}
    with pytest.raises(ServiceError, match=reason):
        await office.ask_to_publish(msgspec.structs.replace(contents, files=files), signers[signer])


async def test_the_service_takes_no_bundle_of_a_domain_that_has_no_pack(office: Office) -> None:
    contents = BundleContents.read(office.bundle("no-pack"), "bank")
    with pytest.raises(ServiceError, match="no pack 'bank' is installed here"):
        await office.ask_to_publish(contents)


async def test_an_envelope_counts_once(office: Office) -> None:
    loose, tight = await office.publish("loose"), await office.publish("tight")
    old = await office.wanted(loose)
    await office.ask_to_activate(old)
    await office.ask_to_activate(await office.wanted(tight))
    with pytest.raises(ServiceError, match="this is an old envelope"):
        await office.ask_to_activate(old)
    assert (await office.stands()).activation.digest == tight


async def test_of_two_admins_at_once_one_is_told_to_look_again(office: Office) -> None:
    one, two = await office.publish("one"), await office.publish("two")
    wanted = [await office.wanted(one), await office.wanted(two)]
    on_record = len(await recorded(office.world.bus, "ledger"))
    answers = await asyncio.gather(*(office.ask_to_activate(each) for each in wanted), return_exceptions=True)
    (lost,) = [answer for answer in answers if isinstance(answer, ServiceError)]
    (won,) = [answer for answer in answers if isinstance(answer, ActivateAnswer)]
    assert "look again" in str(lost)
    assert (await office.stands()).activation.digest == won.digest
    assert len(await recorded(office.world.bus, "ledger")) == on_record + 1


async def test_a_crash_between_record_and_bucket_keeps_what_was_in_force_and_stops_nobody(office: Office) -> None:
    before, half, whole = await office.stands(), await office.publish("half"), await office.publish("whole")
    async with office.world.connected("policy") as bus:
        signed = sign(await office.wanted(half), ACTIVATION_TYPE, office.petra)
        await bus.request(control_key("ledger"), bytes(signed))
    assert await office.stands() == before
    await office.run("activate", "ledger", whole)
    act = (await office.stands()).activation
    assert (act.digest, act.previous) == (whole, before.activation.digest)


WRONG_ACTIVATIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("of a bundle that is not there", {"digest": "sha256:" + "0" * 64}, "petra", "publish the bundle first"),
    ("with a shadow that is not there", {"shadow": "sha256:" + "0" * 64}, "petra", "publish the bundle first"),
    ("in another's name", {"by": "carla"}, "petra", "signed by petra"),
    ("without the role", {"by": "carla"}, "carla", "has not the role policy_admin"),
    ("by an agent", {"by": "executor"}, "executor", "has not the role policy_admin"),
    ("of the future", {"activated_at": now() + timedelta(days=1)}, "petra", "set your clock"),
    ("of the past", {"activated_at": now() - timedelta(days=1)}, "petra", "never replaces a newer one"),
    ("that accepts anything", {"accepted": ("sha256:1",)}, "petra", "not accepted now"),
    ("of a domain without a pack", {"domain": "bank"}, "petra", "no pack 'bank'"),
]


@pytest.mark.parametrize(
    ("name", "changes", "signer", "reason"), WRONG_ACTIVATIONS, ids=[row[0] for row in WRONG_ACTIVATIONS]
)
async def test_the_service_takes_no_activation_that_is_wrong(
    office: Office, name: str, changes: dict[str, Any], signer: str, reason: str
) -> None:
    before = await office.stands()
    signers = {**office.world.people, "petra": office.petra, "executor": office.world.site.identity("executor")}
    with pytest.raises(ServiceError, match=reason):
        await office.ask_to_activate(await office.wanted(before.activation.digest, **changes), signers[signer])
    assert await office.stands() == before


async def test_a_broken_bundle_in_the_bucket_is_never_activated(office: Office) -> None:
    """Whoever holds the policy service's own key can put it there."""
    contents = BundleContents.read(office.bundle("sneaked"), "ledger")
    files = tuple((file, text.replace("permit (principal", "permit (")) for file, text in contents.files)
    broken = msgspec.structs.replace(contents, files=files)
    async with office.world.connected("policy") as bus:
        subject = f"$KV.POLICY.bundle.ledger.{broken.digest.removeprefix('sha256:')}"
        await bus.request(subject, bytes(sign(broken, BUNDLE_TYPE, office.petra)))
    with pytest.raises(ServiceError, match=r"ledger\.cedar: does not parse"):
        await office.ask_to_activate(await office.wanted(broken.digest))


async def test_the_list_tells_what_is_in_force_tried_accepted_and_only_there(office: Office) -> None:
    active, tried, spare = [await office.publish(f"listed-{number}") for number in range(3)]
    left = (await office.stands()).activation.digest
    await office.run("activate", "ledger", active)
    await office.run("shadow", "ledger", tried)
    states = {item["digest"]: item for item in await office.json("list", "ledger")}
    assert [states[each]["state"] for each in (active, tried, left, spare)] == [
        "active",
        "shadow",
        "accepted",
        "published",
    ]
    assert (states[active]["activated_by"], states[spare]["published_by"]) == ("petra", "petra")
    await office.run("shadow", "ledger", "--off")
    assert (await office.stands()).activation.shadow == ""
    assert (await office.stands()).activation.accepted == (left,)


async def test_a_fetched_bundle_is_the_one_in_force_to_the_byte(office: Office) -> None:
    digest = await office.publish("fetched")
    await office.run("activate", "ledger", digest)
    folder = office.folder / "fetched again"
    await office.run("fetch", "ledger", "--to", str(folder))
    assert BundleContents.read(folder, "ledger").digest == digest
    assert "exists already" in await office.run("fetch", "ledger", digest, "--to", str(folder), code=2)


async def test_what_a_person_chose_survives_a_start_of_the_site(office: Office) -> None:
    digest = await office.publish("chosen")
    await office.run("activate", "ledger", digest)
    with installed():
        await office.world.site.bootstrap(office.world.url)
    assert (await office.stands()).activation.digest == digest


async def test_a_newer_pack_replaces_what_no_person_chose(office: Office, tmp_path: Path) -> None:
    with installed():
        packs = load_packs(("ledger",))
    async with office.world.connected("admin") as bus:
        other = replace(packs["ledger"], name="other")
        admin = office.world.site.admin
        await publish_bundles(bus, admin, {"other": other})
        first = await standing(bus, "other")
        newer = replace(other, policies=office.bundle("newer-pack"))
        await publish_bundles(bus, admin, {"other": newer})
        second = await standing(bus, "other")
        await publish_bundles(bus, admin, {"other": newer})
        assert first is not None and second is not None
        assert second.activation.digest == BundleContents.read(newer.policies, "other").digest
        assert second.activation.accepted == (first.activation.digest,)
        assert second.activation.previous == first.activation.digest
        assert await standing(bus, "other") == second
        assert [each.activation for each in await recorded(bus, "other")] == [first.activation, second.activation]


async def test_a_permit_under_the_bundle_that_was_rolled_back_is_refused(tmp_path: Path) -> None:
    petra = Identity.create(tmp_path / "petra.nk", "petra")
    async with world_in(tmp_path, "perception", "planner", "policy") as world:
        with installed():
            await world.site.bootstrap(world.url, {petra: ("policy_admin",)})
        office = Office(world, petra, tmp_path / "bundles")
        wrong = await office.publish("wrong")
        await office.run("activate", "ledger", wrong)
        permitted: list[str] = []

        async def is_permitted_by_it() -> bool:
            task = await world.publish(f"permitted-{len(permitted)}")
            permitted.append(task)
            decision = (await world.record("decision", task)).record
            return isinstance(decision, Decision) and decision.bundle == wrong

        await until(is_permitted_by_it)
        await office.run("rollback", "ledger")
        async with world.role("executor"):
            ending = await world.outcome(permitted[-1])
            again = await world.outcome(await world.publish("afterwards"))
        assert (ending.status, again.status) == ("refused", "completed")
        assert "bundle" in ending.reason
        assert world.applied(permitted[-1]) == []


async def test_the_bundle_of_a_revoked_admin_decides_nothing_until_another_one_signs(tmp_path: Path) -> None:
    petra, paul = [Identity.create(tmp_path / f"{name}.nk", name) for name in ("petra", "paul")]
    async with world_in(tmp_path, "perception", "planner", "policy", "executor") as world:
        with installed():
            await world.site.bootstrap(world.url, {petra: ("policy_admin",), paul: ("policy_admin",)})
        office = Office(world, petra, tmp_path / "bundles")
        digest = await office.publish("hers", ("context.amount <= 10000 }", "context.amount <= 9999 }"))
        await office.run("activate", "ledger", digest)
        async with world.connected("admin") as bus:
            await revoke(await bus.client.jetstream().key_value(subjects.TRUST_BUCKET), world.site.admin, "petra")

        async def is_refused() -> bool:
            await world.publish(f"refused-{now().timestamp()}")
            items = await quarantine.waiting(world.bus)
            return any("of petra was revoked" in item.detail for item in items if item.stage == "policy")

        await until(is_refused)
        with installed():
            await world.site.bootstrap(
                world.url
            )  # the pack's own bundle may be looser: it does not come back by itself
        assert (await office.stands()).activation.digest == digest
        assert "was revoked" in await office.run("activate", "ledger", digest, code=1)
        (listed,) = [item for item in await office.json("list", "ledger") if item["digest"] == digest]
        assert (listed["state"], listed["activated_by"]) == ("active", "petra (revoked)")

        await office.run("publish", str(office.folder / "hers"), "--domain", "ledger", key=paul.path)
        await office.run("activate", "ledger", digest, key=paul.path)

        assert (await office.stands()).activation.by == "paul"
        await asyncio.sleep(1)  # every process has it within a second: what is promised is the time
        assert await office.decided_under("decided") == digest


async def test_what_is_not_a_digest_on_the_shelf_is_refused(office: Office) -> None:
    assert "no bundle of ledger" in await office.run("activate", "ledger", "sha256:ffffffffffff", code=1)
    assert "at least 6" in await office.run("activate", "ledger", "sha", code=1)
    await office.run("shadow", "ledger", code=2)


async def test_the_root_key_may_where_no_key_is_given(office: Office) -> None:
    digest = await office.publish("by-root")
    await office.run("activate", "ledger", digest, key=office.world.site.keys / "admin.nk")
    act = (await office.stands()).activation
    assert (act.digest, act.by) == (digest, "admin")
