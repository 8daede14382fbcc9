"""The bench: its runs are of real sites and end whole; its figures come out as summary, tables and picture."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import floor, measure, report
from benchmarks.bench_pack.pack import FOLDER, POLICIES
from benchmarks.facts import facts
from benchmarks.latency import decision_latency
from benchmarks.load import loading, measured, nothing
from benchmarks.recall import retrieval
from benchmarks.sites import bench_site
from console.up import running, with_state_dir
from mesh.settings import load
from policy_service.bundle import Bundle, BundleContents

SPEED = {"tasks_per_s": 100.0, "p50_ms": 10.0, "p99_ms": 20.0}
RSS = {"executor": 50.0, "nats-server": 20.0}
FOUND: dict[str, Any] = {
    "rest": {"ready_in_s": 3.0, "rss_mb": RSS},
    "commits": {"1": {"records_per_s": 1000, "server_us_per_record": 400}},
    "loop": {
        "floor": {1: SPEED, 64: SPEED | {"tasks_per_s": 200.0}, 256: SPEED},
        "loop": {1: SPEED | {"p50_ms": 8.5}, 64: SPEED, 256: SPEED | {"tasks_per_s": 300.0}},
        "ratio": {1: 1.0, 64: 0.5, 256: 3.0},
        "stages_ms": {"context": 2.0, "plan": 3.0},
        "costs": {"cpu_s_per_1000_tasks": {"executor": 1.0, "all": 1.0}, "journal_mb_per_1000_tasks": 6.5},
    },
    "backlog": {
        "events": 50,
        "accepted_per_s": 900,
        "recovery_s": 2.5,
        "at": {10: {"tasks_per_s": None, "rss_mb": RSS}, 50: {"tasks_per_s": 99.0, "rss_mb": RSS}},
        "peak_rss_mb": RSS,
    },
    "executors": {"1": SPEED, "2": SPEED},
    "decisions": {"decisions_per_s": 700, "plans": 10, "policies": 200},
    "latency": {"policies": 200, "in_flight": {1: {"decisions": 20, **SPEED}, 64: {"decisions": 90, **SPEED}}},
    "shop": {"events": 86, **SPEED, "lost": 0, "duplicate_effects": 0},
    "memory": {
        "documents": 100,
        "writes_per_s": 3000,
        "words": SPEED,
        "words_and_vectors": SPEED,
        "scan": SPEED,
        "ratio_to_scan": 1.0,
        "model_alone_p50_ms": 5.0,
        "embedded_per_s": 90,
        "rss_mb": RSS,
        "database_mb": 30,
        "vectors_mb": 80,
    },
    "facts": {
        "facts": 100,
        "writes_per_s": 2500,
        "writes_per_s_one_a_request": 800,
        "by_subject": SPEED,
        "by_words": SPEED,
        "rss_mb": 90,
        "database_mb": 10,
    },
}
RESULT = {"machine": {"machine": "2 cores"}, "parts": FOUND}


@pytest.fixture(autouse=True)
def bench_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench pack, for the length of a test."""
    monkeypatch.syspath_prepend(str(FOLDER / "installed"))


async def test_facts_are_remembered_and_recalled_over_the_bus(tmp_path: Path) -> None:
    found = await facts(tmp_path, 200, print)
    assert found["facts"] == 250 and found["by_subject"]["found"] >= 1 and found["by_words"]["found"] > 1
    assert found["writes_per_s"] > 0 and found["writes_per_s_one_a_request"] > 0


@pytest.mark.timeout(60)
async def test_recall_is_measured_with_words_and_with_vectors_beside_a_plain_scan(tmp_path: Path) -> None:
    found = await retrieval(tmp_path, 200, print)
    assert (found["documents"], found["words_and_vectors"]["found"]) == (200, 10.0)
    for figures in (found["words"], found["words_and_vectors"], found["scan"]):
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert found["writes_per_s"] > 0 < found["embedded_per_s"]
    assert found["rss_mb"]["with vectors"] > found["rss_mb"]["at the start"] > 0


@pytest.mark.timeout(90)
async def test_the_loop_does_all_tasks_and_counts_each_from_acceptance_to_outcome(tmp_path: Path) -> None:
    async with bench_site(tmp_path) as found:
        run = await found.load.run(60, 16, nothing)
        assert run.tasks == len(found.load.ended) == len(found.load.accepted) == 60
        assert 0 < run.p50_ms <= run.p99_ms
        assert list(found.load.stage_times()) == ["context", "plan", "decision", "effect", "result", "outcome"]
        assert {"executor", "policy", "nats-server"} <= found.usage().keys()
        assert found.journal_bytes() > 60 * 4000
        items = await found.load.bus.last_of_each("JOURNAL", ["task.outcome.>"])
        assert len(items) == 60


@pytest.mark.timeout(90)
async def test_the_floor_writes_as_many_records_a_task_as_the_loop(tmp_path: Path) -> None:
    settings = with_state_dir(load(None, {}), tmp_path)
    async with (
        running(settings, roles=()) as site,
        floor.running(site.url, tmp_path / "keys", tmp_path),
        loading(site.site, site.url) as bare,
    ):
        run = await bare.run(40, 16, floor.event)
        assert run.tasks == 40
        kinds = [message.subject.split(".")[1] for message in await bare.bus.last_of_each("JOURNAL", ["task.>"])]
    assert {kind: kinds.count(kind) for kind in floor.RECORD_BYTES if kind != "lesson"} == dict.fromkeys(
        ("context", "plan", "decision", "effect", "result", "outcome"), 40
    )


@pytest.mark.timeout(90)
async def test_policy_alone_decides_on_every_plan(tmp_path: Path) -> None:
    said: list[str] = []
    figures = await measure.decisions(tmp_path, 100, said.append)
    assert figures["decisions_per_s"] > 0
    assert said[0] == "100 plans wait for a decision"


@pytest.mark.timeout(120)
async def test_the_latency_of_each_decision_is_read_off_the_journal(tmp_path: Path) -> None:
    figures = await decision_latency(tmp_path, 40, lambda text: None)
    assert [item["decisions"] for item in figures["in_flight"].values()] == [20, 40, 40]
    assert all(0 < item["p50_ms"] <= item["p99_ms"] < 60_000 for item in figures["in_flight"].values())


def test_the_bundle_has_as_many_policies_as_are_told() -> None:
    assert len(Bundle.load(BundleContents.read(FOLDER / "policies", "bench")).policies) == POLICIES


def test_the_figures_of_a_run_are_of_its_tasks() -> None:
    run = measured([0.001 * n for n in range(1, 101)], 2.0)
    assert (run.tasks, run.per_s, run.p50_ms, run.p99_ms) == (100, 50.0, 50.5, 100.0)


def test_the_summary_takes_the_best_load_and_the_ratio_measured_there() -> None:
    assert report.summary(FOUND) == {
        "loop_tasks_per_s": 300.0,
        "floor_tasks_per_s": 100.0,
        "ratio": 3.0,
        "p50_ms_unloaded": 8.5,
        "decisions_per_s": 700,
        "decision_p50_ms": SPEED["p50_ms"],
        "recall_p50_ms": SPEED["p50_ms"],
        "recall_p99_ms": SPEED["p99_ms"],
        "fact_writes_per_s": 2500,
        "rss_mb": RSS,
    }
    assert report.summary({"commits": FOUND["commits"]}) == {}


def test_a_page_gets_its_tables_between_the_markers_and_its_picture_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_report(page, RESULT)
    report.write_report(page, RESULT)
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}") and text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text and text.count("| 256 | 100.0 | 300.0 | 3.0 |") == 1
    picture = ElementTree.parse(tmp_path / report.PICTURE)
    assert "plan 3.00" in [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(report.tables(RESULT))) == len(list(report.sections(RESULT))) == 13
    with pytest.raises(ValueError, match="no <!-- bench -->"):
        page.write_text("nothing")
        report.write_report(page, RESULT)
