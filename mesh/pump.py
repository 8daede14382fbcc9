"""The continuous pull pump of a durable consumer: keeps pulls open, and notices when deliveries stop.

The rule: never more deliveries in the process than its capacity, and never idle in silence before a backlog.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mesh import metrics
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, WorkmeshError

log = structlog.get_logger(__name__)

_NANO = 1_000_000_000
# A pull whose connection died without a word takes deliveries with it until it expires, or the server knows.
_EXPIRES_S = 5.0
_DRAIN_S = 1.0
_HEARTBEAT = "100"
_EXPIRED = "408"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of a stored message. ``attempt`` counts from 1; ``pending`` is the backlog behind it."""

    bus: Bus
    stream: str
    durable: str
    subject: str
    data: bytes
    headers: dict[str, str]
    seq: int
    attempt: int
    pending: int
    stored_at: float
    reply: str

    async def ack(self) -> None:
        """Settle the delivery; a lost ack only brings it again."""
        await self._answer(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Have it delivered again after ``delay_s``."""
        await self._answer(b"-NAK " + json.dumps({"delay": int(delay_s * _NANO)}).encode())

    async def term(self) -> None:
        """Settle the delivery as one that is never to come again."""
        await self._answer(b"+TERM")

    async def in_progress(self) -> None:
        """Say that it is still being worked on: the ack wait starts anew."""
        await self._answer(b"+WPI")

    async def _answer(self, word: bytes) -> None:
        try:
            await self.bus.publish(self.reply, word)
        except BusUnavailableError as error:
            log.warning("ack_not_sent", seq=self.seq, stream=self.stream, word=word.decode()[:4], error=str(error))


class Pump:
    """Deliveries of one durable consumer, as a queue that is refilled at half.

    Every delivery in the process, queued or begun, is renewed by in-progress acks at a third of ``ack_wait_s``, so
    that slow work is not given to somebody else; one that comes again all the same is dropped.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        durable: str,
        *,
        ack_wait_s: float,
        batch: int = 256,
        capacity: int = 512,
        heartbeat_s: float = 2.0,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._durable = durable
        self._batch = min(batch, capacity)
        self._capacity = capacity
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._wanted = 0
        self._ack_wait_s = ack_wait_s
        self._held: dict[int, tuple[Delivery, float]] = {}
        self._heard = time.monotonic()
        self._subscription: Subscription | None = None
        self._stopped = False
        self._heartbeat_s = heartbeat_s
        self._restarting = asyncio.Lock()
        bus.on_reconnect(self._restart)

    async def next(self) -> Delivery:
        """The next delivery; call ``done`` when it is settled."""
        return await self._queue.get()

    async def done(self, delivery: Delivery) -> None:
        """A delivery is settled: there is room for another."""
        self._held.pop(delivery.seq, None)
        await self._refill()

    async def stop(self) -> None:
        """Ask for nothing more; what is queued but not begun comes again to somebody."""
        self._stopped = True
        if self._subscription is not None:
            try:
                async with asyncio.timeout(_DRAIN_S if self._bus.is_connected else 0):
                    # What is under way to us is given back by ``_on_message``.
                    await self._subscription.drain()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 - a closing connection answers with any of several errors
                log.debug("drain_failed", error=str(error) or type(error).__name__)
        while not self._queue.empty():
            delivery = self._queue.get_nowait()
            del self._held[delivery.seq]
            await delivery.nak(0)

    async def run(self) -> None:
        """Keep pulling; renew what is held; watch for a consumer that sits idle before a backlog."""
        await self._restart()
        while True:
            await asyncio.sleep(min(self._heartbeat_s / 2, self._ack_wait_s / 6))
            await self._renew()
            await self._refill()
            silent_s = time.monotonic() - self._heard
            idle = silent_s > 3 * self._heartbeat_s and len(self._held) < self._capacity
            if idle and self._bus.is_connected and not self._stopped:
                metrics.PUMP_RESTARTS.labels(stage=self._durable).inc()
                log.warning("pump_restarted", durable=self._durable, silent_s=round(silent_s, 1), **await self._info())
                await self._restart()

    async def _renew(self) -> None:
        now = time.monotonic()
        for seq, (delivery, renewed) in list(self._held.items()):
            if seq in self._held and now - renewed >= self._ack_wait_s / 3:
                self._held[seq] = (delivery, now)
                await delivery.in_progress()

    async def _info(self) -> dict[str, Any]:
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{self._stream}.{self._durable}")
        except WorkmeshError as error:
            return {"error": str(error)}
        if "error" in info:
            return {"error": info["error"].get("description", "")}
        return {"backlog": info.get("num_pending"), "waiting_acks": info.get("num_ack_pending")}

    async def _restart(self) -> None:
        async with self._restarting:  # two at once would leave a subscription behind, with its pulls
            if not self._stopped:
                await self._resubscribe()

    async def _resubscribe(self) -> None:
        old, self._subscription = self._subscription, None
        inbox = self._bus.client.new_inbox()
        try:
            if old is not None:
                await old.unsubscribe()
            self._subscription = await self._bus.client.subscribe(inbox, cb=self._on_message)
        except Exception as error:  # noqa: BLE001 - nats-py raises several kinds while it reconnects; we come again
            log.warning("pump_not_started", durable=self._durable, error=str(error) or type(error).__name__)
            return
        self._heard = time.monotonic()
        self._wanted = 0
        await self._refill()

    async def _refill(self) -> None:
        room = self._capacity - len(self._held) - self._wanted
        if self._stopped or self._subscription is None or self._wanted > self._batch // 2 or room <= 0:
            return
        count = min(room, self._batch)
        request = {
            "batch": count,
            "expires": int(_EXPIRES_S * _NANO),
            "idle_heartbeat": int(self._heartbeat_s * _NANO),
        }
        self._wanted += count
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        try:
            await self._bus.publish(subject, json.dumps(request).encode(), reply=self._subscription.subject)
        except BusUnavailableError as error:
            self._wanted -= count
            log.warning("pull_not_sent", durable=self._durable, error=str(error))

    async def _on_message(self, message: Msg) -> None:
        self._heard = time.monotonic()
        headers = message.headers or {}
        status = headers.get("Status")
        if status and not message.reply.startswith("$JS.ACK"):
            if status != _HEARTBEAT:
                self._wanted = max(0, self._wanted - int(headers.get("Nats-Pending-Messages", self._wanted)))
            if status == _EXPIRED:
                await self._refill()
            elif status != _HEARTBEAT:  # asked again at once it would only come again: ``run`` asks later
                log.warning("pull_refused", durable=self._durable, status=status, reason=headers.get("Description", ""))
            return
        # Nothing at all ends the answer to a pull between accounts: what was under way behind it comes again.
        self._wanted = max(0, self._wanted - 1) if headers or message.data else 0
        delivery = self._delivery(message, headers)
        if self._stopped:
            await delivery.nak(0)
            return
        # Came again while it is held here: the ack wait passed all the same. Whoever holds it settles both.
        if delivery.seq not in self._held:
            self._held[delivery.seq] = (delivery, self._heard)
            self._queue.put_nowait(delivery)
        await self._refill()

    def _delivery(self, message: Msg, headers: dict[str, str]) -> Delivery:
        delivered, seq, stored_ns, pending = place_of(message.reply)
        return Delivery(
            bus=self._bus,
            stream=self._stream,
            durable=self._durable,
            subject=message.subject,
            data=message.data,
            headers=headers,
            seq=seq,
            attempt=delivered,
            pending=pending,
            stored_at=stored_ns / _NANO,
            reply=message.reply,
        )


def place_of(reply: str) -> tuple[int, int, int, int]:
    """What the reply subject of a delivery says: times delivered, sequence in the stream, when stored (ns), pending."""
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or the same with
    # domain and account hash before the stream and a token behind (NATS ADR-15): count from the known end.
    tokens = reply.split(".")
    delivered, seq, _, stored_ns, pending = tokens[4:9] if len(tokens) == 9 else tokens[6:11]
    return int(delivered), int(seq), int(stored_ns), int(pending)
