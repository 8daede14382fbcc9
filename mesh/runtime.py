"""A stage: fetch, decode, run the handler, commit what it returns, then acknowledge (DESIGN 3.1).

The rule: an input is acknowledged only after its outputs are on disk, or it is in quarantine with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from mesh import faultpoints, records, subjects
from mesh.bus import SUBJECT_HEADER, StoredMessage
from mesh.clock import now
from mesh.errors import ConflictError, ForwardedError, RetryableError, TerminalError
from mesh.journal import Committer, Message, Write, message_of
from mesh.lifetime import end
from mesh.pump import Delivery, Pump
from mesh.records import AnyRecord, Causation, Header

log = structlog.get_logger(__name__)

Outputs = Sequence[Write | Message]
Handler = Callable[["Work"], Awaitable[Outputs]]
Middleware = Callable[[Handler], Handler]


class NotYetError(RetryableError):
    """The input waits for something that is on its way (another task, a projection): no fault, no limit."""


@dataclass(frozen=True, slots=True)
class Work:
    """One input of a stage: what was delivered, and where it stands in its stream.

    A released input carries the position of the original, so that its outputs are caused by that.
    """

    delivery: Delivery
    stream: str
    subject: str
    seq: int
    data: bytes
    headers: dict[str, str]
    stored_at: float
    stage: str
    writer: str

    @property
    def attempt(self) -> int:
        """How often this input has been delivered, this time included."""
        return self.delivery.attempt

    @property
    def is_released(self) -> bool:
        """Whether it was given to the stage again, after a person mended something or policy found a plan void."""
        return self.delivery.subject.startswith("release.")

    def record(self) -> AnyRecord:
        """The input as a journal record; raises ``TerminalError`` when it is not one."""
        try:
            record = records.decode(self.data)
        except (ValueError, RecursionError) as error:
            raise TerminalError(f"{self.subject} at {self.seq} is not a record: {error}") from error
        if subjects.of(record) != self.subject:
            raise TerminalError(f"a record of {subjects.of(record)} stands at {self.subject}")
        return record

    def message(self) -> StoredMessage:
        """The input as it stands in its stream."""
        at = datetime.fromtimestamp(self.stored_at, UTC).isoformat()
        return StoredMessage(self.stream, self.subject, self.seq, at, self.data, self.headers)

    def header(self, task_id: str, domain: str, traceparent: str = "") -> Header:
        """The header of a record that this input causes."""
        return Header(
            task_id=task_id,
            domain=domain,
            causation=Causation(stream=self.stream, subject=self.subject, seq=self.seq),
            writer=self.writer,
            at=now(),
            traceparent=traceparent,
        )


@dataclass(frozen=True, slots=True)
class StageLimits:
    """How much a stage does at once, and how long it may take to stop."""

    concurrency: int = 64
    drain_timeout_s: float = 10.0
    nak_base_s: float = 0.2
    nak_max_s: float = 5.0


def fold(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """The handler inside its middleware, which is listed outermost first."""
    for layer in reversed(middleware):
        handler = layer(handler)
    return handler


class Stage:
    """Runs one handler over one durable consumer."""

    def __init__(
        self,
        name: str,
        stream: str,
        handler: Handler,
        *,
        committer: Committer,
        pump: Pump,
        writer: str,
        limits: StageLimits,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.name = name
        self._stream = stream
        self._handler = fold(self._run_and_commit(handler), middleware)
        self._committer = committer
        self._pump = pump
        self._writer = writer
        self._limits = limits
        self._running: dict[int, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(limits.concurrency)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set, then finish what is in flight within the drain time-out."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump.run(), name=f"pump-{self.name}")
            feed = group.create_task(self._feed(group), name=f"feed-{self.name}")
            await stopping.wait()
            await end(feed)
            await self._pump.stop()
            await self._drain()
            await end(pump)

    async def _drain(self) -> None:
        running = list(self._running.values())
        if not running:
            return
        log.info("draining", stage=self.name, in_flight=len(running))
        await faultpoints.reach(f"{self.name}.while_draining")
        _, late = await asyncio.wait(running, timeout=self._limits.drain_timeout_s)
        for task in late:
            log.warning("drain_timed_out", stage=self.name, task=task.get_name())
            await end(task)

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._slots.acquire()
            delivery = await self._pump.next()
            task = group.create_task(self._settle(delivery), name=f"{self.name}-{delivery.seq}")
            self._running[delivery.seq] = task

    async def _settle(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        finally:
            self._running.pop(delivery.seq, None)
            self._slots.release()
            await self._pump.done(delivery)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await self._handler(self._work(delivery))
        except ConflictError as error:
            log.info("lost_race", stage=self.name, subject=error.subject, error=str(error))
            if error.stands:
                await delivery.ack()
            else:  # nobody's output is there: the input is not done
                await delivery.nak(self._backoff(delivery.attempt))
        except RetryableError as error:
            delay = error.delay_s if error.delay_s is not None else self._backoff(delivery.attempt)
            if not isinstance(error, NotYetError):
                log.warning("delivery_retried", stage=self.name, seq=delivery.seq, error=str(error), delay_s=delay)
            await delivery.nak(delay)
        except Exception:
            # No middleware took it, or it cannot even be quarantined: it waits, and blocks nobody.
            log.exception("delivery_failed", stage=self.name, subject=delivery.subject, seq=delivery.seq)
            await delivery.nak(self._limits.nak_max_s)
        else:
            await delivery.ack()

    def _backoff(self, attempt: int) -> float:
        return float(min(self._limits.nak_base_s * 2 ** min(attempt - 1, 10), self._limits.nak_max_s))

    def _work(self, delivery: Delivery) -> Work:
        stream, subject, seq, data = delivery.stream, delivery.subject, delivery.seq, delivery.data
        headers = delivery.headers
        if subject.startswith("release."):
            stream, seq = headers[subjects.ORIGIN_STREAM], int(headers[subjects.ORIGIN_SEQUENCE])
            subject = headers[subjects.ORIGIN_SUBJECT]
        return Work(
            delivery=delivery,
            stream=stream,
            subject=subject,
            seq=seq,
            data=data,
            headers=headers,
            stored_at=delivery.stored_at,
            stage=self.name,
            writer=self._writer,
        )

    async def _commit(self, messages: list[Message]) -> None:
        """Commit the outputs of one handler: those of one stream together, since no atomic batch spans two."""
        parts: dict[str, list[Message]] = {}
        for message in messages:
            parts.setdefault(subjects.stream_of(message.subject), []).append(message)
        for part in parts.values():
            await self._committer.commit(part)

    def _run_and_commit(self, handler: Handler) -> Handler:
        async def run(work: Work) -> Outputs:
            if SUBJECT_HEADER in work.headers:  # stored as the server's answer to somebody's read
                raise ForwardedError(work.subject, work.seq)
            outputs = await handler(work)
            if outputs:
                await faultpoints.reach(f"{self.name}.before_commit")
                await self._commit([message_of(item) if isinstance(item, Write) else item for item in outputs])
            return outputs

        return run
