"""Counting against limits over time: what a permit takes is committed with the permit, or neither is.

The rule: a window is a record in the journal that is only ever replaced as it was read. So the count is exact across
copies, kills and restarts, and needs no state of its own; what a process remembers is checked by the journal's answer.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from mesh import faultpoints, metrics, subjects
from mesh.bus import Bus
from mesh.clock import now, unix
from mesh.errors import ConflictError, RetryableError, TerminalError
from mesh.journal import CREATE, Journal, Message, Write
from mesh.records import Decision, LimitUse
from policy_service.limits import Take
from policy_service.windows import Window

log = structlog.get_logger(__name__)

_TOGETHER = 64  # decisions in one commit, each with the windows that it touches: well under a batch of 1,000
_KNOWN_MAX = 4096
_TRIES = 20  # other copies can be faster again and again, but each time one of them gets on

_decode = msgspec.json.Decoder(Window).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be committed, and whether it takes of the limits or only looked at them."""

    writes: tuple[Write, ...]
    takes: bool


@dataclass(frozen=True, slots=True)
class _Held:
    """A window as it stands in the journal."""

    seq: int
    window: Window


@dataclass(slots=True)
class _Item:
    takes: Sequence[Take]
    draft: Callable[[tuple[LimitUse, ...]], Draft]
    done: asyncio.Future[Draft] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ledger:
    """Puts drafts on record one after another, as far as their limits allow; many of them in one commit."""

    def __init__(self, bus: Bus, journal: Journal) -> None:
        self._bus = bus
        self._journal = journal
        self._known: dict[str, _Held] = {}
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(_KNOWN_MAX)

    async def settle(self, takes: Sequence[Take], draft: Callable[[tuple[LimitUse, ...]], Draft]) -> Draft:
        """Commit what ``draft`` makes of the limits as they stand; what was committed.

        ``draft`` gets the uses of all ``takes``, in order, and may be asked again when another copy was faster. Raises
        ``ConflictError`` when one of its records stands there already, ``RetryableError`` when others were faster again
        and again, and what ``draft`` raises.
        """
        item = _Item(takes, draft)
        await self._queue.put(item)
        return await item.done

    async def run(self) -> None:
        """Settle what comes, until cancelled."""
        while True:
            items = [await self._queue.get()]
            while len(items) < _TOGETHER and not self._queue.empty():
                items.append(self._queue.get_nowait())
            try:
                await self._settle(items)
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
                for item in items:
                    _fail(item, error)

    async def give_back(self, marked: str, takes: Sequence[Take], taken_at_s: float) -> bool:
        """Undo what a task took, once: a marker at the subject ``marked`` is committed with it.

        Whether it was this call that did.
        """
        note = {"given_back_at": now(), "by": secrets.token_hex(8)}  # no other call's marker is the same
        marker = Message(marked, _encode(note))
        for _ in range(_TRIES):
            held = await self._read({take.subject for take in takes})
            changed = {
                take.subject: held[take.subject].window.give_back(taken_at_s, take.amount, take.tasks) for take in takes
            }
            messages = [_message(subject, window, held[subject].seq) for subject, window in changed.items()]
            try:
                await self._journal.commit_with((), [marker, *messages])
                return True
            except ConflictError as error:
                if error.subject == marker.subject:
                    return False
                self._forget(changed)
        raise RetryableError(f"{marked}: others counted first {_TRIES} times")

    async def _settle(self, items: Sequence[_Item]) -> None:
        for attempt in range(_TRIES):
            drafts, windows = await self._draft(items, fresh=attempt > 0)
            writes = [write for _, draft in drafts for write in draft.writes]
            changes = [_message(subject, held.window, held.seq) for subject, held in windows.items()]
            await faultpoints.reach("policy.before_commit")
            try:
                seqs = await self._journal.commit_with(writes, changes)
            except (ConflictError, TerminalError) as error:
                metrics.LIMIT_CONFLICTS.inc()
                self._forget({take.subject for item in items for take in item.takes})
                if len(drafts) > 1:
                    for item, _ in drafts:
                        await self._settle([item])
                    return
                if drafts and _is_about_the_decision(error):
                    _fail(drafts[0][0], error)
                    return
                continue
            for (subject, held), seq in zip(windows.items(), seqs[len(writes) :], strict=True):
                self._remember(subject, _Held(seq, held.window))
            for item, draft in drafts:
                _count(draft)
                if not item.done.done():
                    item.done.set_result(draft)
            return
        for item in items:
            _fail(item, RetryableError(f"{item.takes[0].subject}: others counted first {_TRIES} times"))

    async def _draft(
        self, items: Sequence[_Item], *, fresh: bool
    ) -> tuple[list[tuple[_Item, Draft]], dict[str, _Held]]:
        """What the items come to, one after another, and the windows that this changes. Who gave up is left out."""
        wanted = {take.subject for item in items for take in item.takes}
        held = await self._read(wanted if fresh else wanted - self._known.keys())
        held |= {subject: self._known[subject] for subject in wanted - held.keys()}
        if not fresh and any(use.over for item in items for use in _uses(item.takes, held, unix())):
            # Nobody is turned away for what another copy has given back since.
            held |= await self._read(wanted)
        changed: dict[str, _Held] = {}
        drafts: list[tuple[_Item, Draft]] = []
        for item in items:
            if item.done.done():
                continue
            at = unix()
            state = held | changed
            try:
                draft = item.draft(_uses(item.takes, state, at))
            except Exception as error:  # noqa: BLE001 - it is the one whose draft this is that must know
                _fail(item, error)
                continue
            drafts.append((item, draft))
            for take in item.takes if draft.takes else ():
                before = state[take.subject]
                window = before.window.resized(take.limit.length_s).take(at, take.amount, take.tasks)
                changed[take.subject] = _Held(before.seq, window)
        return drafts, changed

    async def _read(self, wanted: Iterable[str]) -> dict[str, _Held]:
        """Windows as they stand in the journal; one that is not there yet is empty."""
        names = sorted(wanted)
        found = await asyncio.gather(*(self._bus.last(subjects.JOURNAL, name) for name in names))
        for message in found:
            if message is not None:
                message.require_published()
        held = {
            name: _Held(message.seq, _decode(message.data)) if message else _Held(CREATE, Window(length_s=1))
            for name, message in zip(names, found, strict=True)
        }
        for name, each in held.items():
            self._remember(name, each)
        return held

    def _remember(self, subject: str, held: _Held) -> None:
        self._known.pop(subject, None)
        while len(self._known) >= _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[subject] = held

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._known.pop(name, None)


def _is_about_the_decision(error: ConflictError | TerminalError) -> bool:
    """Whether trying again with the windows of now would not help."""
    return isinstance(error, TerminalError) or (error.stands and not error.subject.startswith("limit."))


def _count(draft: Draft) -> None:
    """Count the limits that a decision met: once it stands, however often it was drafted."""
    for write in draft.writes:
        if isinstance(write.record, Decision):
            for use in write.record.limits:
                if use.over:
                    metrics.LIMITS_EXCEEDED.labels(domain=write.record.header.domain, limit=use.limit).inc()


def _fail(item: _Item, error: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(error)


def _uses(takes: Iterable[Take], held: dict[str, _Held], at_s: float) -> tuple[LimitUse, ...]:
    return tuple(
        use for take in takes for use in take.use(held[take.subject].window.resized(take.limit.length_s), at_s)
    )


def _message(subject: str, window: Window, expected: int) -> Message:
    """The window as this write alone makes it: two copies that take the same at once do not write the same."""
    return Message(subject, _encode(msgspec.structs.replace(window, by=secrets.token_hex(8))), expected=expected)
