"""Planner and policy again from the journal alone: the same on what is recorded, and what differs is said."""

import dataclasses
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

import tests.ledger_pack.pack as ledger
from console.replay import payload_of
from mesh.activation import bundle_key
from mesh.records import Decision, Word
from mesh.replay import Recorded, Replayed, load_replays
from policy_service.bundle import BundleContents
from tests.ledger_pack.running import installed
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


async def recorded(world: World, task: str) -> Recorded:
    """What the journal holds of a task."""
    items = await world.journal.history(task)
    digests = dict.fromkeys(item.record.bundle for item in items if isinstance(item.record, Decision))
    bundles = []
    for digest in digests:
        message = await world.bus.last("KV_POLICY", bundle_key("ledger", digest))
        assert message is not None
        bundles.append(payload_of(msgspec.Raw(message.data)))
    return Recorded(items, bundles)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tasks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Recorded]]:
    """Tasks of each kind, on a site that is gone by the time they are looked at."""
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy", "executor") as world:
        named = {
            "done": await world.publish("done"),
            "moved": await world.publish("moved", "move"),
            "refused": await world.publish("refused", amount=-1),
            "denied": await world.publish("denied", amount=2_000_000),
            "approved": await world.publish("approved", amount=60_000),
            "rejected": await world.publish("rejected", amount=20_000),
            "frozen": await world.publish("frozen", amount=20_000, account="f"),
        }
        for name in ("approved", "rejected", "frozen"):
            await world.waits(named[name])
        await world.say(named["approved"], Word.APPROVE)
        await world.say(named["approved"], Word.APPROVE, "anna", "auditor")
        await world.say(named["rejected"], Word.REJECT)
        world.freeze("f")
        await world.say(named["frozen"], Word.APPROVE)
        for task in named.values():
            await world.outcome(task)
        found = {name: await recorded(world, task) for name, task in named.items()}
    yield found


@pytest.fixture(autouse=True)
def no_network(tasks: dict[str, Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a replay needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


def again(what: Recorded) -> dict[str, Replayed]:
    """Both stages again, with the ledger pack as it is installed."""
    with installed():
        return {name: replay(what) for name, replay in load_replays().items()}


RECORDS = {"done": 1, "moved": 1, "refused": 0, "denied": 1, "approved": 2, "rejected": 1, "frozen": 2}


@pytest.mark.parametrize("name", RECORDS)
async def test_an_untouched_journal_replays_the_same(tasks: dict[str, Recorded], name: str) -> None:
    found = again(tasks[name])
    assert {stage: replayed.differences for stage, replayed in found.items()} == {"planner": (), "policy": ()}
    assert (found["planner"].records, found["policy"].records) == (1, RECORDS[name])


async def test_a_changed_playbook_shows_in_the_plan(
    tasks: dict[str, Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "playbooks"
    shutil.copytree(ledger.pack.playbooks, folder)
    text = (folder / "post.yaml").read_text()
    (folder / "post.yaml").write_text(text.replace("amount: data.amount}", "amount: data.amount + 1}"))
    monkeypatch.setattr(ledger, "pack", dataclasses.replace(ledger.pack, playbooks=folder))
    differences = {each.field: each for each in again(tasks["done"])["planner"].differences}
    assert set(differences) == {"playbook_digest", "digest", "steps"}
    assert b'"amount":100' in bytes(differences["steps"].recorded)
    assert b'"amount":101' in bytes(differences["steps"].replayed)
    assert again(tasks["moved"])["planner"].differences == ()


async def test_another_bundle_shows_in_the_decision(tasks: dict[str, Recorded]) -> None:
    contents = msgspec.json.decode(tasks["done"].bundles[0], type=BundleContents)
    files = tuple((name, text.replace("<= 10000 }", "<= 99 }")) for name, text in contents.files)
    stricter = msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(contents, files=files)))
    with_both = dataclasses.replace(tasks["done"], bundles=[*tasks["done"].bundles, stricter])
    differences = again(with_both)["policy"].differences
    assert {each.field for each in differences} == {"verdict", "reason", "steps"}
    assert {each.stage.partition(",")[2].strip()[:12] for each in differences} == {"under sha256"}
    verdict = next(each for each in differences if each.field == "verdict")
    assert (bytes(verdict.recorded), bytes(verdict.replayed)) == (b'"allow"', b'"deny"')
