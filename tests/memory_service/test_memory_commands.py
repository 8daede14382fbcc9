"""The command line of memory, against a running service, as the operator types it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from mesh.facts import FactEvent, FactStatus, RecalledFact
from tests.memory_service.running_memory import Site

pytestmark = pytest.mark.timeout(60)  # each call starts a Python of its own


class Ended(NamedTuple):
    """How a command ended."""

    code: int | None
    out: str
    err: str


async def workmesh(site: Site, *words: str) -> Ended:
    """Run ``workmesh memory ...`` with the settings of this site."""
    config = site.folder / "workmesh.toml"
    config.write_text(f'state_dir = "{site.folder}"\n[bus]\nurl = "{site.server.url}"\n', encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from console.main import main; main()", "memory", *words, "--config", str(config)),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LOGNAME": "ada"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


async def test_a_fact_is_remembered_recalled_listed_and_forgotten(site: Site) -> None:
    async with site.memory():
        written = await workmesh(
            site, "remember", "tool/a", "limit", "five a [day]", "--source", "manual p. 3", "--json"
        )
        recalled = await workmesh(site, "recall", "tool/", "how many a day", "--json")
        shown = await workmesh(site, "facts", "tool/a")
        forgotten = await workmesh(site, "forget", "tool/a", "limit")
        history = await workmesh(site, "history", "tool/a", "limit", "--json")
        listed = await workmesh(site, "facts", "tool/a", "--json")
    fact = msgspec.json.decode(written.out, type=FactEvent)
    assert (fact.version, fact.provenance.source, fact.provenance.person) == (1, "manual p. 3", "ada")
    (found,) = msgspec.json.decode(recalled.out, type=tuple[RecalledFact, ...])
    assert (found.id, found.text) == (fact.id, "five a [day]")
    assert "five a [day]" in shown.out
    assert forgotten.out == "tool/a limit: forgotten (version 2)\n"
    versions = msgspec.json.decode(history.out, type=tuple[FactEvent, ...])
    assert [(version.status, version.provenance.person) for version in versions] == [
        (FactStatus.CURRENT, "ada"),
        (FactStatus.FORGOTTEN, "ada"),
    ]
    assert listed.out == "[]\n"
    assert {ended.code for ended in (written, recalled, shown, forgotten, history, listed)} == {0}


async def test_a_refused_request_is_one_line_on_stderr_and_exit_1(site: Site) -> None:
    async with site.memory():
        ended = await workmesh(site, "history", "tool/a", "unknown")
    assert (ended.code, ended.out) == (1, "")
    assert "no fact 'unknown' in scope 'tool/a'" in ended.err
