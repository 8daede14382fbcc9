"""``workmesh audit`` on the retail pack: intact as it is, and each way to tamper with it is named."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mesh import streams
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.journal import Message
from mesh.permissions import ROLES, BusUser
from mesh.settings import Settings
from mesh.site import Site as MeshSite
from mesh.site import stream_specs
from tests.console.audit.conftest import Site, lines_of, running, verdict, wait_for
from tests.console.conftest import WORKMESH, Workmesh
from tests.mesh.live_mesh import eventually, publish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Lines = list[dict[str, Any]]


def journal(lines: Lines) -> list[int]:
    """The places of the journal's messages in an export."""
    return [place for place, line in enumerate(lines) if line["type"] == "message"]


def written(tmp_path: Path, lines: Lines) -> Path:
    """A tampered export, its last line made to fit."""
    count = len(journal(lines))
    if lines[-1]["type"] == "end":
        lines[-1]["messages"] = count
    path = tmp_path / "tampered.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_an_untouched_export_is_intact_under_keys_and_checkpoints_from_elsewhere(site: Site) -> None:
    found = verdict(site.workmesh, site.export, "--key", site.key, "--checkpoints", str(site.checkpoints), code=0)
    assert found["intact"] and found["pinned"] and not found["uncovered"]
    assert found["signatures"] >= 26 and found["unknown_keys"] == 0
    assert found["messages"] == found["covered"] == len(journal(lines_of(site.export)))
    bare = Workmesh(site.folder / "nowhere")  # no site, no bus
    text = bare.run("audit", "verify", str(site.export))
    assert text.rstrip().endswith("intact") and "as the file itself says" in text
    assert "given by you" in bare.run("audit", "verify", str(site.export), "--key", site.key)


def change(lines: Lines, place: int) -> None:
    lines[place]["data"] = lines[place]["data"].replace('"v":1', '"v":2')


def remove(lines: Lines, place: int) -> None:
    del lines[place]


def insert(lines: Lines, place: int) -> None:
    lines.insert(place, {**lines[place], "data": "{}", "subject": "task.outcome.retail.nobody.-"})


def move(lines: Lines, place: int) -> None:
    lines[place]["seq"], lines[place + 1]["seq"] = lines[place + 1]["seq"], lines[place]["seq"]
    lines[place], lines[place + 1] = lines[place + 1], lines[place]


@pytest.mark.parametrize(
    ("tamper", "kinds"),
    [(change, ["changed"]), (remove, ["removed"]), (insert, ["inserted"]), (move, ["moved", "moved"])],
)
def test_a_record_that_was_tampered_with_is_named_with_its_task(
    site: Site, tmp_path: Path, tamper: Callable[[Lines, int], None], kinds: list[str]
) -> None:
    lines = lines_of(site.export)
    place = next(place for place in journal(lines) if lines[place]["subject"].startswith("task.result."))
    before = lines[place]["seq"], lines[place]["subject"]
    tamper(lines, place)
    found = verdict(site.workmesh, written(tmp_path, lines), code=1)
    if tamper is insert:
        # Of two records with one sequence, the one that was audited is right.
        assert [each["kind"] for each in found["findings"]] == kinds
        assert found["findings"][0]["subject"] == "task.outcome.retail.nobody.-"
        return
    first = found["findings"][0]
    assert [each["kind"] for each in found["findings"]] == kinds or tamper is move
    assert {each["kind"] for each in found["findings"]} == set(kinds)
    assert before[0] in (first["seq"], first["last"])
    assert tamper is move or (first["subject"], first["task_id"]) == (before[1], before[1].split(".")[3])


def test_an_export_that_was_cut_short_is_named(site: Site, tmp_path: Path) -> None:
    lines = lines_of(site.export)
    kept = verdict(site.workmesh, written(tmp_path, lines[:-3]), code=1)
    last = lines[-2]["seq"]
    assert {(each["kind"], each["seq"]) for each in kept["findings"]} == {
        ("truncated", 0),
        ("removed", last - 1),
        ("removed", last),
    }


def test_a_record_forged_together_with_its_line_fits_no_checkpoint(site: Site, tmp_path: Path) -> None:
    lines = lines_of(site.export)
    place = journal(lines)[10]
    change(lines, place)
    lines[place]["data"] += " "
    seq = lines[place]["seq"]
    entries = next(line for line in lines if line["type"] == "entries")
    parts = entries["lines"][seq - 1].split(" ")
    data = subprocess.run(["sha256sum"], input=lines[place]["data"].encode(), capture_output=True, check=True)
    parts[3] = data.stdout.decode().split()[0]
    entries["lines"][seq - 1] = " ".join(parts)
    path = written(tmp_path, lines)
    (finding,) = verdict(site.workmesh, path, code=1)["findings"]
    assert finding["kind"] == "forged_entries" and finding["seq"] <= seq <= finding["last"]
    own = site.folder / "state" / "state" / "auditor-1" / "log"
    exact = verdict(site.workmesh, path, "--log", str(own), code=1)["findings"]
    assert [(each["kind"], each["seq"]) for each in exact] == [("changed", seq), ("forged_entry", seq)] or {
        (each["kind"], each["seq"]) for each in exact
    } == {("changed", seq), ("forged_entry", seq)}


def test_a_forged_checkpoint_and_a_second_history_are_named(site: Site, tmp_path: Path) -> None:
    lines = lines_of(site.export)
    note = next(line for line in lines if line["type"] == "checkpoint")
    size = int(note["note"].split("\n")[1])
    note["note"] = note["note"].replace(f"\n{size}\n", f"\n{size - 1}\n")
    found = verdict(site.workmesh, written(tmp_path, lines), code=1)
    assert ("forged_checkpoint", size - 1) in [(each["kind"], each["seq"]) for each in found["findings"]]
    pinned = verdict(site.workmesh, written(tmp_path, lines[:5]), "--checkpoints", str(site.checkpoints), code=1)
    assert "entries_missing" in {each["kind"] for each in pinned["findings"]}


def test_a_forged_approval_is_named_as_what_it_is(site: Site, tmp_path: Path) -> None:
    lines = lines_of(site.export)
    place = next(place for place in journal(lines) if lines[place]["subject"].startswith("task.approval."))
    lines[place]["data"] = lines[place]["data"].replace('"person":"ada"', '"person":"eve"')
    found = verdict(site.workmesh, written(tmp_path, lines), code=1)["findings"]
    assert {(each["kind"], each["seq"]) for each in found} == {
        ("changed", lines[place]["seq"]),
        ("bad_signature", lines[place]["seq"]),
    }
    other = verdict(site.workmesh, site.export, "--root", "U" * 56, code=1)["findings"]
    assert {each["kind"] for each in other} == {"forged_trust"}


class Outline(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reports_of_every_end_load_nothing_and_say_who_what_why_and_with_what_proof(site: Site) -> None:
    for name, page in site.reports.items():
        outline = Outline(page)
        assert not outline.tags & {"script", "img", "link", "iframe", "object", "form", "a"}
        assert not {each for each in outline.attributes if each.startswith("on")} | outline.attributes & {"src", "href"}
        assert not re.search(r"url\(|@import|https?://", page.replace("http://127.0.0.1", ""))
        assert "in the log" in outline.text and not re.search(r"\bNOT\b", outline.text), name
        for part in ("What was asked", "What policy decided", "Proof that these are the records"):
            assert part in outline.text or (name == "refused" and part == "What policy decided")
    approved = Outline(site.reports["approved"]).text
    assert '<script>alert("x")</script> & seen' in approved  # as text
    assert "signature verified, by ada" in approved and "signature verified, by policy" in approved
    assert '@id("' in approved and "are what the digest says" in approved
    assert "It waits for refund_manager until" in Outline(site.reports["waiting"]).text
    assert "reject" in Outline(site.reports["rejected"]).text
    assert "No person was asked" in Outline(site.reports["completed"]).text
    assert "Nothing was sent to any system." in Outline(site.reports["refused"]).text


def test_proofs_of_a_task_verify_and_a_changed_one_does_not(site: Site, tmp_path: Path) -> None:
    copied = site.copy(tmp_path)
    task = site.tasks[0]["task_id"]
    notes = [line["note"] for line in lines_of(site.export) if line["type"] == "checkpoint"]
    since = notes[0].split("\n")[1]
    path = tmp_path / "proof.json"
    with running(copied):
        copied.run("audit", "prove", task, "--out", str(path), "--since", since)
        copied.run("audit", "prove", task, "--out", str(path), "--since", "1000000", code=1)
        assert "no checkpoint of size 1000000 was signed" in copied.stderr
        copied.run("audit", "prove", "nosuch", "--out", str(path), code=1)
    found = verdict(copied, path, "--key", site.key, "--checkpoints", str(site.checkpoints), code=0)
    assert found["task_id"] == task and found["messages"] > 2
    path.write_text(path.read_text().replace(r"\"kind\":\"plan\"", r"\"kind\":\"pl4n\""))
    (finding,) = verdict(copied, path, code=1)["findings"]
    assert (finding["kind"], finding["task_id"]) == ("changed", task)


@pytest.mark.parametrize("index", ["kept", "gone"])
def test_a_byte_changed_in_the_store_is_named(site: Site, tmp_path: Path, index: str) -> None:
    """By hand, in a copy of the .blk file, whatever nats-server 2.15 makes of it.

    With its index of the blocks the server finds the checksum of the record wrong when it is read; without the index
    when it starts, and then it drops that record and all behind it.
    """
    copied = site.copy(tmp_path)
    lines = lines_of(site.export)
    victim = next(lines[p] for p in journal(lines) if lines[p]["subject"].startswith("task.decision."))
    folder = next((tmp_path / "state" / "nats" / "store").rglob("JOURNAL"))
    (block,) = (folder / "msgs").glob("*.blk")
    raw = block.read_bytes()
    needle = victim["data"].encode()
    assert raw.count(needle) == 1
    block.write_bytes(raw.replace(needle, needle.replace(b'"verdict":"', b'"verd1ct":"')))
    for path in folder.rglob("index.db") if index == "gone" else ():
        path.unlink()
    export = tmp_path / "after.jsonl"
    with running(copied):
        wait_for(lambda: problems(copied), lambda found: bool(found))
        copied.run("audit", "export", "--out", str(export))
    found = verdict(copied, export, "--checkpoints", str(site.checkpoints), code=1)
    named = {(each["kind"], seq) for each in found["findings"] for seq in range(each["seq"], each["last"] + 1)}
    assert {seq for _, seq in named} >= {victim["seq"]}
    subject = next(each for each in found["findings"] if each["seq"] == victim["seq"])
    assert subject["kind"] in ("removed", "changed") and subject["subject"] == victim["subject"]


async def test_a_journal_made_anew_by_an_insider_with_one_record_changed_is_named(site: Site, tmp_path: Path) -> None:
    """With the disk, the server and every right on it, but without the auditor's key and files."""
    copied = site.copy(tmp_path)
    state = tmp_path / "state"
    shutil.rmtree(state / "nats" / "store")
    lines = lines_of(site.export)
    messages = [lines[place] for place in journal(lines)]
    victim = next(each for each in messages if each["subject"].startswith("task.outcome."))
    forged = {**victim, "data": victim["data"].replace('"status":"', '"status":"x')}
    home = MeshSite(Settings(state_dir=state))
    insider = BusUser(home.admin.public_key, tuple(role for role in ROLES if role != "publisher"))
    users = [*(user for user in home.users() if user.public_key != insider.public_key), insider]
    export = tmp_path / "after.jsonl"
    async with EmbeddedNats(state / "nats", users) as server:
        await home.bootstrap(server.url)
        async with connect(server.url, name="insider", options=home.admin.nats_options()) as bus:
            await empty_journal(bus, home.settings)
            for each in messages:
                said = forged if each is victim else each
                message = Message(said["subject"], said["data"].encode(), headers=said["headers"])
                assert await publish(bus, message) == each["seq"]
        env = {**copied.env, "WORKMESH_ROLE_INSTANCE": "auditor-1", "WORKMESH_METRICS__PORT": "-1"}
        auditor = await asyncio.create_subprocess_exec(str(WORKMESH), "run", "auditor", env=env)
        try:
            await eventually(lambda: asyncio.to_thread(problems, copied), within_s=60)
            told = await eventually(lambda: named(copied, "changed"), within_s=60)
            await asyncio.to_thread(copied.run, "audit", "export", "--out", str(export))
        finally:
            auditor.terminate()
            assert await auditor.wait() == 0
    assert [(each["seq"], each["subject"]) for each in told] == [(victim["seq"], victim["subject"])]
    found = await asyncio.to_thread(verdict, copied, export, "--checkpoints", str(site.checkpoints), code=1)
    changed = [each for each in found["findings"] if each["kind"] == "changed"]
    assert [(each["seq"], each["subject"], each["task_id"]) for each in changed] == [
        (victim["seq"], victim["subject"], victim["subject"].split(".")[3])
    ]
    rest = {seq for each in found["findings"] if each["kind"] == "stored_again" for seq in span(each)}
    assert rest == {each["seq"] for each in messages} - {victim["seq"]}


async def empty_journal(bus: Bus, settings: Settings) -> None:
    """Take the journal of the new site away, with the activations in it, and make it anew."""
    assert (await bus.api("STREAM.DELETE.JOURNAL"))["success"]
    specs = [spec for spec in stream_specs(settings.bus) if spec.name == "JOURNAL"]
    pending = settings.bus.max_ack_pending
    await streams.ensure(bus, specs, replicas=1, ack_wait_s=settings.bus.ack_wait_s, max_ack_pending=pending)


def span(finding: dict[str, Any]) -> range:
    """The sequences that a finding is about."""
    return range(finding["seq"], finding["last"] + 1)


async def named(workmesh: Workmesh, kind: str) -> list[dict[str, Any]]:
    """The problems of one kind."""
    return [each for each in await asyncio.to_thread(problems, workmesh) if each["kind"] == kind]


def problems(workmesh: Workmesh) -> list[dict[str, Any]]:
    """What contradicts the log, as the auditor says it."""
    done = subprocess.run([str(WORKMESH), "audit", "status", "--json"], env=workmesh.env, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"{}").get("problems", [])
    return found


def test_a_role_has_a_key_of_its_own_that_nobody_else_has(site: Site) -> None:
    keys = {path.stem: path.read_text() for path in (site.folder / "state" / "keys").glob("*.nk")}
    assert len(set(keys.values())) == len(keys) and "auditor" in keys
    writers = {role for role, rights in ROLES.items() if any(s.startswith(("audit.", ">")) for s in rights.publish)}
    assert writers == {"auditor"}
