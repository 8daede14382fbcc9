"""Holds an export or a proof against signed checkpoints: pure, offline, with public keys alone.

The rule: a record is vouched for by a line, the line by the tree, the tree by a checkpoint, the checkpoint by a
signature; the first link that breaks is named, by sequence.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from console.audit.document import Export, Message, Proof
from console.audit.signatures import signature_of
from mesh import records
from mesh.audit import Entry, runs, task_of
from mesh.errors import SignatureError, TerminalError, WorkmeshError
from mesh.merkle import Tree, leaf_hash, verify_consistency, verify_inclusion
from mesh.records import Struct
from mesh.signed_note import LogCheckpoint, VerifierKey, unverified
from mesh.trust import TrustDirectory


class Finding(Struct, frozen=True, kw_only=True):
    """What is wrong, of the sequences from ``seq`` to ``last``; 0 where it is about no sequence."""

    kind: str
    seq: int = 0
    last: int = 0
    subject: str = ""
    task_id: str = ""
    detail: str = ""


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a check. ``covered`` is the size of the largest checkpoint that holds."""

    intact: bool
    origin: str
    pinned: bool
    keys: tuple[str, ...]
    checkpoints: int
    covered: int
    messages: int
    uncovered: int = 0
    signatures: int = 0
    unknown_keys: int = 0
    task_id: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Pinned:
    """What the person who checks brings along, from a place that the file's maker cannot write to."""

    keys: tuple[VerifierKey, ...] = ()
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    first: int = 1
    root: str = ""

    @property
    def is_something(self) -> bool:
        """Whether anything is pinned, or all is as the file itself says."""
        return bool(self.keys or self.notes)


@dataclass(slots=True)
class _Log:
    """The log of an export, as far as its lines can be read."""

    entries: list[Entry] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    findings: list[Finding] = field(default_factory=list)


def verify_export(export: Export, pinned: Pinned) -> Verdict:
    """The verdict on an export."""
    keys = keys_of(export.head.keys, pinned)
    checkpoints, findings = _checkpoints([*export.notes, *pinned.notes], keys, export.head.origin)
    log = _log(export.lines, pinned.lines)
    covered, wrong = _roots(log.tree, checkpoints)
    if pinned.notes and not pinned.keys:  # the file's own keys vouch for no more than the pinned checkpoints do
        known = {unverified(note) for note in pinned.notes}
        covered = max((found.size for found in checkpoints if found in known and found.size <= covered), default=0)
    findings += _file(export) + log.findings + wrong
    findings += _messages(log.entries, export.messages, pinned.first)
    signatures = _signatures(export, pinned)
    findings += signatures.findings
    last = max((message.seq for message in export.messages), default=0)
    if not checkpoints:
        findings.append(Finding(kind="unsigned", detail="no checkpoint that one of the keys signed: nothing is proved"))
    return Verdict(
        intact=not findings,
        origin=export.head.origin,
        pinned=pinned.is_something,
        keys=tuple(str(key) for key in keys),
        checkpoints=len(checkpoints),
        covered=covered,
        messages=len(export.messages),
        uncovered=max(last - covered, 0),
        signatures=signatures.verified,
        unknown_keys=signatures.unknown,
        findings=tuple(findings),
    )


def verify_proof(proof: Proof, pinned: Pinned) -> Verdict:
    """The verdict on a proof of one task."""
    keys = keys_of(proof.keys, pinned)
    findings: list[Finding] = []
    notes = [proof.checkpoint, *([proof.since] if proof.since else []), *pinned.notes]
    checkpoints, findings = _checkpoints(notes, keys, proof.origin)
    head = next((found for found in checkpoints if found == unverified(proof.checkpoint)), None)
    old = next((found for found in checkpoints if proof.since and found == unverified(proof.since)), None)
    for item in proof.messages:
        message = item.message
        if head is None:
            break
        if task_of(message.subject) != proof.task_id:
            findings.append(_of(message, "changed", "it is a record of another task"))
        try:
            path = [bytes.fromhex(step) for step in item.path]
            leaf = leaf_hash(message.entry().line().encode())
        except (ValueError, WorkmeshError) as error:
            findings.append(_of(message, "changed", f"it cannot be read: {error}"))
            continue
        if not verify_inclusion(leaf, message.seq - 1, head.size, path, head.root):
            detail = "it is not what the log has at this sequence, or its path was changed"
            findings.append(_of(message, "changed", detail))
    if head and old:
        steps = [bytes.fromhex(step) for step in proof.consistency]
        if not verify_consistency(old.size, head.size, steps, old.root, head.root):
            findings.append(_inconsistent(old, head))
    return Verdict(
        intact=not findings,
        origin=proof.origin,
        pinned=pinned.is_something,
        keys=tuple(str(key) for key in keys),
        checkpoints=len(checkpoints),
        covered=head.size if head else 0,
        messages=len(proof.messages),
        task_id=proof.task_id,
        findings=tuple(findings),
    )


def keys_of(said: Sequence[str], pinned: Pinned) -> tuple[VerifierKey, ...]:
    """The pinned keys, else those that the file says; raises ``WorkmeshError``."""
    try:
        return pinned.keys or tuple(VerifierKey.parse(text) for text in said)
    except ValueError as error:
        raise WorkmeshError(f"the file's own keys cannot be read: {error}") from error


@dataclass(slots=True)
class _Signatures:
    """The signatures inside of records: how many hold, how many are of keys that nobody has now, and the others."""

    verified: int = 0
    unknown: int = 0
    findings: list[Finding] = field(default_factory=list)


def _signatures(export: Export, pinned: Pinned) -> _Signatures:
    """Permits and people's words, against the keys that the root of trust enrolled."""
    found = _Signatures()
    directory = TrustDirectory(pinned.root or export.head.trust_root)
    for envelope in export.trust:
        try:
            directory.apply(envelope)
        except SignatureError as error:
            found.findings.append(Finding(kind="forged_trust", detail=str(error)))
    for message in export.messages:
        if not message.subject.startswith(("task.decision.", "task.approval.")):
            continue
        try:
            signature = signature_of(records.decode(message.raw), directory)
        except (ValueError, WorkmeshError) as error:
            found.findings.append(_of(message, "bad_signature", f"it is no record: {error}"))
            continue
        if signature is None or signature.holds:
            found.verified += signature is not None
        elif signature.is_unknown:
            found.unknown += 1
        else:
            found.findings.append(_of(message, "bad_signature", signature.problem))
    return found


def _of(message: Message, kind: str, detail: str) -> Finding:
    seq, subject = message.seq, message.subject
    return Finding(kind=kind, seq=seq, last=seq, subject=subject, task_id=task_of(subject), detail=detail)


def _checkpoints(
    notes: Iterable[str], keys: Sequence[VerifierKey], origin: str
) -> tuple[list[LogCheckpoint], list[Finding]]:
    """The checkpoints that one of the keys signed, smallest first; and the others."""
    found: dict[LogCheckpoint, None] = {}
    findings = []
    for note in dict.fromkeys(notes):
        claimed = unverified(note)
        size = claimed.size if claimed else 0
        try:
            opened = LogCheckpoint.open(note, keys)
            if opened.origin != origin:
                raise SignatureError(f"it is of the log {opened.origin}, not of {origin}")
            found[opened] = None
        except SignatureError as error:
            detail = f"the checkpoint of size {size}: {error}"
            findings.append(Finding(kind="forged_checkpoint", seq=size, last=size, detail=detail))
    return sorted(found, key=lambda checkpoint: checkpoint.size), findings


def _log(lines: Sequence[str], pinned: Sequence[str]) -> _Log:
    log = _Log()
    for seq, line in enumerate(lines, 1):
        kept = pinned[seq - 1] if seq <= len(pinned) else line
        if kept != line:
            detail = f"the auditor's own file has {kept!r}, the export {line!r}"
            log.findings.append(Finding(kind="forged_entry", seq=seq, last=seq, detail=detail))
        try:
            entry = Entry.parse(kept)
        except TerminalError as error:
            log.findings.append(Finding(kind="forged_entry", seq=seq, last=seq, detail=str(error)))
            entry = Entry(seq)
        log.entries.append(entry)
        log.tree.append(leaf_hash(kept.encode()))
        if entry.seq != seq:
            detail = f"a line of sequence {entry.seq} stands where {seq} is expected"
            log.findings.append(Finding(kind="forged_entry", seq=seq, last=seq, detail=detail))
    return log


def _roots(tree: Tree, checkpoints: Sequence[LogCheckpoint]) -> tuple[int, list[Finding]]:
    """The largest size whose signed root the lines have, and what is wrong with the others."""
    findings: list[Finding] = []
    size = len(tree)
    held = {found.size for found in checkpoints if found.size <= size and tree.root(found.size) == found.root}
    for found in checkpoints:
        if found.size > size:
            detail = f"a checkpoint of size {found.size} was signed, the file has {size} lines of the log"
            findings.append(Finding(kind="entries_missing", seq=size + 1, last=found.size, detail=detail))
        elif tree.root(found.size) != found.root:
            later = next((other for other in checkpoints if other.size in held and other.size >= found.size), None)
            if later is not None:
                findings.append(_inconsistent(found, later))
            else:
                start = max((good for good in held if good < found.size), default=0) + 1
                detail = "lines of the log were changed: the tree has another root than was signed"
                findings.append(Finding(kind="forged_entries", seq=start, last=found.size, detail=detail))
                break  # whatever is larger holds the same lines
    return max(held, default=0), findings


def _inconsistent(old: LogCheckpoint, new: LogCheckpoint) -> Finding:
    detail = (
        f"signed checkpoints of sizes {old.size} and {new.size} cannot be of one log: its signer wrote two histories"
    )
    return Finding(kind="inconsistent_checkpoints", seq=old.size, last=new.size, detail=detail)


def _file(export: Export) -> list[Finding]:
    findings = [
        Finding(kind="unreadable_line", detail=f"line {number} of the file is none of an export")
        for number in export.unreadable
    ]
    end = export.end
    if end is None:
        findings.append(Finding(kind="truncated", detail="the file ends early: its last line is missing"))
    elif (end.messages, end.entries) != (len(export.messages), len(export.lines)):
        detail = f"its last line tells of {end.messages} messages and {end.entries} entries"
        findings.append(
            Finding(kind="truncated", detail=f"{detail}, it has {len(export.messages)}/{len(export.lines)}")
        )
    return findings


def _messages(entries: Sequence[Entry], messages: Sequence[Message], first: int) -> list[Finding]:
    """Each message against the line of its sequence; what fits none, and what no message fits."""
    findings: list[Finding] = []
    strays: list[Message] = []
    seen: set[int] = set()
    again: list[int] = []
    reached = 0
    for message in messages:
        if message.seq < reached and message.seq not in seen:
            findings.append(_of(message, "moved", f"it stands behind sequence {reached} in the file"))
        reached = max(reached, message.seq)
        entry = entries[message.seq - 1] if 0 < message.seq <= len(entries) else None
        if message.seq in seen:
            strays.append(message)
        elif entry is None and message.seq > len(entries):
            seen.add(message.seq)  # not audited yet
        elif entry is None or _content(message) != entry.content:
            strays.append(message)
        else:
            seen.add(message.seq)
            if message.time != entry.time:
                again.append(message.seq)
    lost = [entry for entry in entries[first - 1 :] if not entry.is_missing and entry.seq not in seen]
    findings += _strays(entries, strays, lost)
    for start, last in runs(again):
        detail = "same record, but stored at another time than audited: the store was written anew"
        subject = entries[start - 1].subject if start == last else ""
        findings.append(
            Finding(kind="stored_again", seq=start, last=last, subject=subject, task_id=task_of(subject), detail=detail)
        )
    for start, last in runs([entry.seq for entry in entries[first - 1 :] if entry.is_missing]):
        detail = "the journal did not hold it when it was audited"
        findings.append(Finding(kind="missing", seq=start, last=last, detail=detail))
    return sorted(findings, key=lambda finding: (finding.seq, finding.kind))


def _strays(entries: Sequence[Entry], strays: Sequence[Message], lost: Sequence[Entry]) -> list[Finding]:
    """Messages that do not fit their sequence, and lines without their message: moved, changed, inserted, removed."""
    places: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for entry in lost:
        places[entry.content].append(entry.seq)
    gone = {entry.seq: entry for entry in lost}
    findings, new = [], []
    shifted: dict[int, list[int]] = defaultdict(list)
    for message in strays:
        known = places.get(_content(message))
        if known:
            origin = known.pop(0)
            del gone[origin]
            shifted[message.seq - origin].append(origin)
        else:
            new.append(message)
    for offset, origins in shifted.items():
        for start, last in runs(sorted(origins)):
            subject = entries[start - 1].subject if start == last else ""
            now = str(start + offset) if start == last else f"{start + offset} to {last + offset}"
            finding = Finding(
                kind="moved",
                seq=start,
                last=last,
                subject=subject,
                task_id=task_of(subject),
                detail=f"it stands at {now}",
            )
            findings.append(finding)
    for message in new:
        if message.seq in gone:
            findings.append(_of(message, "changed", _difference(gone.pop(message.seq), message)))
        else:
            findings.append(_of(message, "inserted", "the log has no such record"))
    for entry in gone.values():
        subject, detail = entry.subject, "the log has its line, the record is not there"
        findings.append(
            Finding(
                kind="removed", seq=entry.seq, last=entry.seq, subject=subject, task_id=task_of(subject), detail=detail
            )
        )
    return findings


def _content(message: Message) -> tuple[str, str, str]:
    try:
        return message.entry().content
    except (WorkmeshError, ValueError):
        return ("", "", "")


def _difference(entry: Entry, message: Message) -> str:
    subject, digest, headers = _content(message)
    parts = []
    if subject != entry.subject:
        parts.append(f"its subject was {entry.subject}")
    if digest != entry.digest:
        parts.append("its data is not what was audited")
    if headers != entry.headers:
        parts.append("its headers are not what was audited")
    return ", ".join(parts)
