"""``workmesh demo retail``: everything started, published, verified and stopped, on the sample and on real requests."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Workmesh

OUTCOMES = ("completed", "refused", "denied", "rejected", "duplicate", "conflict", "waiting", "failed", "compensated")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def to_the_cent(value: Any) -> Any:
    """The same document with money in whole cents."""
    match value:
        case dict():
            return {name: to_the_cent(each) for name, each in value.items()}
        case list():
            return [to_the_cent(each) for each in value]
        case int() | float() if not isinstance(value, bool):
            return round(value * 100)
        case _:
            return value


def check_against(expected: list[dict[str, Any]], ours: list[dict[str, Any]], world: dict[str, Any]) -> None:
    assert [line["id"] for line in ours] == [line["id"] for line in expected]
    for want, got in zip(expected, ours, strict=True):
        right = {"refused", "denied"} if want["outcome"] == "refused" else {want["outcome"]}
        assert got["outcome"] in right, (want, got)
        if want["outcome"] == "completed":
            assert round(got["amount"] * 100) == round(want["amount"] * 100)
            order = world["orders"][want["order"]["order_id"]]
            assert to_the_cent(order) == to_the_cent(want["order"])


def test_the_sample_runs_and_verifies_itself(workmesh: Workmesh) -> None:
    summary = workmesh.json("demo", "retail")
    assert summary["events"] == sum(summary[name] for name in OUTCOMES)
    assert summary["effects"] == summary["completed"]
    assert summary["duplicate_effects"] == summary["lost"] == summary["failed"] == 0
    assert summary["tasks_per_s"] > 0 and summary["p99_ms"] >= summary["p50_ms"] > 0


def test_people_see_a_table_and_the_verdict(workmesh: Workmesh) -> None:
    shown = workmesh.run("demo", "retail")
    assert "What came of the events" in shown
    assert "verified: nothing lost, nothing repeated, all as expected" in shown


def test_all_real_requests_come_out_as_expected_to_the_cent(
    workmesh: Workmesh, retail_data: Path, tmp_path: Path
) -> None:
    outcomes, world = tmp_path / "outcomes.jsonl", tmp_path / "world.json"
    summary = workmesh.json(
        *("demo", "retail", "--data", str(retail_data), "--events", str(retail_data / "events.jsonl")),
        *("--approve", "all", "--outcomes", str(outcomes), "--world", str(world)),
    )
    assert summary["duplicate_effects"] == summary["lost"] == 0
    check_against(lines(retail_data / "expected.jsonl"), lines(outcomes), json.loads(world.read_text()))


def test_without_approvals_exactly_what_is_above_500_waits(
    workmesh: Workmesh, retail_data: Path, tmp_path: Path
) -> None:
    outcomes = tmp_path / "outcomes.jsonl"
    summary = workmesh.json(
        *("demo", "retail", "--data", str(retail_data), "--events", str(retail_data / "events.jsonl")),
        *("--approve", "none", "--outcomes", str(outcomes)),
    )
    expected = lines(retail_data / "expected.jsonl")
    waiting = {line["id"] for line in lines(outcomes) if line["outcome"] == "waiting"}
    large = {line["id"] for line in expected if line["outcome"] == "completed" and line["amount"] > 500}
    assert waiting == large
    assert summary["waiting"] == len(large)
    assert summary["effects"] == summary["completed"]


@pytest.mark.crash
@pytest.mark.parametrize("faults", ["{}", '{"keys":"ignore"}'], ids=["keys honoured", "keys ignored"])
def test_kills_lose_and_repeat_nothing(workmesh: Workmesh, retail_data: Path, tmp_path: Path, faults: str) -> None:
    outcomes, world = tmp_path / "outcomes.jsonl", tmp_path / "world.json"
    summary = workmesh.json(
        *("demo", "retail", "--data", str(retail_data), "--events", str(retail_data / "events.jsonl")),
        *("--kill", "5", "--faults", faults, "--outcomes", str(outcomes), "--world", str(world)),
    )
    assert summary["kills"] >= 10
    assert summary["duplicate_effects"] == summary["lost"] == 0
    assert 0 < summary["recovery_p50_s"] <= summary["recovery_max_s"]
    check_against(lines(retail_data / "expected.jsonl"), lines(outcomes), json.loads(world.read_text()))


def test_a_result_other_than_expected_is_a_failure(workmesh: Workmesh, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "packs" / "retail" / "sample"
    data = tmp_path / "data"
    data.mkdir()
    for file in sample.glob("*.json*"):
        (data / file.name).write_bytes(file.read_bytes())
    expected = lines(data / "expected.jsonl")
    first = next(line for line in expected if line["outcome"] == "completed")
    first["amount"] += 1
    (data / "expected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in expected), encoding="utf-8")
    workmesh.run("demo", "retail", "--data", str(data), "--json", code=1)
    assert f"problem: {first['id']}:" in workmesh.stderr


def test_an_unknown_pack_is_wrong_use(workmesh: Workmesh) -> None:
    workmesh.run("demo", "nosuch", code=2)
    assert "no demo of a pack 'nosuch'" in workmesh.stderr


def _gain(shown: dict[str, Any], measure: str) -> tuple[float, float]:
    return next((gain["first"], gain["second"]) for gain in shown["gains"] if gain["measure"].startswith(measure))


def test_the_second_run_uses_what_the_first_taught_and_everything_else_stays_as_it_was(workmesh: Workmesh) -> None:
    shown = workmesh.json("demo", "retail", "--twice")
    (learned,) = shown["learned"]
    change, shadow = learned["proposal"]["change"], learned["proposal"]["shadow"]
    assert (change["target"], change["value"]) == ("retail.return", "retail.return-checked")
    assert (shadow["better"], shadow["worse"]) == (5, 0)
    first, second = shown["runs"]
    assert first["denied"] - second["denied"] == second["refused"] - first["refused"] == 5
    for name in ("events", "completed", "rejected", "duplicate", "conflict", "effects"):
        assert first[name] == second[name]
    assert _gain(shown, "denied")[0] == first["denied"]
    assert _gain(shown, "planned under a learned change") == (0, 18)


def test_a_kept_folder_runs_again_and_remembers(workmesh: Workmesh, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = workmesh.json("demo", "retail", "--keep", str(kept))
    second = workmesh.json("demo", "retail", "--again", str(kept))
    assert {name: second[name] for name in OUTCOMES} == {name: first[name] for name in OUTCOMES}
    assert second["duplicate_effects"] == second["lost"] == 0
    workmesh.run("demo", "retail", "--again", str(tmp_path), code=2)
    assert "there is no run in it" in workmesh.stderr
    workmesh.run("demo", "retail", "--again", str(kept), "--twice", code=2)
