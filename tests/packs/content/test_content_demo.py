"""``workmesh demo content``: everything started, published, verified and stopped; also under kills, and with models."""

from pathlib import Path

import pytest

from tests.console.conftest import Workmesh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def workmesh(tmp_path: Path) -> Workmesh:
    """The command line, on a folder of its own."""
    return Workmesh(tmp_path / "state")


def test_the_sample_runs_and_verifies_itself(workmesh: Workmesh) -> None:
    summary = workmesh.json("demo", "content")
    assert (summary["events"], summary["completed"], summary["waiting"]) == (166, 124, 0)
    assert summary["duplicate_effects"] == summary["lost"] == summary["failed"] == 0
    assert (summary["measure_published"], summary["measure_merges"]) == (10, 1)
    assert summary["measure_velocity_p50_s"] > 0


def test_messages_are_read_by_models(workmesh: Workmesh) -> None:
    shown = workmesh.run("demo", "content", "--text")
    assert "verified: nothing lost, nothing repeated, all as expected" in shown


@pytest.mark.crash
def test_kills_and_errors_lose_and_repeat_nothing(workmesh: Workmesh) -> None:
    faults = '{"error_rate":0.1,"error_after_rate":0.1}'
    summary = workmesh.json("demo", "content", "--kill", "5", "--faults", faults)
    assert summary["kills"] >= 8
    assert summary["duplicate_effects"] == summary["lost"] == 0
