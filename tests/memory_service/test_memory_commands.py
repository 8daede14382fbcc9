"""The command line of memory, against a running service, as the operator types it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from mesh.facts import Judged, RecalledFact
from mesh.memory import HistoryLine, RememberAnswer
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


async def test_a_fact_is_remembered_found_explained_and_taken_back(site: Site) -> None:
    async with site.memory():
        words = ("tool/a", "limit", "five a [day]", "--source", "manual:3", "--text", "how many a day: five a [day]")
        written = await workmesh(site, "remember", *words, "--json")
        recalled = await workmesh(site, "recall", "how many a day", "--subject", "tool/", "--json")
        shown = await workmesh(site, "facts", "tool/a")
        fact = msgspec.json.decode(written.out, type=RememberAnswer).facts[0].fact
        why = await workmesh(site, "why", fact.id)
        gone = await workmesh(site, "retract", fact.id, "--reason", "misread")
        history = await workmesh(site, "history", "tool/a", "limit", "--json")
        listed = await workmesh(site, "facts", "tool/a", "--json")
    assert (fact.version, fact.source.uri, fact.asserted_by) == (1, "manual:3", "ada")
    (found,) = msgspec.json.decode(recalled.out, type=tuple[RecalledFact, ...])
    assert (found.id, bytes(found.value)) == (fact.id, b'"five a [day]"')
    assert "five a [day]" in shown.out and "source manual:3 (person, authority 1)" in why.out
    assert gone.out == f'{fact.id}: tool/a limit "five a [day]" is retracted (misread)\n'
    lines = msgspec.json.decode(history.out, type=tuple[HistoryLine, ...])
    assert [line.what for line in lines] == ["asserted", f"retracted {fact.id}"]
    assert listed.out == "[]\n"
    assert {ended.code for ended in (written, recalled, shown, why, gone, history, listed)} == {0}


async def test_a_steward_resolves_revokes_and_forgets_with_a_key(site: Site) -> None:
    key = ("--key", str(site.folder / "people" / "anna.nk"))
    erp = ("--key", str(site.folder / "people" / "erp.nk"), "--source", "erp:7", "--authority", "3")
    async with site.memory():
        await workmesh(site, "remember", "customer/7", "address", "Main St 1", *erp)
        said = await workmesh(site, "remember", "customer/7", "address", "Oak Ave 2", "--source", "mail:1")
        waits = await workmesh(site, "contested", "--json")
        (doubt,) = msgspec.json.decode(waits.out, type=tuple[Judged, ...])
        refused = await workmesh(site, "resolve", doubt.fact.id, "--key", str(site.folder / "people" / "bob.nk"))
        chosen = await workmesh(site, "resolve", doubt.fact.id, "--reason", "a letter", *key)
        revoked = await workmesh(site, "revoke", "--source", "mail:1", *key)
        forgotten = await workmesh(site, "forget", "customer/7", *key)
        state = await workmesh(site, "status")
    assert "is contested (it came after a claim of a higher authority, which stands)" in said.out
    assert (refused.code, refused.out) == (1, "") and "needs a person's key with the role memory_steward" in refused.err
    assert '"Oak Ave 2" is current' in chosen.out and '"Main St 1" is superseded (anna decided' in chosen.out
    assert '"Oak Ave 2" is retracted (anna revoked its source)' in revoked.out
    assert forgotten.out == "customer/7: forgotten (3 events erased)\n"
    assert state.out.startswith("0 facts, 0 contested; index lexical (none): 0 of 0 documents")


async def test_a_refused_request_is_one_line_on_stderr_and_exit_1(site: Site) -> None:
    async with site.memory():
        ended = await workmesh(site, "history", "tool/a", "unknown")
        wrong = await workmesh(site, "facts", "--scope", "retail/acme")
        untyped = await workmesh(site, "remember", "a", "b", "seven", "--type", "integer")
    assert (ended.code, ended.out) == (1, "")
    assert "nothing is known of 'unknown' of 'tool/a' in organisation/-/-" in ended.err
    assert wrong.code == 2 and "write organisation/DOMAIN/TENANT" in wrong.err
    assert untyped.code == 2 and "is no JSON for the type integer" in untyped.err
