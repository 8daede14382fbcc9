"""Probes: what they measure is what is answered, and a worse index shows."""

from pathlib import Path

import msgspec
import pytest

from memory_service.probing import Probe, Prober, read_probes
from mesh.bus import Bus
from mesh.errors import SettingsError
from tests.memory_service.claims import SCOPE, claim
from tests.memory_service.running_memory import Site, recall, remember

NAMES = ("amber", "birch", "cedar", "dogwood", "elm", "fir", "gum", "hazel", "ivy", "juniper")


async def _filled(operator: Bus) -> None:
    await remember(operator, *(claim(f"{name} street", subject=f"customer/{name}") for name in NAMES))


async def test_a_sound_index_finds_what_it_is_asked_for(site: Site, operator: Bus) -> None:
    async with site.memory() as view:
        await _filled(operator)
        report = await Prober(view).probe()
        assert (report.probes, report.recall_10, report.ndcg_10, report.stale_hits) == (10, 1.0, 1.0, 0)
        assert report.p99_ms > 0


async def test_an_index_that_lost_half_of_it_shows(site: Site, operator: Bus) -> None:
    async with site.memory() as view:
        await _filled(operator)
        for fact in (await recall(operator, limit=20))[:5]:
            view.retriever.drop(fact.id)
        report = await Prober(view).probe()
        assert report.probes == 10 and report.recall_10 == 0.5


async def test_the_probes_of_a_file_are_asked_too(site: Site, operator: Bus, tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    asked = (("which street is elm at", "customer/elm"), ("zebra crossing", "customer/none"))
    probes = [Probe(question=q, expected=((subject, "address"),), scope=SCOPE.text) for q, subject in asked]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, probes)))
    async with site.memory() as view:
        await _filled(operator)
        report = await Prober(view, read_probes(path)).probe()
        assert report.probes == 12 and report.recall_10 == pytest.approx(11 / 12, abs=0.001)


def test_a_line_that_is_no_probe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    for line, reason in (
        ('{"question": "x"}', "line 1 is no probe"),
        ('{"question": "x", "expected": []}', "line 1 expects nothing"),
        ('{"question": "x", "expected": [["a", "b"]], "scope": "mars"}', "is no scope"),
    ):
        path.write_text(line, encoding="utf-8")
        with pytest.raises(SettingsError, match=reason):
            read_probes(path)
    with pytest.raises(SettingsError, match="cannot read"):
        read_probes(tmp_path / "nothing")
