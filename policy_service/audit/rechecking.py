"""Holds the stored journal against the log once more: at the start, every day, and when the journal has lost something.

The rule: it takes a tenth of one processor at most, and changes nothing; what it finds is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import structlog

from mesh import subjects
from mesh.audit import Entry, entry_of_message
from mesh.bus import Bus
from mesh.errors import BusUnavailableError
from policy_service.audit.auditor import PAGE, Auditor

log = structlog.get_logger(__name__)

_PACE_S = 0.1  # a page takes 10 ms
_REPORTED_MAX = 100  # problems of one round: a journal that was replaced whole has one for each record
_AWAY_S = 1.0


async def rechecking(auditor: Auditor, bus: Bus, every_s: float) -> None:
    """Look again whenever the auditor asks for it, and every so often."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await auditor.recheck.wait()
        auditor.recheck.clear()
        try:
            await recheck(auditor, bus)
        except BusUnavailableError as error:
            log.warning("audit_recheck_waits", error=str(error))
            auditor.recheck.set()
            await asyncio.sleep(_AWAY_S)


async def recheck(auditor: Auditor, bus: Bus) -> None:
    """One round over all that the log has."""
    first = int((await bus.api(f"STREAM.INFO.{subjects.JOURNAL}"))["state"]["first_seq"]) if auditor.ages else 1
    found = 0
    async for kind, seq, last, subject in _grouped(_differences(bus, auditor.log.lines, first)):
        found += 1
        if found > _REPORTED_MAX:
            log.error("audit_recheck_stopped", reported=_REPORTED_MAX, seq=seq)
            return
        await auditor.report(kind, seq, last, subject=subject, detail=_DETAILS[kind])
    log.info("audit_rechecked", size=auditor.log.size, problems=found)


_DETAILS = {
    "changed": "what the journal holds is not what was audited",
    "removed": "the journal does not hold what was audited",
    "inserted": "the journal holds a record where there was none when it was audited",
    "stored_again": "the same record, stored at another time than the one that was audited",
}


async def _differences(bus: Bus, lines: Callable[[], Iterator[str]], first: int) -> AsyncIterator[tuple[str, int, str]]:
    page: dict[int, Entry] = {}
    reached = 0
    for line in lines():
        logged = Entry.parse(line)
        if logged.seq > reached:
            await asyncio.sleep(_PACE_S)
            read = await bus.read(subjects.JOURNAL, logged.seq, PAGE)
            page = {message.seq: entry_of_message(message) for message in read}
            reached = max(page, default=1 << 63)
        kind = _difference(logged, page.get(logged.seq), logged.seq < first)
        if kind:
            yield kind, logged.seq, logged.subject


def _difference(logged: Entry, stands: Entry | None, may_be_gone: bool) -> str:
    if stands is None:
        return "" if logged.is_missing or may_be_gone else "removed"
    if stands == logged:
        return ""
    if logged.is_missing:
        return "inserted"
    return "stored_again" if stands.content == logged.content else "changed"


async def _grouped(
    differences: AsyncIterator[tuple[str, int, str]],
) -> AsyncIterator[tuple[str, int, int, str]]:
    """Differences of one kind that follow each other as one; a single one with its subject."""
    run: tuple[str, int, int, str] | None = None
    async for kind, seq, subject in differences:
        if run is not None and run[0] == kind and run[2] == seq - 1 and kind != "changed":
            run = (kind, run[1], seq, "")
            continue
        if run is not None:
            yield run
        run = (kind, seq, seq, subject)
    if run is not None:
        yield run
