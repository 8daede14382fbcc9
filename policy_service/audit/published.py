"""The auditor's side of the stream ``AUDIT``: lines, checkpoints and problems, each created only if absent.

The rule: a checkpoint is published after all lines that it covers; where another auditor was first, what it published
is held against our own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import structlog

from mesh import audit, subjects
from mesh.bus import Bus
from mesh.errors import ConflictError, SignatureError
from mesh.journal import Committer, Message
from mesh.signed_note import LogCheckpoint, VerifierKey

log = structlog.get_logger(__name__)

PENDING_MAX = 16 * audit.CHUNK


class Published:
    """What has been published of our log. ``reached`` is the last sequence whose line stands in ``AUDIT``."""

    def __init__(self, bus: Bus, committer: Committer) -> None:
        self._bus = bus
        self._committer = committer
        self._pending: deque[str] = deque()
        self._others: dict[int, str] = {}  # lines that another auditor published before we came to them
        self.reached = 0

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that it should be signed and published before more is read."""
        return len(self._pending) >= PENDING_MAX

    async def open(self, lines: Callable[[int], Iterable[str]]) -> list[tuple[int, str]]:
        """Find out what stands there, and queue those of our ``lines(first)`` that do not; what differs."""
        last = await self._bus.last(subjects.AUDIT, audit.ENTRIES)
        if last is not None:
            first = int(last.subject.rpartition(".")[2])
            found = last.data.decode("utf-8", "replace").splitlines()
            self.reached = first + len(found) - 1
            self._others = dict(enumerate(found, first))
        start = min(self._others, default=1)
        return self.take(start, await asyncio.to_thread(lambda: list(lines(start))))

    def take(self, first: int, lines: Sequence[str]) -> list[tuple[int, str]]:
        """Queue our next lines; those that another auditor published otherwise, with its line."""
        forks = []
        for seq, line in enumerate(lines, first):
            other = self._others.pop(seq, None)
            if other is not None and other != line:
                forks.append((seq, other))
            if seq > self.reached:
                self._pending.append(line)
        return forks

    async def lines(self) -> list[tuple[int, str, str]]:
        """Publish all that is queued; lines that another auditor published otherwise: sequence, theirs, ours."""
        forks: list[tuple[int, str, str]] = []
        while self._pending:
            chunk = [self._pending[number] for number in range(min(len(self._pending), audit.CHUNK))]
            first = self.reached + 1
            subject = audit.entries_subject(first)
            try:
                await self._committer.commit([Message(subject, "".join(f"{line}\n" for line in chunk).encode())])
            except ConflictError:
                stands = await self._bus.last(subjects.AUDIT, subject)
                theirs = stands.data.decode("utf-8", "replace").splitlines() if stands else []
                if not theirs:
                    log.error("audit_lines_unreadable", subject=subject)
                    return forks
                for seq, other in enumerate(theirs, first):
                    place = seq - first
                    if place >= len(self._pending):
                        self._others[seq] = other
                    elif other != self._pending[place]:
                        forks.append((seq, other, self._pending[place]))
                chunk = theirs
            self.reached += len(chunk)
            for _ in range(min(len(chunk), len(self._pending))):
                self._pending.popleft()
        return forks

    async def checkpoint(self, note: str, ours: LogCheckpoint, keys: Iterable[VerifierKey]) -> LogCheckpoint | None:
        """Publish a signed checkpoint; another auditor's of the same size and another root, if there is one."""
        subject = audit.checkpoint_subject(ours.size)
        try:
            await self._committer.commit([Message(subject, note.encode())])
        except ConflictError:
            stands = await self._bus.last(subjects.AUDIT, subject)
            try:
                theirs = LogCheckpoint.open(stands.data.decode("utf-8", "replace"), keys) if stands else ours
            except SignatureError as error:
                log.error("audit_checkpoint_refused", subject=subject, reason=str(error))
                return None
            return theirs if theirs.root != ours.root else None
        return None

    async def problem(self, problem: audit.Problem, data: bytes) -> None:
        """Publish what contradicts the log, where it does not stand already."""
        try:
            await self._committer.commit([Message(audit.problem_subject(problem), data)])
        except ConflictError:
            log.debug("audit_problem_known", kind=problem.kind, seq=problem.seq)
