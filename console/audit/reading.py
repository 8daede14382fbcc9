"""What the commands of ``workmesh audit`` read of a running site."""

from collections.abc import AsyncIterator

import msgspec

from console.audit.document import Message, Proof, ProvenMessage
from mesh import audit, subjects
from mesh.audit import Entry, Problem
from mesh.bus import Bus, StoredMessage
from mesh.errors import SignatureError, WorkmeshError
from mesh.merkle import Tree
from mesh.records import Struct
from mesh.signed_note import VerifierKey, unverified
from mesh.trust import TrustDirectory

_TRUST = f"KV_{subjects.TRUST_BUCKET}"
_PAGE = 256


class Status(Struct, frozen=True, kw_only=True):
    """Where the audit log of a site stands. ``journal`` is the last sequence of the journal."""

    origin: str
    size: int
    root: str
    signed_at: str
    journal: int
    behind: int
    problems: tuple[Problem, ...] = ()
    keys: tuple[str, ...] = ()


async def messages(bus: Bus, stream: str, flt: str = ">") -> AsyncIterator[StoredMessage]:
    """Every message of a stream that matches, in order."""
    seq = 1
    while page := await bus.read(stream, seq, _PAGE, flt):
        for message in page:
            yield message
        seq = page[-1].seq + 1


async def trust(bus: Bus, root: str) -> tuple[TrustDirectory, list[bytes]]:
    """The entries of the bucket ``TRUST`` that the root signed, and their envelopes."""
    directory, envelopes = TrustDirectory(root), {}
    async for message in messages(bus, _TRUST):
        try:
            entry = directory.apply(message.data)
        except SignatureError:
            continue
        envelopes[entry.name] = message.data
    return directory, list(envelopes.values())


def auditor_keys(directory: TrustDirectory) -> tuple[VerifierKey, ...]:
    """The keys of a site's auditors, also of revoked ones: what they signed before stands."""
    origin = audit.origin(directory.root_public_key)
    entries = [entry for entry in directory.entries() if entry.kind == "agent" and audit.ROLE in entry.roles]
    return tuple(VerifierKey.of(origin, entry.public_key) for entry in entries)


async def notes(bus: Bus) -> list[StoredMessage]:
    """The signed checkpoints on the bus, as they were published."""
    return [message async for message in messages(bus, subjects.AUDIT, audit.CHECKPOINTS)]


async def last_checkpoint(bus: Bus) -> StoredMessage | None:
    """The checkpoint that was published last."""
    return await bus.last(subjects.AUDIT, audit.CHECKPOINTS)


async def status(bus: Bus, root: str) -> Status:
    """Where the log stands against the journal."""
    directory, _ = await trust(bus, root)
    last = await last_checkpoint(bus)
    head = unverified(last.data.decode("utf-8", "replace")) if last else None
    info = await bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
    journal = int(info["state"]["last_seq"])
    problems = [message async for message in messages(bus, subjects.AUDIT, audit.PROBLEMS)]
    size = head.size if head else 0
    return Status(
        origin=audit.origin(root),
        size=size,
        root=head.root.hex() if head else "",
        signed_at=last.time if last else "",
        journal=journal,
        behind=max(journal - size, 0),
        problems=tuple(msgspec.json.decode(message.data, type=Problem) for message in problems),
        keys=tuple(str(key) for key in auditor_keys(directory)),
    )


async def prove(bus: Bus, root: str, task_id: str, since: int = 0) -> Proof:
    """Proofs of all records of a task, to the newest checkpoint; raises ``WorkmeshError``.

    ``since`` is the size of an older checkpoint, whose log the newest must begin with.
    """
    directory, _ = await trust(bus, root)
    last = await last_checkpoint(bus)
    note = last.data.decode("utf-8", "replace") if last else ""
    head = unverified(note)
    if head is None:
        raise WorkmeshError("no checkpoint was signed yet: see `workmesh audit status`")
    held = [Message.of(message) async for message in messages(bus, subjects.JOURNAL, subjects.whole_task(task_id))]
    late = [message.seq for message in held if message.seq > head.size]
    if not held or late:
        raise WorkmeshError(
            f"sequence {late[0]} of task {task_id} is not covered yet (signed: {head.size}): try again in some seconds"
            if late
            else f"no task {task_id!r} in the journal: `workmesh tasks list` shows what there is"
        )
    tree = await tree_of(bus, head.size)
    old = await _note_of(bus, since) if since else ""
    return Proof(
        origin=audit.origin(root),
        keys=tuple(str(key) for key in auditor_keys(directory)),
        task_id=task_id,
        checkpoint=note,
        messages=tuple(
            ProvenMessage(
                message=message,
                path=tuple(step.hex() for step in tree.inclusion_proof(message.seq - 1, head.size)),
            )
            for message in held
        ),
        since=old,
        consistency=tuple(step.hex() for step in tree.consistency_proof(since, head.size)) if since else (),
    )


async def tree_of(bus: Bus, size: int) -> Tree:
    """The tree over the first ``size`` lines in ``AUDIT``; raises ``WorkmeshError`` when they are not all there."""
    tree = Tree()
    async for line in audit.read_lines(bus):
        if len(tree) == size:
            break
        tree.append(Entry.parse(line).leaf())
    if len(tree) < size:
        raise WorkmeshError(f"AUDIT has {len(tree)} lines of the log, the checkpoint covers {size}")
    return tree


async def _note_of(bus: Bus, size: int) -> str:
    found = await bus.last(subjects.AUDIT, audit.checkpoint_subject(size))
    if found is None:
        raise WorkmeshError(f"no checkpoint of size {size} was signed: `workmesh audit export` has all that were")
    return found.data.decode("utf-8", "replace")
