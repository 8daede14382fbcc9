"""The auditor: follows the journal by sequence, adds a line to the log for each, signs and publishes checkpoints.

The rule: it never signs a checkpoint that does not extend every one that was signed before, and never stops for a
record: what the journal does not hold is a line too.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import msgspec
import structlog

from mesh import audit, faultpoints, metrics, subjects
from mesh.audit import Entry, Problem, entry_of_message, runs
from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import BusUnavailableError, SignatureError
from mesh.identity import Identity
from mesh.journal import Committer
from mesh.signed_note import LogCheckpoint, VerifierKey, unverified
from mesh.trust import TrustDirectory
from policy_service.audit.files import CheckpointFile, LogFile, LogMismatch
from policy_service.audit.published import Published

log = structlog.get_logger(__name__)

PAGE = 256
_PACE_S = 0.25  # nobody waits for the log: a page gathers meanwhile
_AWAY_S = 1.0
_TELL_AGAIN_S = 60.0
_NO_MESSAGE = 10037


class Auditor:
    """The log of one journal, its signing, and what was found wrong."""

    def __init__(
        self,
        bus: Bus,
        committer: Committer,
        trust: TrustDirectory,
        identity: Identity,
        logfile: LogFile,
        checkpoints: CheckpointFile,
        *,
        ages: bool = False,
    ) -> None:
        """With ``ages``, the journal may let old records go."""
        self.log = logfile
        self.recheck = asyncio.Event()
        self.refuses = False
        self._bus = bus
        self._trust = trust
        self._identity = identity
        self._checkpoints = checkpoints
        self._published = Published(bus, committer)
        self._origin = audit.origin(trust.root_public_key)
        self._signed = LogCheckpoint(self._origin, 0, logfile.frontier.root())
        self._note = ""  # signed, on our disk, and not yet known to be on the bus
        self._is_short = False
        self._gone: tuple[int, int] | None = None  # how much the journal has let go of
        self.ages = ages
        self._known: set[tuple[str, int]] = set()

    @property
    def signed_size(self) -> int:
        """The last sequence that a signed checkpoint covers."""
        return self._signed.size

    def keys(self) -> list[VerifierKey]:
        """Our own key and those of the other auditors, also of former ones."""
        entries = self._trust.entries()
        names = [entry.public_key for entry in entries if entry.kind == "agent" and audit.ROLE in entry.roles]
        return [VerifierKey.of(self._origin, key) for key in dict.fromkeys((self._identity.public_key, *names))]

    async def open(self) -> None:
        """Take up the log where it was left, or make it anew from the bus; else refuse to sign (``refuses``)."""
        notes = await self._notes()
        signed = await self._sound(notes, verify_all=False)
        try:
            try:
                await self._load(signed)
            except LogMismatch:
                signed = await self._sound(notes, verify_all=True)
                await self._load(signed)
        except LogMismatch as error:
            self.refuses = True
            detail = f"{error}; {self._checkpoints.path} and the journal contradict each other: nothing is signed"
            await self.report("contradiction", 1, max(signed), detail=detail)
            return
        if signed:
            self._signed = signed[max(signed)]
            self._note = next(note for note in notes if unverified(note) == self._signed)
        await self._tell_forks((seq, theirs, "") for seq, theirs in await self._published.open(self.log.lines))
        self.recheck.set()
        self._show()
        log.info("audit_log_opened", size=self.log.size, origin=self._origin, file=str(self._checkpoints.path))

    async def _notes(self) -> list[str]:
        """Every checkpoint that may have been signed: those of our file, and the last one on the bus."""
        notes = await asyncio.to_thread(self._checkpoints.notes)
        last = await self._bus.last(subjects.AUDIT, audit.CHECKPOINTS)
        return [*notes, *([last.data.decode("utf-8", "replace")] if last else [])]

    async def _sound(self, notes: Sequence[str], *, verify_all: bool) -> dict[int, LogCheckpoint]:
        """The checkpoints by size; what no auditor signed is told and passed over.

        A checkpoint whose root is that of our own lines needs no look at its signature, so unless ``verify_all`` only
        the last one's is verified: a year has millions.
        """
        keys, found, sure = self.keys(), dict[int, LogCheckpoint](), False
        for number in range(len(notes) - 1, -1, -1):
            claimed = unverified(notes[number])
            if claimed is None or not sure or claimed.size > max(found, default=0) or self._differs(found, claimed):
                try:
                    claimed = LogCheckpoint.open(notes[number], keys)
                except SignatureError as error:
                    size = claimed.size if claimed else 0
                    detail = f"a checkpoint of size {size} in {self._checkpoints.path} or AUDIT: {error}"
                    await self.report("forged_checkpoint", number + 1, number + 1, detail=detail)
                    continue
                sure = not verify_all
            if self._differs(found, claimed):
                detail = f"two checkpoints of size {claimed.size} were signed, with other roots or of other logs"
                await self.report("fork", claimed.size, claimed.size, detail=detail)
            found.setdefault(claimed.size, claimed)
        return found

    def _differs(self, found: Mapping[int, LogCheckpoint], claimed: LogCheckpoint) -> bool:
        other = found.get(claimed.size, claimed)
        return claimed.origin != self._origin or other.root != claimed.root

    async def _load(self, signed: Mapping[int, LogCheckpoint]) -> None:
        """From our own file, else from the lines in ``AUDIT``, else from the journal; raises ``LogMismatch``."""
        roots = {size: found.root for size, found in signed.items()}
        try:
            await asyncio.to_thread(self.log.load, roots)
            return
        except LogMismatch as error:
            log.warning("audit_log_rebuilt", reason=str(error), path=str(self.log.path))
        try:
            await self.log.rebuild(audit.read_lines(self._bus), roots)
        except LogMismatch as error:
            log.warning("audit_log_rebuilt_from_journal", reason=str(error))
            await self.log.rebuild(self._journal_lines(), roots)

    async def _journal_lines(self) -> AsyncIterator[str]:
        expected = 1
        while page := await self._bus.read(subjects.JOURNAL, expected, PAGE):
            for entry in entries_of(page, expected):
                yield entry.line()
            expected = page[-1].seq + 1

    async def run(self, checkpoint_s: float) -> None:
        """Follow and sign until cancelled."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                more = not self.refuses and await self.follow()
                if self.refuses:
                    log.error("audit_refuses_to_sign", reason="a signed checkpoint is contradicted: see `audit status`")
                elif loop.time() >= due or self._published.is_behind:
                    due = loop.time() + checkpoint_s
                    await self.checkpoint()
            except BusUnavailableError as error:
                log.warning("audit_waits", size=self.log.size, error=str(error))
                await asyncio.sleep(_AWAY_S)
                continue
            if not more:
                await asyncio.sleep(_TELL_AGAIN_S if self.refuses else _PACE_S)

    async def finish(self) -> None:
        """Take in what stands in the journal now, and sign it."""
        while not self.refuses and await self.follow():
            pass
        if not self.refuses:
            await self.checkpoint()

    async def follow(self) -> bool:
        """Take in one page of the journal; whether there may be more at once."""
        page = await self._bus.read(subjects.JOURNAL, self.log.size + 1, PAGE)
        start = self.log.size + 1
        taken: list[Entry] = []
        for message in page:
            expected = start + len(taken)
            if message.seq > expected and await self._held(expected) < message.seq:
                break  # a replica that lags has answered: the leader holds what it does not
            taken += entries_of([message], expected)
        await self._take(taken)
        return len(taken) >= PAGE

    async def checkpoint(self) -> None:
        """Sign the log as it is, if anything is new, and publish what is not on the bus."""
        await self._tail()
        root = self.log.frontier.root()
        if self.log.size > self._signed.size:
            self.log.sync()
            await faultpoints.reach("auditor.before_signing")
            self._signed = LogCheckpoint(self._origin, self.log.size, root)
            self._note = self._signed.signed(self._identity)
            self._checkpoints.append(self._note)
            await faultpoints.reach("auditor.after_signing")
        if self._note:
            await self._tell_forks(await self._published.lines())
            await faultpoints.reach("auditor.before_publishing")
            other = await self._published.checkpoint(self._note, self._signed, self.keys())
            if other is not None:
                detail = f"another auditor signed the root {other.root.hex()}, ours is {self._signed.root.hex()}"
                await self.report("fork", other.size, other.size, detail=detail)
            await faultpoints.reach("auditor.after_publishing")
            self._note = ""
        self._show()

    async def _tail(self) -> None:
        """Find out where the journal ends: sequences that were given away before its end are missing too."""
        info = await self._bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
        if "error" in info:
            raise BusUnavailableError(f"the journal: {info['error'].get('description')}")
        end = int(info["state"]["last_seq"])
        state = info["state"]
        gone = (int(state.get("num_deleted", 0)), 0 if self.ages else int(state["first_seq"]))
        if self._gone is not None and gone > self._gone:
            self.recheck.set()  # something was taken away behind us
        self._gone = gone
        was_short, self._is_short = self._is_short, end < self.log.size
        if was_short != self._is_short:
            self.recheck.set()  # what is written there from now on is not what was audited
        if self._is_short:
            if not was_short:
                await self.report("rolled_back", end + 1, self.log.size, detail=f"the journal ended at {end}")
            return
        while self.log.size < end and await self.follow():
            pass
        start = self.log.size + 1
        if start <= end and await self._held(start) > end:
            await self._take([Entry(seq) for seq in range(start, end + 1)])

    async def _held(self, seq: int) -> int:
        """The first sequence from ``seq`` on that the journal's leader holds."""
        answer = await self._bus.api(f"STREAM.MSG.GET.{subjects.JOURNAL}", {"seq": seq, "next_by_subj": ">"})
        if answer.get("error", {}).get("err_code") == _NO_MESSAGE:
            return 1 << 63
        if "message" not in answer:
            raise BusUnavailableError(f"the journal at {seq}: {answer}")
        return int(answer["message"]["seq"])

    async def _take(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        lines = self.log.append(entries)
        forks = self._published.take(entries[0].seq, lines)
        metrics.AUDIT_SIZE.set(self.log.size)
        await faultpoints.reach("auditor.after_lines")
        ours = dict(zip((entry.seq for entry in entries), lines, strict=True))
        await self._tell_forks((seq, theirs, ours[seq]) for seq, theirs in forks)
        for first, last in runs([entry.seq for entry in entries if entry.is_missing]):
            await self.report("missing", first, last, detail="the journal does not hold this sequence")

    async def _tell_forks(self, forks: Iterable[tuple[int, str, str]]) -> None:
        for seq, theirs, ours in forks:
            await self.report("fork", seq, seq, detail=f"another auditor has the line {theirs!r}, ours is {ours!r}")

    async def report(self, kind: str, seq: int, last: int, *, subject: str = "", detail: str = "") -> None:
        """Tell of a problem, once: in the log, as a metric, and in ``AUDIT``."""
        if (kind, seq) in self._known:
            return
        self._known.add((kind, seq))
        problem = Problem(kind=kind, seq=seq, last=last, subject=subject, detail=detail, at=now())
        log.error("audit_problem", kind=kind, seq=seq, last=last, subject=subject, detail=detail)
        metrics.AUDIT_PROBLEMS.labels(kind).inc()
        await self._published.problem(problem, msgspec.json.encode(problem))

    def _show(self) -> None:
        metrics.AUDIT_SIZE.set(self.log.size)
        metrics.AUDIT_SIGNED_SIZE.set(self._signed.size)


def entries_of(page: Iterable[StoredMessage], expected: int) -> list[Entry]:
    """The entries from ``expected`` to the last of these messages, also for what is not among them."""
    entries: list[Entry] = []
    for message in page:
        entries += [Entry(seq) for seq in range(expected, message.seq)]
        entries.append(entry_of_message(message))
        expected = message.seq + 1
    return entries
