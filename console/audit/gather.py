"""Everything a report of a task is made of, read from a running site and checked."""

from datetime import datetime

from console.audit import reading
from console.audit.report import Bundle, Case, Proved
from mesh import subjects
from mesh.activation import Activations
from mesh.audit import entry_of_message
from mesh.bus import Bus, StoredMessage
from mesh.canonical import digest
from mesh.clock import now
from mesh.errors import SignatureError, TerminalError, WorkmeshError
from mesh.journal import stored
from mesh.merkle import Tree, verify_inclusion
from mesh.records import Decision, Struct
from mesh.signed_note import LogCheckpoint, VerifierKey, unverified
from mesh.trust import TrustDirectory


class _Contents(Struct, frozen=True, kw_only=True):
    """A bundle as it is published, by policy_service."""

    domain: str
    files: tuple[tuple[str, str], ...]


async def gather(bus: Bus, root: str, task_id: str) -> Case:
    """The records of a task in order, the keys, bundles and proof behind them."""
    directory, _ = await reading.trust(bus, root)
    held = [message async for message in reading.messages(bus, subjects.JOURNAL, subjects.whole_task(task_id))]
    items = [stored(message) for message in held]
    decisions = [item.record for item in items if isinstance(item.record, Decision)]
    activations = Activations(bus, directory)
    wanted = {decision.bundle: decision.header.domain for decision in decisions if decision.bundle}
    return Case(
        items=items,
        digests={message.seq: entry_of_message(message).digest for message in held},
        directory=directory,
        bundles={each: await _bundle(activations, domain, each) for each, domain in wanted.items()},
        proved=await _proved(bus, directory, held),
        at=now(),
    )


async def _bundle(activations: Activations, domain: str, wanted: str) -> Bundle:
    try:
        contents = await activations.contents(domain, wanted, _Contents)
    except (SignatureError, TerminalError) as error:
        return Bundle(wanted, problem=str(error))
    found = digest(contents)
    return Bundle(wanted, contents.files, "" if found == wanted else f"have the digest {found}")


async def _proved(bus: Bus, directory: TrustDirectory, held: list[StoredMessage]) -> Proved:
    last = await reading.last_checkpoint(bus)
    if last is None:
        return Proved(None)
    note = last.data.decode("utf-8", "replace")
    head, problem, key = unverified(note), "", ""
    keys = reading.auditor_keys(directory)
    try:
        LogCheckpoint.open(note, keys)
        key = next(str(each) for each in keys if _signs(note, each))
    except SignatureError as error:
        problem = str(error)
    at = f"{datetime.fromisoformat(last.time):%Y-%m-%d %H:%M:%S} UTC"
    if head is None:
        return Proved(None, note, at, key, problem)
    try:
        tree = await reading.tree_of(bus, head.size)
    except WorkmeshError as error:
        return Proved(head, note, at, key, str(error))
    included = {message.seq: _included(message, tree, head) for message in held if message.seq <= head.size}
    return Proved(head, note, at, key, problem, included)


def _signs(note: str, key: VerifierKey) -> bool:
    try:
        LogCheckpoint.open(note, [key])
    except SignatureError:
        return False
    return True


def _included(message: StoredMessage, tree: Tree, head: LogCheckpoint) -> bool:
    path = tree.inclusion_proof(message.seq - 1, head.size)
    return verify_inclusion(entry_of_message(message).leaf(), message.seq - 1, head.size, path, head.root)
