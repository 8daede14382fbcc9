"""A running site goes to another release and back, one process after the other: no task is lost, no effect repeated."""

import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.chaos.site import Ground, SiteSpec, ground_in, until
from benchmarks.chaos.trial import Load, Trial
from mesh import quarantine
from mesh.bus import StoredMessage
from mesh.canonical import effect_key
from mesh.site import CONSOLE, PROCESSES, ROLES
from mesh.supervisor import ChildSpec
from tests.crash.releases import ROOT, another, install

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

EVENTS = 8  # for each process that is replaced
HEADER = "    v: int = SCHEMA_VERSION\n"
STEP = "    compensation: Call | None = None\n    optional: bool = False\n"  # part of the plan's digest
UNSET = "msgspec.UnsetType = msgspec.UNSET"
PAGE = (ROOT / "docs" / "upgrading.md").read_text("utf-8")
ALL = tuple(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
ORDER = tuple(role for role in ALL if role in ROLES)


@dataclass
class Upgrading:
    """The site, and how its processes were started first."""

    ground: Ground
    first: Mapping[str, ChildSpec]
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Upgrading]:
    """One process of each role, and the shop."""
    folder = tmp_path_factory.mktemp("u")
    async with ground_in(folder, SiteSpec()) as ground:
        await ground.ready()
        yield Upgrading(ground, {name: child.spec for name, child in ground.children.items()}, folder)


async def replaced(site: Upgrading, roles: Sequence[str], release: Path | None, name: str) -> list[StoredMessage]:
    """Replace one process after the other under work, judge what came of it, and return the records."""
    trial = await Trial.begin(site.ground, name, random.Random(name), Load(sagas=1))
    for role in roles:
        await trial.publish(EVENTS, 1)
        await install(site.ground, role, release, site.first)
    await trial.publish(EVENTS, 1)
    verdict = await trial.settle()
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (EVENTS * (len(roles) + 1), 0, 0, ())
    return await trial.journal()


def releases(records: Sequence[StoredMessage]) -> dict[str, Counter[str]]:
    """How many records of each kind each release wrote."""
    found: dict[str, Counter[str]] = {}
    for record in records:
        release = json.loads(record.data)["header"].get("release", "old")
        found.setdefault(record.subject.split(".")[1], Counter())[release] += 1
    return found


async def test_the_page_gives_an_order_of_all_processes() -> None:
    assert sorted(ALL) == sorted((*PROCESSES, CONSOLE))


async def test_a_release_with_new_fields_comes_and_goes_under_work(site: Upgrading) -> None:
    field = f'{HEADER}    release: str = "new"\n'
    changes = {"mesh/record.py": (HEADER, field), "mesh/records.py": (STEP, f"{STEP}    extra: str | {UNSET}\n")}
    release = another(site.folder / "new", "0.2.0", changes)
    came = releases(await replaced(site, ORDER, release, "comes"))
    for kind, last in (("context", "new"), ("plan", "new"), ("outcome", "new")):
        assert came[kind][last] and came[kind]["old"], "both releases wrote, and each read what the other had written"
    went = releases(await replaced(site, ORDER[::-1], None, "goes"))
    for kind in ("context", "plan", "outcome"):
        assert went[kind]["new"] and went[kind]["old"]


async def test_what_an_older_process_cannot_read_waits_in_quarantine_and_is_done_after_the_upgrade(
    site: Upgrading,
) -> None:
    """A release whose records older ones must not read, installed in the wrong order."""
    ground = site.ground
    version = ("SCHEMA_VERSION = 1\n", "SCHEMA_VERSION = 2\n")
    release = another(site.folder / "other", "1.0.0", {"mesh/record.py": version})
    trial = await Trial.begin(ground, "wrong", random.Random(1), Load())
    await install(ground, "perception", release, site.first)
    await trial.publish(EVENTS)

    async def set_aside() -> bool:
        return len(await trial.set_aside()) == EVENTS

    await until(set_aside, 30, "the planner has set aside what it cannot read")
    items = await trial.set_aside()
    assert {(item.stage, item.reason) for item in items} == {("planner", quarantine.Reason.DEAD_LETTER)}
    assert all("schema version 2 is newer than 1: upgrade this process first" in item.detail for item in items)
    before = len(await ground.applied())
    for role in ORDER:
        if role != "perception":
            await install(ground, role, release, site.first)
    for item in items:
        await quarantine.release(ground.committer, item, person="olga")

    async def ended() -> bool:  # by subject: these records are of a version that this process does not read either
        outcomes = [each for each in await trial.journal() if each.subject.startswith("task.outcome.")]
        return len(outcomes) >= EVENTS and await ground.idle()

    await until(ended, 60, "every task has its outcome")
    outcomes = [json.loads(each.data) for each in await trial.journal() if each.subject.startswith("task.outcome.")]
    assert {each["status"] for each in outcomes} == {"completed"} and len(outcomes) == EVENTS
    keys = Counter(each.key for each in (await ground.applied())[before:])
    assert keys == Counter({effect_key(each["header"]["task_id"], "change"): 1 for each in outcomes})
