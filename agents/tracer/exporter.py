"""Follows the journal by sequence and hands the spans of each page to the collector.

The rule: its place moves on when every span of a page is taken or refused for good, so a death sends some again, with
the same ids, and leaves none out. One page is in memory; a collector that is away makes it wait.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from agents.tracer.collector import BadBatchError, Collector, TooLargeError, WaitError
from agents.tracer.held import Held, readable
from agents.tracer.span import Naming, Span, request
from agents.tracer.spans import completed
from mesh import faultpoints, metrics, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import Checkpoint
from mesh.clock import now
from mesh.errors import BusUnavailableError
from mesh.lifetime import background
from mesh.settings import TraceSettings

log = structlog.get_logger(__name__)

_PAGE = 256
_PACE_S = 0.5  # nobody waits for a span: a page gathers meanwhile
_AWAY_S = 1.0
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 5.0  # a collector that is back is found in this time
_TELL_AGAIN_S = 60.0
_MEASURE_S = 1.0
_SAID_MAX = 500
_PLACE = "place"
_SPANS = metrics.Bound(metrics.TRACE_SPANS)


class Place(msgspec.Struct, frozen=True):
    """Up to which sequence of the journal, which was made at this time, all spans are sent."""

    seq: int
    journal: str


class Exporter:
    """The exporter of one process."""

    def __init__(
        self,
        bus: Bus,
        checkpoint: Checkpoint,
        held: Held,
        collector: Collector,
        naming: Naming,
        settings: TraceSettings,
    ) -> None:
        self._bus = bus
        self._checkpoint = checkpoint
        self._held = held
        self._collector = collector
        self._naming = naming
        self._settings = settings
        self._place = Place(0, "")
        self._oldest: datetime | None = None
        self._told = 0.0

    async def run(self) -> None:
        """Export until cancelled."""
        for result in ("exported", "refused"):
            _SPANS.of(result)
        for why in ("away", "busy", "settings"):
            metrics.TRACE_WAITS.labels(why)
        async with background(self._measure(), "measuring"):
            await self._patiently(self._open)
            while True:
                if not await self._patiently(self._page):
                    await asyncio.sleep(_PACE_S)

    async def _patiently(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """Do it, again and again while the bus is away."""
        while True:
            try:
                return await work()
            except BusUnavailableError as error:
                log.warning("traces_wait_for_bus", seq=self._place.seq, error=str(error))
                await asyncio.sleep(_AWAY_S)

    async def _open(self) -> bool:
        """Take up the place that was kept, if it is one of this journal; else begin a little while ago."""
        info = await self._bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
        if "error" in info:
            raise BusUnavailableError(f"the journal: {info['error'].get('description')}")
        made, end = str(info["created"]), int(info["state"]["last_seq"])
        kept = await self._checkpoint.load(_PLACE)
        place = msgspec.json.decode(kept, type=Place) if kept else None
        if place is not None and place.journal == made:
            # A restored journal may end before it: what is written there from now on is new.
            self._place = Place(min(place.seq, end), made)
        else:
            since = now() - timedelta(seconds=self._settings.look_back_s)
            first = await self._bus.first_since(subjects.JOURNAL, since)
            self._place = Place(first.seq - 1 if first else end, made)
            await self._keep(self._place)
        log.info("traces_begin", seq=self._place.seq, kept=place is not None, journal_end=end)
        return True

    async def _page(self) -> bool:
        """Send the spans of one page of the journal; whether there may be more at once."""
        page = await self._bus.read(subjects.JOURNAL, self._place.seq + 1, _PAGE, "task.>")
        if not page:
            self._oldest = None
            return False
        self._oldest = datetime.fromisoformat(page[0].time)
        spans = [span for message in page for span in await self._spans(message)]
        for start in range(0, len(spans), self._settings.batch_max):
            await self._send(spans[start : start + self._settings.batch_max])
        await faultpoints.reach("tracer.before_place")
        await self._keep(Place(page[-1].seq, self._place.journal))
        return len(page) == _PAGE

    async def _spans(self, message: StoredMessage) -> list[Span]:
        item = readable(message)
        if item is None:
            return []
        try:
            spans = completed(await self._held.take(item))
        except (TypeError, ValueError, OverflowError) as error:  # names or times that no process of ours writes
            log.warning("record_without_span", subject=message.subject, seq=message.seq, error=str(error))
            return []
        return [span for span in spans if is_chosen(span.trace, self._settings.share)]

    async def _keep(self, place: Place) -> None:
        await self._checkpoint.save(_PLACE, msgspec.json.encode(place))
        self._place = place

    async def _send(self, spans: Sequence[Span]) -> None:
        """Return when the collector has these spans, or will never take them."""
        batch = request(spans, self._naming)
        delay = _RETRY_FIRST_S
        while True:
            await faultpoints.reach("tracer.before_send")
            try:
                taken = await self._collector.send(batch)
            except WaitError as error:
                self._waits(error)
                await asyncio.sleep(error.after_s if error.after_s is not None else delay * random.uniform(0.75, 1.25))
                delay = min(delay * 2, _RETRY_MAX_S)
                continue
            except TooLargeError as error:
                if len(spans) == 1:
                    self._refused(1, str(error))
                    return
                half = len(spans) // 2
                await self._send(spans[:half])
                await self._send(spans[half:])
                return
            except BadBatchError as error:
                self._refused(len(spans), str(error))
                return
            self._told = 0.0
            refused = min(taken.refused, len(spans))
            _SPANS.of("exported").inc(len(spans) - refused)
            if refused:
                self._refused(refused, taken.why)
            elif taken.why:
                log.info("collector_says", said=taken.why[:_SAID_MAX])
            return

    def _waits(self, error: WaitError) -> None:
        metrics.TRACE_WAITS.labels(error.why).inc()
        loop_s = asyncio.get_running_loop().time()
        if not self._told or loop_s - self._told >= _TELL_AGAIN_S:
            self._told = loop_s
            log.warning("collector_does_not_take_spans", why=error.why, error=str(error), seq=self._place.seq)

    def _refused(self, spans: int, why: str) -> None:
        _SPANS.of("refused").inc(spans)
        log.warning("collector_refused_spans", spans=spans, why=why[:_SAID_MAX], behind=self._place.seq)

    async def _measure(self) -> None:
        """How far behind the journal it is, whatever it waits for."""
        while True:
            waits = (now() - self._oldest).total_seconds() if self._oldest else 0.0
            metrics.TRACES_BEHIND.set(max(0.0, waits))
            await asyncio.sleep(_MEASURE_S)


def is_chosen(trace: str, share: float) -> bool:
    """Whether a trace is of this share: as SDKs choose by ``traceidratio``, so all who have it have the same traces."""
    return share >= 1 or int(trace[16:], 16) < round(share * (1 << 64))
