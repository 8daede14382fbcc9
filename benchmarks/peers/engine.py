"""What the comparison asks of an engine: run N tasks, die, come back, and say what has ended."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

IN_FLIGHT = 64
WARM = 64  # tasks before the timed ones


class UnavailableError(Exception):
    """This engine cannot be run on this machine; the text says why."""


class Report(msgspec.Struct, frozen=True):
    """What the side that submitted the tasks saw; latencies are from submission to the known end of a task."""

    seconds: float
    latencies_ms: list[float]
    ended: list[str]
    errors: list[str] = []
    settings: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the work: the target's URL, how many tasks, how many before them, and where its files go."""

    target: str
    tasks: int
    warm: int
    folder: Path
    keys: bool  # whether the target honours keys

    @property
    def started(self) -> Path:
        """A file that is there from the first timed task on."""
        return self.folder / "report.started"


class Engine(Protocol):
    """An engine with its servers up and nothing in its store."""

    @property
    def writer_pid(self) -> int:
        """The process that syncs the records to disk."""
        ...

    async def start(self) -> None:
        """Submit the tasks; returns while they run."""
        ...

    async def kill(self) -> None:
        """SIGKILL the process that makes the effects."""
        ...

    async def resume(self) -> None:
        """Start that process again, as the engine's documentation says."""
        ...

    async def report(self) -> Report:
        """Wait until all tasks have ended; raises ``TimeoutError`` when nothing moves any more."""
        ...


@dataclass(frozen=True, slots=True)
class Details:
    """What stands beside a row: versions, what the engine needed, and how it was set."""

    versions: Mapping[str, str]
    needed: str
    settings: Mapping[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """One row of the table."""

    name: str

    async def prepare(self, cache: Path) -> Details:
        """Make its environment below ``cache``; raises ``UnavailableError``."""
        ...

    def opened(self, job: Job) -> AbstractAsyncContextManager[Engine]:
        """Its servers, for one run."""
        ...
