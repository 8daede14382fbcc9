"""A pack that ``workmesh pack new`` makes: refused under a bad name, else clean, installed, checked, tested."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from console.pack.commands import pack
from console.pack.scaffold import require_name, scaffold
from tests.docs.pages import ROOT, fences

BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path) -> str:
    """What a command says; it must succeed. Programs of this environment are on its path."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "160"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "2 to 20 characters"),
        ("a", "2 to 20 characters"),
        ("a" * 21, "2 to 20 characters"),
        ("Rooms", "lower-case"),
        ("my-rooms", "letters and digits"),
        ("2rooms", "a letter first"),
        ("../rooms", "letters and digits"),
        ("class", "word of Python"),
        ("match", "word of Python"),
        ("list", "word of Python"),
        ("json", "module of this name"),
        ("mesh", "module of this name"),
        ("retail", "is installed"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_the_rule(name: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=rule):
        scaffold(name, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("here", encoding="utf-8")
    with pytest.raises(click.UsageError, match="is there already"):
        scaffold("rooms", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bad_name_is_wrong_use_of_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(pack, ["new", "My-Rooms", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert "lower-case letters and digits" in done.output


@pytest.mark.parametrize("name", ["aa", "rooms", "abcdefghijklmnopqrst"])
def test_a_new_pack_is_clean_under_names_of_any_length(name: str, tmp_path: Path) -> None:
    require_name(name)
    files = scaffold(name, tmp_path)
    assert not [file for file in files if "__pack__" in file or "__pack__" in (tmp_path / file).read_text("utf-8")]
    run(BIN / "ruff", "check", "--no-cache", ".", cwd=tmp_path)
    run(BIN / "ruff", "format", "--no-cache", "--check", ".", cwd=tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack ``rooms``, and an environment ``venv`` that has it beside all of this one."""
    folder = tmp_path_factory.mktemp("p")
    scaffold("rooms", folder / "rooms")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=folder)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    site = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages / "workmesh-tests.pth").write_text(site, encoding="utf-8")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--editable")
    run(folder / "venv/bin/python", "-m", "pip", "install", *options, "rooms", cwd=folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_new_pack_is_installed_checked_and_tested_as_its_page_says(installed: Path) -> None:
    python = installed / "venv/bin/python"
    assert run(python, "-m", "console.main", "pack", "check", "rooms", cwd=installed) == "rooms: ok\n"
    lines = json.loads(run(python, "-m", "console.main", "pack", "list", "--json", cwd=installed))
    (line,) = (line for line in lines if line["name"] == "rooms")
    assert line["folder"] == str(installed / "rooms/rooms")
    assert line["distribution"] == "workmesh-rooms"
    assert line["events"] == ["rooms.booking.requested"]
    assert {tool["name"]: tool["read_only"] for tool in line["tools"]}["rooms.price"] is True
    assert line["sources"] == ["requests"]
    assert "7 passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "rooms", cwd=installed)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_new_pack_is_typed(installed: Path) -> None:
    # An editable Workmesh is found by a hook of the import system, which mypy does not ask: it is told the folder.
    options = ("--follow-imports", "silent", "--cache-dir", installed / "mypy")
    said = run("env", f"MYPYPATH={ROOT}", sys.executable, "-m", "mypy", *options, cwd=installed / "rooms")
    assert said.startswith("Success")


def test_what_the_page_shows_of_the_pack_is_what_is_made(tmp_path: Path) -> None:
    made = "\n".join((tmp_path / file).read_text("utf-8") for file in scaffold("rooms", tmp_path))
    page = (ROOT / "docs/packs.md").read_text("utf-8")
    shown = [fence.text for fence in fences(page) if fence.language in ("py", "toml") or "rooms" in fence.text]
    excerpts = [text for text in shown if not re.match(r"\$ |\[\{", text)]
    assert len(excerpts) >= 8
    assert [text for text in excerpts if text.strip() not in made] == []
