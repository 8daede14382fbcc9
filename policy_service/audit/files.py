"""What the auditor keeps outside of the broker: its lines, and the checkpoints it has signed.

The rule: a checkpoint is on disk before anybody is shown it, and the lines that it covers before it is signed.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mesh.audit import Entry
from mesh.errors import TerminalError
from mesh.merkle import Frontier, leaf_hash
from mesh.signed_note import split_notes


class CheckpointFile:
    """Signed checkpoints in the order of signing, 0600 in a folder 0700. Auditors of one host may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))

    def notes(self) -> list[str]:
        """What it holds. A note that a crash cut short was never shown to anybody: it is taken out of the file."""
        with self._locked() as descriptor:
            notes, torn = split_notes(self.path.read_text(encoding="utf-8", errors="surrogateescape"))
            if torn:
                length = os.fstat(descriptor).st_size - len(torn.encode(errors="surrogateescape"))
                os.ftruncate(descriptor, length)
                os.fsync(descriptor)
        return [note.encode(errors="replace").decode() for note in notes]

    def append(self, note: str) -> None:
        """Add a note; it is on disk when this returns."""
        with self._locked() as descriptor:
            os.write(descriptor, f"{note}\n".encode())
            os.fsync(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


class LogMismatch(TerminalError):
    """Lines do not make the tree of a checkpoint; ``size`` is that checkpoint's."""

    def __init__(self, size: int, problem: str) -> None:
        super().__init__(f"checkpoint of size {size}: {problem}")
        self.size = size


class Growing:
    """A tree under construction, held against the roots that were signed at certain sizes."""

    def __init__(self, roots: Mapping[int, bytes]) -> None:
        self.frontier = Frontier()
        self.goal = max(roots, default=0)
        self._roots = roots

    @property
    def is_complete(self) -> bool:
        """Whether it has all leaves that were ever signed."""
        return self.frontier.size >= self.goal

    def add(self, line: str) -> None:
        """Take the next line; raises ``LogMismatch``."""
        seq = self.frontier.size + 1
        try:
            entry = Entry.parse(line)
        except TerminalError as error:
            raise LogMismatch(self.goal, str(error)) from error
        if entry.seq != seq:
            raise LogMismatch(self.goal, f"sequence {entry.seq} stands where {seq} is expected")
        self.frontier.append(leaf_hash(line.encode()))
        signed = self._roots.get(seq)
        if signed is not None and self.frontier.root() != signed:
            raise LogMismatch(seq, "another root was signed at this size")

    def require_complete(self) -> None:
        """Raises ``LogMismatch`` when lines that were signed are not there."""
        if not self.is_complete:
            raise LogMismatch(self.goal, f"only the first {self.frontier.size} sequences are there")


class LogFile:
    """The lines of the log in a file of this process, and their tree; it can be made again from the bus."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frontier = Frontier()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)

    @property
    def size(self) -> int:
        """How many sequences it has."""
        return self.frontier.size

    def load(self, roots: Mapping[int, bytes]) -> None:
        """Take what the file holds up to the last signed size, and forget the rest of it, which comes again.

        Raises ``LogMismatch`` when it contradicts one of the signed roots.
        """
        growing, length = Growing(roots), 0
        with self.path.open("rb") as file:
            for raw in file:
                if growing.is_complete:
                    break
                growing.add(raw.decode("utf-8", "replace").removesuffix("\n"))
                length += len(raw)
        growing.require_complete()
        os.ftruncate(self._descriptor, length)
        self.frontier = growing.frontier

    async def rebuild(self, lines: AsyncIterator[str], roots: Mapping[int, bytes]) -> None:
        """Take these lines instead, up to the last signed size; raises ``LogMismatch`` and stays as it was."""
        growing = Growing(roots)
        fresh = self.path.with_name(self.path.name + ".new")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            async for line in lines:
                if growing.is_complete:
                    break
                growing.add(line)
                file.write(line + "\n")
            growing.require_complete()
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        fresh.replace(self.path)
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND)
        self.frontier = growing.frontier

    def append(self, entries: Iterable[Entry]) -> Sequence[str]:
        """Add the next entries; their lines. On disk only after ``sync``."""
        lines = []
        for entry in entries:
            line = entry.line()
            self.frontier.append(leaf_hash(line.encode()))
            lines.append(line)
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._descriptor, data) :]
        return lines

    def sync(self) -> None:
        """Return when all lines are on disk."""
        os.fsync(self._descriptor)

    def lines(self, first: int = 1) -> Iterator[str]:
        """The lines from a sequence on, up to those that were there when this was called."""
        last = self.size
        with self.path.open(encoding="utf-8") as file:
            for seq, line in enumerate(file, 1):
                if seq > last:
                    return
                if seq >= first:
                    yield line.removesuffix("\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
