"""Batches in the journal: what a batch holds is on record before it is sent, and until each prompt has a completion.

The rule: a prompt is acknowledged once a batch on record holds it; then whoever polls sees it to its end.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from agents.model.ledger import Draft, Ledger
from mesh import subjects
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import ConflictError, RetryableError
from mesh.inference import Mode, Prompt, Usage
from mesh.journal import CREATE, Journal, Message
from mesh.record import Struct
from mesh.spending import Claim, Window, cost, day_of

ITEMS_MAX = 2000  # in one batch: its record stays under half of what the journal takes
_INDEX = "spend.batches"
_TRIES = 20

_encode = msgspec.json.Encoder().encode


class State(StrEnum):
    """``intent``: it is being sent, or was, by somebody who died; ``unsent``: it certainly was not."""

    INTENT = "intent"
    UNSENT = "unsent"
    SENT = "sent"
    DONE = "done"


class Item(Struct, frozen=True, kw_only=True, array_like=True):
    """A prompt of a batch, at ``seq`` of the journal; ``calls`` were lost with batches before this one."""

    task: str
    name: str
    seq: int
    at_most: int
    tries: int = 1
    calls: tuple[Usage, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from other prompts of the domain."""
        return f"{self.task}.{self.name}"


class Batch(Struct, frozen=True, kw_only=True):
    """One batch. Its custom ids are the ``nonce`` and the number of the item. ``until`` (Unix time) its sending has
    ended; it was made and sent first ``at``. Its money stands in the window of ``day``, under ``key``."""

    nonce: str
    domain: str
    model: str
    day: str
    at: float
    by: str
    items: tuple[Item, ...]
    until: float = 0.0
    state: State = State.INTENT
    id: str = ""
    sends: int = 1

    @property
    def key(self) -> str:
        """The key of its claim."""
        return f"batch.{self.nonce}"

    @property
    def window(self) -> str:
        """The window of its claim."""
        return subjects.spend(self.domain, self.day)

    def claim(self, items: Sequence[Item]) -> Claim:
        """The claim for those of its items that have no completion yet."""
        return Claim(
            key=self.key,
            nonce=self.nonce,
            by=self.by,
            at_most=sum(item.at_most for item in items),
            model=self.model,
            mode=Mode.BATCH,
            calls=tuple(call for item in items for call in item.calls),
        )


class _Index(Struct, frozen=True, kw_only=True):
    """The batches that are under way."""

    open: tuple[str, ...] = ()


def item_of(prompt: Prompt, seq: int, at_most: int) -> Item:
    """The prompt as an item."""
    return Item(task=prompt.header.task_id, name=prompt.name, seq=seq, at_most=at_most)


def fitting(items: Sequence[Item], window: Window, cap: int) -> int:
    """How many of the items, from the first on, the day's budget has room for."""
    left = cap - window.taken
    for number, item in enumerate(items):
        left -= item.at_most + cost(item.calls)
        if left < 0:
            return number
    return len(items)


class BatchBook:
    """The batches on record."""

    def __init__(self, bus: Bus, journal: Journal, ledger: Ledger, writer: str) -> None:
        self._bus = bus
        self._journal = journal
        self._ledger = ledger
        self._writer = writer
        self._holds: dict[str, frozenset[str]] = {}

    async def open(self) -> tuple[str, ...]:
        """The nonces of all batches under way."""
        return (await self._index())[1].open

    async def read(self, nonce: str) -> tuple[int, Batch | None]:
        """A batch and its sequence."""
        found = await self._bus.last(subjects.JOURNAL, _subject(nonce))
        if found is None:
            return CREATE, None
        found.require_published()
        return found.seq, msgspec.json.decode(found.data, type=Batch)

    async def holds(self, prompt: Prompt) -> bool:
        """Whether a batch under way holds this prompt."""
        nonces = await self.open()
        for nonce in nonces:
            if nonce not in self._holds:
                _, batch = await self.read(nonce)
                self._holds[nonce] = frozenset(item.key for item in batch.items) if batch else frozenset()
        self._holds = {nonce: self._holds[nonce] for nonce in nonces}
        return any(f"{prompt.header.task_id}.{prompt.name}" in keys for keys in self._holds.values())

    async def begin(self, domain: str, model: str, items: Sequence[Item], cap: int, lasts_s: float) -> Batch | None:
        """Put a batch of these items on record, as many as the day's budget has room for; ``None`` if for none."""
        nonce, at = secrets.token_hex(8), unix()
        made: list[Batch] = []

        def draft(windows: Mapping[str, Window], index: _Index) -> tuple[dict[str, Window], list[Batch], _Index]:
            made.clear()
            ((name, window),) = windows.items()
            kept = tuple(items[: fitting(items, window, cap)])
            if not kept:
                return {}, [], index
            batch = Batch(
                nonce=nonce,
                domain=domain,
                model=model,
                day=name.rpartition(".")[2],
                at=at,
                by=self._writer,
                items=kept,
                until=at + lasts_s,
            )
            made.append(batch)
            return {name: window.put(batch.claim(kept))}, [batch], _Index(open=(*index.open, nonce))

        await self._change([subjects.spend(domain, day_of(at))], {}, draft)
        return made[0] if made else None

    async def close(self, batch: Batch, seq: int, again: Sequence[Item], lasts_s: float) -> Batch | None:
        """The batch is over; what has to be sent again goes into a new one, in the same commit.

        The new one takes over the claim, so it cannot be over budget.
        """
        at = unix()
        after = msgspec.structs.replace(
            batch, nonce=secrets.token_hex(8), by=self._writer, at=at, until=at + lasts_s, items=tuple(again), id=""
        )
        after = msgspec.structs.replace(after, state=State.INTENT, sends=1)
        done = msgspec.structs.replace(batch, state=State.DONE, items=())

        def draft(windows: Mapping[str, Window], index: _Index) -> tuple[dict[str, Window], list[Batch], _Index]:
            window = windows[batch.window].without(batch.key)
            rest = tuple(nonce for nonce in index.open if nonce != batch.nonce)
            if not again:
                return {batch.window: window}, [done], _Index(open=rest)
            window = window.put(after.claim(again))
            return {batch.window: window}, [done, after], _Index(open=(*rest, after.nonce))

        await self._change([batch.window], {batch.nonce: seq}, draft)
        return after if again else None

    async def put(self, batch: Batch, seq: int) -> int:
        """Store a batch in the place of what stands at ``seq``; raises ``ConflictError``."""
        (stored,) = await self._journal.commit_with((), [_message(batch, seq)])
        return stored

    async def _change(
        self,
        names: Sequence[str],
        seqs: Mapping[str, int],
        draft: Callable[[Mapping[str, Window], _Index], tuple[dict[str, Window], list[Batch], _Index]],
    ) -> None:
        for _ in range(_TRIES):
            index_seq, index = await self._index()

            def whole(windows: Mapping[str, Window], index_seq: int = index_seq, index: _Index = index) -> Draft:
                after, batches, changed = draft(windows, index)
                messages = [_message(batch, seqs.get(batch.nonce, CREATE)) for batch in batches]
                if changed != index:
                    messages.append(Message(_INDEX, _encode(changed), index_seq))
                return Draft({**windows, **after}, messages=tuple(messages))

            try:
                await self._ledger.change(names, whole)
                return
            except ConflictError as error:
                if error.subject != _INDEX:
                    raise
        raise RetryableError(f"{_INDEX}: others wrote first {_TRIES} times")

    async def _index(self) -> tuple[int, _Index]:
        found = await self._bus.last(subjects.JOURNAL, _INDEX)
        if found is None:
            return CREATE, _Index()
        found.require_published()
        return found.seq, msgspec.json.decode(found.data, type=_Index)


def _subject(nonce: str) -> str:
    return f"spend.batch.{nonce}.-"


def _message(batch: Batch, expected: int) -> Message:
    return Message(_subject(batch.nonce), _encode(batch), expected)
