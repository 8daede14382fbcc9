"""``workmesh pack check`` finds what is wrong with a pack before it runs: file, place, and the way out."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from console.pack.scaffold import scaffold
from mesh.checks import load_checks, reaches
from mesh.pack import load_packs
from tests.console.pack.broken import WAYS, Way


def check(folder: Path) -> tuple[int, list[dict[str, str]]]:
    """The exit status and the findings of a check of a folder, in a process of its own: it imports the pack."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "console.main", "pack", "check", str(folder), "--json"],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    return done.returncode, report["findings"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[dict[str, str]]]]:
    """What is found in a pack broken in each way, and in one that is whole ("")."""
    root = tmp_path_factory.mktemp("packs")

    def answer(number: int, way: Way | None) -> tuple[int, list[dict[str, str]]]:
        folder = root / str(number)
        scaffold("rooms", folder)
        if way is not None:
            way.apply(folder)
        return check(folder)

    ways: list[Way | None] = [None, *WAYS]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(answer, range(len(ways)), ways)
        return {way.name if way else "": each for way, each in zip(ways, found, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_nothing_is_wrong_with_a_new_pack(answers: dict[str, tuple[int, list[dict[str, str]]]]) -> None:
    assert answers[""] == (0, [])


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_way_to_break_a_pack_is_found_at_its_place(
    way: Way, answers: dict[str, tuple[int, list[dict[str, str]]]]
) -> None:
    status, findings = answers[way.name]
    assert status == 1
    assert any(
        way.found_in in each["file"] and way.place in each["place"] and way.problem in each["problem"]
        for each in findings
    ), findings


@pytest.mark.parametrize("name", sorted(load_checks()))
def test_no_part_finds_anything_wrong_with_the_retail_pack(name: str) -> None:
    assert list(load_checks()[name](load_packs(("retail",))["retail"])) == []


class Inner(msgspec.Struct):
    text: str
    more: dict[str, str] = {}


class Outer(msgspec.Struct):
    one: Inner
    many: list[Inner]
    perhaps: Inner | None = None


@pytest.mark.parametrize(
    ("pointer", "leads"),
    [
        ("", True),
        ("/one/text", True),
        ("/many/*/text", True),
        ("/many/0/text", True),
        ("/perhaps/more/anything", True),
        ("/one/word", False),
        ("/many/text", False),
        ("one", False),
        ("/one/text/deeper", False),
    ],
)
def test_a_pointer_leads_to_what_a_struct_has_and_nowhere_else(pointer: str, leads: bool) -> None:
    assert reaches(Outer, pointer) is leads
