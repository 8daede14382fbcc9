"""``workmesh demo outbreak`` verifies itself, also when registry or executor die between act and record."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.demo.driver import DemoPlan, Run, run_demo
from console.demo.report import Report, report
from packs.outbreak.demo import demo
from packs.outbreak.wire import AlertState, Export
from tests.packs.outbreak.office import SAMPLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


LINES = (SAMPLE / "events.jsonl").read_bytes().splitlines()


async def run(folder: Path, name: str = "events.jsonl", **more: Any) -> tuple[Run, Report]:
    lines = (SAMPLE / name).read_bytes().splitlines()
    plan = DemoPlan(pack="outbreak", demo=demo, data=SAMPLE, lines=lines, approve=True, **more)
    found = await run_demo(plan, folder, lambda *_: None)
    return found, report(found, SAMPLE / name.replace("events", "expected").replace("messages.", "messages-expected."))


def world(found: Run) -> tuple[Export, dict[str, str]]:
    """The registry's export and its pages."""
    parts = msgspec.json.decode(found.world, type=dict[str, msgspec.Raw])
    return msgspec.json.decode(parts["registry"], type=Export), msgspec.json.decode(parts["pages"], type=dict[str, str])


async def test_the_sample_runs_and_verifies_itself(tmp_path: Path) -> None:
    found, result = await run(tmp_path)
    assert result.problems == []
    registry, pages = world(found)
    assert {line.alert: line.state for line in registry.alerts} == {
        "kaohsiung.dengue.2014-W22": AlertState.PUBLISHED,
        "tainan.dengue.2014-W20": AlertState.WITHDRAWN,
        "pingtung.dengue.2014-W21": AlertState.WITHDRAWN,
    }
    assert all(len(set(line.approved_by)) == 2 for line in registry.alerts)
    assert all("<svg" in page and "<script" not in page for page in pages.values())
    # A published alert and a withdrawn one are each told to who asked to be told.
    assert sorted(notice.subject.split(":")[0] for notice in registry.notices) == ["Alert"] * 3 + ["Withdrawn"] * 2
    _differences_are_problems(found)


def _differences_are_problems(found: Run) -> None:
    expected = (SAMPLE / "expected.jsonl").read_bytes().splitlines()
    assert demo.differences(expected, found.world) == []
    registry, pages = world(found)
    one = msgspec.structs.replace(registry.alerts[0], approved_by=("ann",))
    wrong = msgspec.structs.replace(registry, alerts=(one, *registry.alerts[1:-1]), claims={})
    problems = demo.differences(
        expected,
        msgspec.Raw(json.dumps({"pages": pages}).encode()[:-1] + b',"registry":' + msgspec.json.encode(wrong) + b"}"),
    )
    assert any("was approved by 1" in problem for problem in problems)
    assert any("was not published" in problem for problem in problems)
    assert any("expected 21" in problem for problem in problems)


@pytest.mark.crash
async def test_an_executor_that_dies_between_publishing_and_the_record_publishes_once(tmp_path: Path) -> None:
    once = tmp_path / "killed"
    weeks = [f"2014-W{week}".encode() for week in range(18, 23)]
    numbers = [line for line in LINES if b"counts.reported" in line and b'"kaohsiung/dengue"' in line]
    lines = [next(line for line in numbers if week in line and b'"cdc"' in line) for week in weeks]
    lines.append(next(line for line in LINES if b"week.closed" in line and b"kaohsiung" in line and weeks[-1] in line))
    # One series: its tasks act one after another, so the sixth call of this executor is the one that publishes.
    env = {"WORKMESH_FAULTPOINT": f"executor.after_call=kill#6@{once}"}
    plan = DemoPlan(pack="outbreak", demo=demo, data=SAMPLE, lines=lines, approve=True, env=env)
    found = await run_demo(plan, tmp_path / "run", lambda *_: None)
    assert once.exists()
    assert report(found, None).problems == []
    assert [change.kind for change in found.applied] == ["record"] * 5 + ["publish"]
    assert [line.alert for line in world(found)[0].alerts] == ["kaohsiung.dengue.2014-W22"]


@pytest.mark.crash
async def test_kills_and_a_registry_that_dies_right_after_publishing_leave_one_alert(tmp_path: Path) -> None:
    found, result = await run(tmp_path, kill_seed=11, faults={"crash_after_commit": 1, "kind": "publish"})
    assert result.problems == []
    assert result.summary["kills"] >= 5
    assert len(world(found)[0].alerts) == 3
    assert sum(change.kind == "publish" for change in found.applied) == 3


async def test_bulletins_read_by_models_are_one_voice(tmp_path: Path) -> None:
    found, result = await run(tmp_path, "messages.jsonl", conversations=(SAMPLE / "conversations.yaml",))
    assert result.problems == []
    (page,) = world(found)[1].values()
    assert "bulletin of cdc" in page
