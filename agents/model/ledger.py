"""The windows of spending as the journal has them: changed together with the completions that they rest on, or not.

The rule: a window is only ever replaced as it was read. So the sum is exact across copies, kills and restarts; what a
process remembers of it is checked by the journal's answer.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from mesh import faultpoints, metrics, subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, ConflictError, RetryableError, TerminalError
from mesh.journal import CREATE, Journal, Message, Write
from mesh.spending import Window

log = structlog.get_logger(__name__)

_TOGETHER = 64  # changes in one commit, each with at most a few records: well under a batch of 1,000
_KNOWN_MAX = 1024
_TRIES = 50  # other copies can be faster again and again, but each time one of them gets on
_AGAIN_S = 0.2

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Window).decode


@dataclass(frozen=True, slots=True)
class Draft:
    """What windows become, and what is put on record with that."""

    windows: Mapping[str, Window]
    writes: tuple[Write, ...] = ()
    messages: tuple[Message, ...] = ()


Drafter = Callable[[Mapping[str, Window]], Draft]


@dataclass(frozen=True, slots=True)
class _Held:
    """A window as it stands in the journal."""

    seq: int
    window: Window


@dataclass(slots=True)
class _Item:
    names: tuple[str, ...]
    draft: Drafter
    fresh: bool
    done: asyncio.Future[Draft] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ledger:
    """Commits changes of windows one after another, many of them at once."""

    def __init__(self, bus: Bus, journal: Journal) -> None:
        self._bus = bus
        self._journal = journal
        self._known: dict[str, _Held] = {}
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(_KNOWN_MAX)

    async def change(self, names: Sequence[str], draft: Drafter, *, fresh: bool = False) -> Draft:
        """Commit what ``draft`` makes of these windows as they stand; what was committed.

        ``draft`` may be asked again, when another copy was faster. A window that it leaves as it is may be as this
        process remembers it, unless ``fresh`` asks for those of now. Raises what ``draft`` raises, ``ConflictError``
        when one of its records stands there already, and waits while the bus is away.
        """
        item = _Item(tuple(names), draft, fresh)
        await self._queue.put(item)
        return await item.done

    async def read(self, name: str) -> Window:
        """A window as it stands now; raises ``BusUnavailableError``."""
        return (await self._read([name]))[name].window

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            items = [await self._queue.get()]
            while len(items) < _TOGETHER and not self._queue.empty():
                items.append(self._queue.get_nowait())
            try:
                await self._commit(items)
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
                for item in items:
                    _fail(item, error)

    async def _commit(self, items: Sequence[_Item]) -> None:
        for attempt in range(_TRIES):
            try:
                held = await self._current(items, fresh=attempt > 0 or any(item.fresh for item in items))
            except BusUnavailableError as error:
                # An answer that is paid for waits here: whoever gave up would have to pay again.
                log.warning("ledger_waits", error=str(error))
                await asyncio.sleep(_AGAIN_S)
                continue
            drafts, changed, failed = self._draft(items, held)
            if failed and not attempt:
                continue  # nobody is turned away for what another copy has given back since
            for item, reason in failed:
                _fail(item, reason)
            if not drafts:
                return
            if await self._stored(drafts, changed):
                return
            if len(drafts) > 1:
                for item, _ in drafts:
                    await self._commit([item])
                return
        for item in items:
            _fail(item, RetryableError(f"{item.names}: others wrote first {_TRIES} times"))

    async def _stored(self, drafts: Sequence[tuple[_Item, Draft]], changed: Mapping[str, _Held]) -> bool:
        """Whether the drafts are on record now, or the only one of them is known to be in vain."""
        writes = [write for _, draft in drafts for write in draft.writes]
        others = [message for _, draft in drafts for message in draft.messages]
        windows = [_message(name, held) for name, held in changed.items()]
        if writes:
            await faultpoints.reach("model.before_commit")
        try:
            seqs = await self._journal.commit_with(writes, [*others, *windows])
        except (ConflictError, TerminalError) as error:
            metrics.SPEND_CONFLICTS.inc()
            for name in changed:
                self._known.pop(name, None)
            if len(drafts) == 1 and (isinstance(error, TerminalError) or _is_about_a_record(error, changed)):
                _fail(drafts[0][0], error)
                return True
            return False
        for (name, held), seq in zip(changed.items(), seqs[len(writes) + len(others) :], strict=True):
            self._remember(name, _Held(seq, held.window))
        for item, draft in drafts:
            if not item.done.done():
                item.done.set_result(draft)
        return True

    def _draft(
        self, items: Sequence[_Item], held: dict[str, _Held]
    ) -> tuple[list[tuple[_Item, Draft]], dict[str, _Held], list[tuple[_Item, Exception]]]:
        """What the items come to, one after another, what this changes, and who failed. Who gave up is left out."""
        changed: dict[str, _Held] = {}
        drafts: list[tuple[_Item, Draft]] = []
        failed: list[tuple[_Item, Exception]] = []
        for item in items:
            if item.done.done():
                continue
            state = held | changed
            try:
                draft = item.draft({name: state[name].window for name in item.names})
            except Exception as error:  # noqa: BLE001 - it is the one whose draft this is that must know
                failed.append((item, error))
                continue
            drafts.append((item, draft))
            for name, window in draft.windows.items():
                if window != state[name].window:
                    changed[name] = _Held(state[name].seq, window)
        return drafts, changed, failed

    async def _current(self, items: Sequence[_Item], *, fresh: bool) -> dict[str, _Held]:
        wanted = {name for item in items for name in item.names}
        found = await self._read(wanted if fresh else wanted - self._known.keys())
        return {name: found.get(name) or self._known[name] for name in wanted}

    async def _read(self, wanted: Iterable[str]) -> dict[str, _Held]:
        """Windows as they stand in the journal; one that is not there yet is empty."""
        names = sorted(wanted)
        found = await asyncio.gather(*(self._bus.last(subjects.JOURNAL, name) for name in names))
        held: dict[str, _Held] = {}
        for name, message in zip(names, found, strict=True):
            if message is not None:
                message.require_published()
            held[name] = _Held(message.seq, _decode(message.data)) if message else _Held(CREATE, Window())
            self._remember(name, held[name])
        return held

    def _remember(self, name: str, held: _Held) -> None:
        self._known.pop(name, None)
        while len(self._known) >= _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = held


def _is_about_a_record(error: ConflictError, changed: Mapping[str, _Held]) -> bool:
    """Whether trying again with the windows of now would not help."""
    return error.stands and error.subject not in changed


def _fail(item: _Item, error: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(error)


def _message(name: str, held: _Held) -> Message:
    """The window as this write alone makes it: two copies that take the same at once do not write the same."""
    return Message(name, _encode(msgspec.structs.replace(held.window, by=secrets.token_hex(8))), expected=held.seq)
