"""An executor process on a simulated bus: the real executor and checkpoint, which stop at each await on the world.

The rule: nothing goes on but what the test lets go on, and a crash loses exactly what a process keeps in memory.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from agents.executor.handler import Executor
from mesh import checkpoint as checkpoints
from mesh import notices
from mesh.activation import Activations
from mesh.checkpoint import Checkpoint
from mesh.errors import ConflictError, RetryableError, TerminalError
from mesh.halts import Halts
from mesh.journal import Message, Write, message_of
from mesh.outbox import replay_outbox
from mesh.pump import Delivery
from mesh.quarantine import Reason, quarantined
from mesh.runtime import Work
from mesh.toolbox import Toolbox
from mesh.trust import TrustDirectory
from tests.agents.executor.simulated_journal import Link, SimulatedJournal, Store
from tests.agents.executor.simulated_target import TOOLS, Line, Target, notice_tools, tools
from tests.agents.executor.virtual_time import CLOCK, Loop

DOMAIN = "till"
RETRY_S = 0.2


@dataclass
class Bundles(Activations):
    """The policy bundles that are accepted."""

    accepted: set[str]

    async def accepts(self, domain: str, digest: str) -> bool:
        """Whether permits under it are accepted now."""
        return digest in self.accepted


@dataclass(eq=False)
class Input:
    """A message for the executors: given again until it is acknowledged, and sometimes after."""

    seq: int
    subject: str
    data: bytes
    attempts: int = 0
    due: float = 0.0
    acked: bool = False


@dataclass(eq=False)
class Gate:
    """An operation that waits to be let through."""

    label: str
    future: asyncio.Future[str]
    late: Callable[[], object] | None


@dataclass
class Outside:
    """What all executors share."""

    store: Store
    target: Target
    trust: TrustDirectory
    bundles: Bundles
    ghosts: list[Callable[[], object]] = field(default_factory=list)


class Process:
    """One executor process, in all its lives."""

    def __init__(self, number: int, outside: Outside) -> None:
        self.number = number
        self.outside = outside
        self.handling: dict[Input, asyncio.Task[None]] = {}
        self._gates: list[Gate] = []
        self._database = empty_checkpoint()
        self._checkpoints = 1
        self._loop: Loop | None = None
        self.errors: list[BaseException] = []
        self.start()

    @property
    def gates(self) -> list[Gate]:
        """What waits to be let through, oldest first."""
        self._gates = [gate for gate in self._gates if not gate.future.done()]
        return self._gates

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._loop is not None

    @property
    def is_ready(self) -> bool:
        """Whether it takes inputs: what an earlier life left behind is committed."""
        return self.is_alive and self._startup.done()

    @property
    def wait_s(self) -> float | None:
        """Seconds to its next timer."""
        return self._loop.wait_s if self._loop is not None else None

    def start(self) -> None:
        """Begin a life, with the checkpoint as it is."""
        self._loop = Loop(self._in_thread)
        store, target = self.outside.store, self.outside.target
        self._link = Link(store, self.point)
        local = Checkpoint(self._database)
        line = Line(target, self.number, self.point)
        self._executor = Executor(
            f"executor/{self.number}/{self._checkpoints}",
            SimulatedJournal(store, self._link, self.point),
            local,
            self.outside.trust,
            self.outside.bundles,
            {DOMAIN: Toolbox(tools(), dict.fromkeys(TOOLS, line))},
            Halts(),
            Toolbox(notice_tools(), {notices.TOOL: line}),
        )
        self._one_at_a_time = asyncio.Lock()
        self._startup = self._loop.create_task(self._supervised(replay_outbox(local, self._link)))
        self.run()

    def take(self, item: Input) -> None:
        """An input is delivered here; one that was acknowledged comes again only if its acknowledgement was lost."""
        assert self._loop is not None
        item.attempts += 1
        item.acked = False
        self.handling[item] = self._loop.create_task(self._supervised(self._handle(item)))
        self.run()

    def let(self, gate: Gate, how: str = "") -> None:
        """Let an operation through."""
        gate.future.set_result(how)
        self.run()

    def give_up(self, item: Input) -> None:
        """The time limit of a handler is over: the runtime cancels it."""
        self.handling[item].cancel()
        item.due = CLOCK.seconds
        self.run()

    def run(self) -> None:
        """Go on until everything waits."""
        if self._loop is not None:
            self._loop.run()
            for item in [item for item, task in self.handling.items() if task.done()]:
                del self.handling[item]

    def crash(self, *, in_network: bool) -> None:
        """Die at this very await. ``in_network``: what it was about to store is on its way, and arrives some time."""
        loop, self._loop = self._loop, None
        assert loop is not None
        self.outside.ghosts += [gate.late for gate in self.gates if gate.late and in_network]
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run()
        loop.close()
        self.handling.clear()
        assert not self.gates, "a dead process does nothing"

    def lose_checkpoint(self) -> None:
        """The file is gone: whoever begins anew has another name."""
        assert self._loop is None
        self._database.close()
        self._database = empty_checkpoint()
        self._checkpoints += 1

    def close(self) -> None:
        """Release what it holds."""
        if self._loop is not None:
            self.crash(in_network=False)
        self._database.close()

    async def point(self, label: str, late: Callable[[], object] | None = None) -> str:
        """Wait to be let through."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._gates.append(Gate(label, future, late))
        return await future

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        async with self._one_at_a_time:
            await self.point("disk")
            return work()

    async def _supervised(self, work: Any) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
            self.errors.append(error)

    async def _handle(self, item: Input) -> None:
        """What the runtime does with an input, in short: commit the outputs, then acknowledge."""
        work = _work(item)
        try:
            outputs = await self._executor.act(work)
            if outputs:
                await self._link.commit([message_of(out) if isinstance(out, Write) else out for out in outputs])
        except RetryableError as error:
            item.due = CLOCK.seconds + (RETRY_S if error.delay_s is None else error.delay_s)
            return
        except ConflictError:
            pass
        except TerminalError as error:
            await self._link.commit([_dead_letter(work, error)])
        item.acked = True


def empty_checkpoint() -> sqlite3.Connection:
    """The database of a checkpoint, in memory: it outlives the process that writes to it."""
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.executescript(checkpoints._SCHEMA)
    return database


def _work(item: Input) -> Work:
    delivery = Delivery(
        bus=cast(Any, None),
        stream="JOURNAL",
        durable="executor",
        subject=item.subject,
        data=item.data,
        headers={},
        seq=item.seq,
        attempt=item.attempts,
        pending=0,
        stored_at=0.0,
        reply="",
    )
    return Work(
        delivery=delivery,
        stream="JOURNAL",
        subject=item.subject,
        seq=item.seq,
        data=item.data,
        headers={},
        stored_at=0.0,
        stage="executor",
        writer="executor/test",
    )


def _dead_letter(work: Work, error: TerminalError) -> Message:
    return quarantined(
        stage=work.stage,
        reason=Reason.DEAD_LETTER,
        detail=str(error),
        stream=work.stream,
        subject=work.subject,
        seq=work.seq,
        data=work.data,
    )
