"""A journal, its log and its checkpoints without a bus: each way to tamper with them, and what is said of it."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.audit.document import EXPORT_FORMAT, End, Export, Head, Message, Proof, ProvenMessage, encode, read
from console.audit.verify import Finding, Pinned, Verdict, verify_export, verify_proof
from mesh.audit import Entry, origin
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.merkle import Tree
from mesh.signed_note import LogCheckpoint, VerifierKey

COUNT = 20
MISSING = 7
SIGNED = (5, 12, 18)


class Site:
    """Twenty sequences, of which one was never there; checkpoints at three sizes."""

    def __init__(self, folder: Path) -> None:
        self.auditor = Identity.create(folder / "auditor.nk", "auditor")
        self.thief = Identity.create(folder / "thief.nk", "thief")
        self.origin = origin(self.auditor.public_key)
        self.key = VerifierKey.of(self.origin, self.auditor.public_key)
        self.messages = [message(seq) for seq in range(1, COUNT + 1) if seq != MISSING]
        by_seq = {each.seq: each for each in self.messages}
        self.entries = [by_seq[seq].entry() if seq in by_seq else Entry(seq) for seq in range(1, COUNT + 1)]
        self.lines = [entry.line() for entry in self.entries]
        self.tree = Tree(entry.leaf() for entry in self.entries)

    def note(self, size: int, root: bytes | None = None, signer: Identity | None = None) -> str:
        return LogCheckpoint(self.origin, size, root or self.tree.root(size)).signed(signer or self.auditor)

    def export(self) -> Export:
        head = Head(
            format=EXPORT_FORMAT,
            origin=self.origin,
            keys=(str(self.key),),
            trust_root=self.auditor.public_key,
            exported_at=datetime(2026, 1, 2, tzinfo=UTC),
            first_seq=1,
            last_seq=COUNT,
        )
        notes = [self.note(size) for size in SIGNED]
        end = End(messages=len(self.messages), entries=COUNT)
        return Export(head, notes, list(self.lines), messages=list(self.messages), end=end)

    def proof(self, *seqs: int, size: int = 18, since: int = 12) -> Proof:
        return Proof(
            origin=self.origin,
            keys=(str(self.key),),
            task_id="t1",
            checkpoint=self.note(size),
            messages=tuple(
                ProvenMessage(
                    message=next(each for each in self.messages if each.seq == seq),
                    path=tuple(step.hex() for step in self.tree.inclusion_proof(seq - 1, size)),
                )
                for seq in seqs
            ),
            since=self.note(since),
            consistency=tuple(step.hex() for step in self.tree.consistency_proof(since, size)),
        )


def message(seq: int, data: str = "") -> Message:
    headers = {"Workmesh-Stream": "EVENTS"} if seq % 5 == 0 else {}
    task = f"t{seq % 4}"
    at = f"2026-01-02T00:00:{seq:02}.5Z"
    return Message(
        seq=seq, time=at, subject=f"task.result.d.{task}.s{seq}", data=data or f'{{"n":{seq}}}', headers=headers
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("keys"))


def wrong(verdict: Verdict) -> set[tuple[str, int, int]]:
    """What was found besides the sequence that was never there."""
    assert not verdict.intact
    found = {(each.kind, each.seq, each.last) for each in verdict.findings}
    assert ("missing", MISSING, MISSING) in found
    return found - {("missing", MISSING, MISSING)}


def check(export: Export, **pins: Any) -> set[tuple[str, int, int]]:
    return wrong(verify_export(export, Pinned(**pins)))


def test_nothing_but_the_sequence_that_was_never_there_is_named(site: Site) -> None:
    verdict = verify_export(site.export(), Pinned(keys=(site.key,)))
    (missing,) = verdict.findings
    assert (missing.kind, missing.seq) == ("missing", MISSING)
    assert (verdict.covered, verdict.uncovered, verdict.messages, verdict.checkpoints) == (18, 2, COUNT - 1, 3)
    assert verdict.pinned
    after = verify_export(
        replace(site.export(), messages=site.messages[8:], end=End(messages=11, entries=COUNT)), Pinned(first=10)
    )
    assert after.intact and not after.pinned


Change = Callable[[Export], None]


def put(place: int, *messages: Message) -> Change:
    """Replace the message at this place of the list."""

    def change(export: Export) -> None:
        export.messages[place : place + 1] = messages

    return change


def shift(export: Export, place: int, by: int) -> None:
    export.messages[place:] = [msgspec.structs.replace(each, seq=each.seq + by) for each in export.messages[place:]]


def insert(export: Export) -> None:
    shift(export, 2, 1)
    export.messages.insert(2, msgspec.structs.replace(message(3, '"new"'), subject="task.result.d.evil.s"))
    export.messages.pop()


def close_up(export: Export) -> None:
    del export.messages[2]
    shift(export, 2, -1)


def swap(export: Export) -> None:
    third, tenth = export.messages[2], export.messages[8]
    export.messages[2] = msgspec.structs.replace(tenth, seq=third.seq)
    export.messages[8] = msgspec.structs.replace(third, seq=tenth.seq)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(put(2, message(3, "{}")), {("changed", 3, 3)}, id="data"),
        pytest.param(
            put(2, msgspec.structs.replace(message(3), subject="task.result.d.t9.s3")),
            {("changed", 3, 3)},
            id="subject",
        ),
        pytest.param(put(4, msgspec.structs.replace(message(5), headers={})), {("changed", 5, 5)}, id="headers"),
        pytest.param(
            put(2, msgspec.structs.replace(message(3), time="2026-01-02T00:00:03.6Z")),
            {("stored_again", 3, 3)},
            id="time",
        ),
        pytest.param(put(2), {("removed", 3, 3)}, id="removed"),
        pytest.param(put(5, message(6), message(7)), {("inserted", 7, 7)}, id="put-where-nothing-was"),
        pytest.param(put(2, message(3), message(3, "{}")), {("inserted", 3, 3)}, id="twice"),
        pytest.param(
            insert, {("inserted", 3, 3), ("moved", 3, 6), ("moved", 8, 19), ("removed", 20, 20)}, id="inserted"
        ),
        pytest.param(close_up, {("removed", 3, 3), ("moved", 4, 6), ("moved", 8, 20)}, id="closed-up"),
        pytest.param(swap, {("moved", 3, 3), ("moved", 10, 10)}, id="swapped"),
    ],
)
def test_a_record_that_was_tampered_with_is_named(site: Site, change: Change, found: set[tuple[str, int, int]]) -> None:
    export = site.export()
    change(export)
    export.end = End(messages=len(export.messages), entries=COUNT)
    assert check(export) == found


def test_a_removed_record_is_named_with_its_subject_and_task(site: Site) -> None:
    export = site.export()
    del export.messages[2]
    found = next(each for each in verify_export(export, Pinned()).findings if each.kind == "removed")
    assert (found.subject, found.task_id) == ("task.result.d.t3.s3", "t3")


def test_what_is_cut_off_the_end_is_named(site: Site) -> None:
    export = site.export()
    export.messages, export.end = export.messages[:-4], None
    assert check(export) == {("truncated", 0, 0), *(("removed", seq, seq) for seq in range(17, 21))}
    export.lines = export.lines[:16]
    assert check(export) == {("truncated", 0, 0), ("entries_missing", 17, 18)}
    export.notes = export.notes[:2]
    assert check(export) == {("truncated", 0, 0)}  # a prefix of the truth: only a pinned checkpoint tells
    assert check(export, notes=(site.note(18),)) == {("truncated", 0, 0), ("entries_missing", 17, 18)}


def test_a_record_changed_with_its_line_is_between_two_checkpoints_and_exact_with_the_auditors_file(site: Site) -> None:
    export = site.export()
    export.messages[8] = message(10, '"forged"')
    export.lines[9] = export.messages[8].entry().line()
    assert check(export) == {("forged_entries", 6, 12)}
    assert check(export, lines=tuple(site.lines)) == {("forged_entry", 10, 10), ("changed", 10, 10)}


@pytest.mark.parametrize("line", ["", "10", "ten 1 2 3", "10 a b c d e", "11 missing", "10  x"])
def test_a_line_that_no_auditor_writes_is_named(site: Site, line: str) -> None:
    export = site.export()
    export.lines[9] = line
    assert ("forged_entry", 10, 10) in check(export) and ("forged_entries", 6, 12) in check(export)


def test_a_checkpoint_that_the_auditor_did_not_sign_is_named(site: Site) -> None:
    export = site.export()
    export.notes[1] = site.note(12, signer=site.thief)
    assert check(export) == {("forged_checkpoint", 12, 12)}
    export.notes[1] = export.notes[0].replace("\n5\n", "\n12\n")
    assert check(export) == {("forged_checkpoint", 12, 12)}
    export.notes[1] = "no note"
    assert check(export) == {("forged_checkpoint", 0, 0)}


def test_two_signed_histories_are_named(site: Site) -> None:
    other = Tree([*(entry.leaf() for entry in site.entries[:8]), Entry(9).leaf()])
    export = site.export()
    export.notes.append(site.note(9, other.root()))
    assert check(export) == {("inconsistent_checkpoints", 9, 12)}
    export.notes[-1] = site.note(12, Tree([Entry(1).leaf()]).root())
    assert check(export) == {("inconsistent_checkpoints", 12, 12)}


def test_a_file_made_whole_by_a_thief_is_refused_by_a_pinned_key_or_checkpoint(site: Site) -> None:
    export = site.export()
    key = VerifierKey.of(site.origin, site.thief.public_key)
    export.head = msgspec.structs.replace(export.head, keys=(str(key),))
    export.messages[2] = message(3, '"forged"')
    export.lines[2] = export.messages[2].entry().line()
    tree = Tree(Entry.parse(line).leaf() for line in export.lines)
    export.notes = [site.note(size, tree.root(size), site.thief) for size in SIGNED]
    assert check(export) == set()  # the file vouches for itself
    assert {kind for kind, *_ in check(export, keys=(site.key,))} == {"forged_checkpoint", "unsigned"}
    assert ("forged_checkpoint", 18, 18) in check(export, notes=(site.note(18),))


def test_without_a_checkpoint_nothing_is_proved(site: Site) -> None:
    export = site.export()
    export.notes = []
    assert check(export) == {("unsigned", 0, 0)}


@settings(deadline=None)
@given(st.data())
def test_no_tampering_with_messages_goes_unseen(site: Site, data: st.DataObject) -> None:
    export = site.export()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(export.messages) - 1))
        held = export.messages[place]
        other = data.draw(st.sampled_from(export.messages))
        match data.draw(st.sampled_from(["data", "drop", "copy", "seq", "time", "subject"])):
            case "data":
                export.messages[place] = msgspec.structs.replace(held, data=data.draw(st.text(max_size=9)))
            case "drop":
                del export.messages[place]
            case "copy":
                export.messages.insert(place, msgspec.structs.replace(other, seq=held.seq))
            case "seq":
                export.messages[place] = msgspec.structs.replace(held, seq=data.draw(st.integers(-2, COUNT)))
            case "time":
                export.messages[place] = msgspec.structs.replace(held, time=other.time)
            case _:
                export.messages[place] = msgspec.structs.replace(held, subject=other.subject)
    export.end = End(messages=len(export.messages), entries=COUNT)
    if export.messages != site.messages:
        assert check(export)
    else:
        assert {each.kind for each in verify_export(export, Pinned()).findings} == {"missing"}


def test_a_proof_stands_for_its_records_alone(site: Site) -> None:
    proof = site.proof(1, 5, 9, 13)
    verdict = verify_proof(proof, Pinned(keys=(site.key,)))
    assert verdict.intact and (verdict.covered, verdict.messages) == (18, 4)
    changed = msgspec.structs.replace(proof.messages[2], message=msgspec.structs.replace(message(9), data="{}"))
    bad = msgspec.structs.replace(proof, messages=(*proof.messages[:2], changed, proof.messages[3]))
    (finding,) = verify_proof(bad, Pinned()).findings
    assert (finding.kind, finding.seq, finding.task_id) == ("changed", 9, "t1")
    longer = msgspec.structs.replace(proof, consistency=proof.consistency[1:])
    assert [each.kind for each in verify_proof(longer, Pinned()).findings] == ["inconsistent_checkpoints"]
    other = msgspec.structs.replace(proof, task_id="t2")
    assert len(verify_proof(other, Pinned()).findings) == 4
    forged = msgspec.structs.replace(proof, checkpoint=site.note(18, signer=site.thief))
    assert {each.kind for each in verify_proof(forged, Pinned()).findings} == {"forged_checkpoint"}


def test_a_message_cannot_pass_for_another_by_spaces_in_its_subject(site: Site) -> None:
    real = site.messages[4]
    time, subject, digest, _ = site.lines[4].split(" ")[1:]
    headers = msgspec.json.encode([["Workmesh-Stream", "EVENTS"]]).decode()
    fake = Message(seq=5, time=f"{time} {subject}", subject=digest, data=headers)
    assert real.seq == 5 and real.headers
    proof = site.proof(5)
    bad = msgspec.structs.replace(proof, messages=(msgspec.structs.replace(proof.messages[0], message=fake),))
    assert not verify_proof(bad, Pinned()).intact
    export = site.export()
    export.messages[4] = fake
    assert check(export) == {("changed", 5, 5)}


def test_a_file_is_read_as_it_was_written(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "export"
    export = site.export()
    binary = Message(seq=21, time="t", subject="task.a.b.c.d", data=base64.b64encode(b"\xff").decode(), binary=True)
    assert binary.raw == b"\xff"
    parts: list[Any] = [export.head, *export.messages, binary, End(messages=20, entries=0)]
    path.write_bytes(b"".join(map(encode, parts)) + b"no line\n")
    found = read(path)
    assert isinstance(found, Export)
    assert (found.messages, found.unreadable) == ([*export.messages, binary], [len(parts) + 1])
    path.write_bytes(encode(site.proof(1)))
    assert read(path) == site.proof(1)
    for text in (b"", b"[]", b'{"format":"x"}', b"\xff\n"):
        path.write_bytes(text)
        with pytest.raises(WorkmeshError, match="is no file of `workmesh audit`"):
            read(path)


def test_findings_are_data(site: Site) -> None:
    verdict = verify_export(site.export(), Pinned())
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert all(isinstance(each, Finding) for each in verdict.findings)
