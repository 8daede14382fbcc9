"""The door: what came in is kept, mapped and published, or set aside; when it returns, that is on disk.

The rule: the same thing that comes again is the same event; nothing that came is dropped without a line that says why.
"""

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import Any

import msgspec
import structlog

from agents.intake.arrival import CUT, Arrival
from agents.intake.errors import UnreadableError
from agents.intake.mapping import Lookup, SourceMapping
from agents.intake.readers import Item, Reader
from mesh import faultpoints, metrics, subjects
from mesh.admission import Accepted, Rejected, read
from mesh.clock import now, unix
from mesh.errors import NotSentError, RetryableError, TerminalError, ToolRefusedError, UncertainError
from mesh.event_index import EventIndex, First
from mesh.expressions import ExpressionError, Variables
from mesh.journal import Committer, Message
from mesh.originals import Originals
from mesh.pack import Pack
from mesh.quarantine import Reason, quarantined
from mesh.toolbox import Toolbox

log = structlog.get_logger(__name__)

ARRIVAL_HEADER = "Workmesh-Arrival"
STAGE = "intake"
_INLINE_BYTES = 128 * 1024  # larger originals are quarantined by reference
_RECENT_MAX = 10_000
_GROUP = 128  # items of one arrival that are published together
_EACH_MAX = 1000  # elements of `each`: as many as a batch of CloudEvents may hold
_ASIDE_MAX = 1000  # items of one arrival in quarantine by themselves
_COMMIT_MAX = 1000  # events in one commit
_LARGE_BYTES = 64 * 1024  # what is larger is read in a thread: a sender's large file must not hold up all others


@dataclass(frozen=True, slots=True)
class Admitted:
    """One event that is on disk; ``seq`` 0 is one that had come before."""

    task_id: str
    seq: int = 0

    @property
    def is_duplicate(self) -> bool:
        """Whether the same event had come before."""
        return self.seq == 0


@dataclass(slots=True)
class Taken:
    """What was made of an arrival: events, items of quarantine (their ids), and how much was ignored by a rule."""

    events: list[Admitted] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    ignored: int = 0


class _Verdict(Enum):
    NEW = 1
    KNOWN = 2
    CONFLICT = 3


@dataclass(frozen=True, slots=True)
class Ready:
    """A valid event, and its bytes as they are to be published."""

    accepted: Accepted
    data: bytes

    @property
    def first(self) -> First:
        """It as the first of its task."""
        return First(0, self.accepted.digest, "", self.accepted.event.original)

    @property
    def conflict(self) -> str:
        """What is said where its id came before with other content."""
        return f"event {self.accepted.event.id!r} of {self.accepted.event.source!r} came before with other content"


@dataclass(slots=True)
class _Prepared:
    events: list[Ready] = field(default_factory=list)
    ignored: int = 0
    error: Rejected | None = None


class ConflictingError(Exception):
    """An id that came before with other content; ``place`` counts the events of a batch."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(detail)
        self.place = place


@dataclass(frozen=True, slots=True)
class Source:
    """One configured source: its name, its mapping and the reader of what comes by it."""

    name: str
    mapping: SourceMapping
    reader: Reader


def each_of(source: Source, arrival: Arrival, original: str, item: Item) -> Iterator[Variables]:
    """What expressions see of an item, or of each element of it. Raises ``UnreadableError``."""
    common = {
        "source": arrival.source,
        "received": arrival.received_at,
        "original": original,
        "found": {},
        **item.variables,
    }
    try:
        if source.mapping.each is None:
            yield Variables({**common, "key": item.key})
            return
        found = source.mapping.each.value(Variables({**common, "key": item.key}))
        if not isinstance(found, list | tuple):
            raise UnreadableError(f"`each` is no list but {type(found).__name__}")
        if len(found) > _EACH_MAX:
            raise UnreadableError(f"`each` has {len(found)} elements; {_EACH_MAX} are taken")
        for number, each in enumerate(found):
            yield Variables({**common, "key": f"{item.key}#{number}", "item": each})
    except ExpressionError as error:
        raise UnreadableError(str(error)) from error


class Door:
    """Takes events and arrivals in, for all listeners and pollers of a process."""

    def __init__(
        self,
        committer: Committer,
        originals: Originals,
        index: EventIndex,
        packs: Mapping[str, Pack],
        toolbox: Toolbox,
        sources: Mapping[str, Source],
    ) -> None:
        self._committer = committer
        self._originals = originals
        self._index = index
        self._packs = packs
        self._toolbox = toolbox
        self._sources = sources
        self._recent: OrderedDict[str, First] = OrderedDict()
        self._under_way: dict[str, First] = {}

    async def admit(self, events: Sequence[Ready]) -> list[Admitted]:
        """Publish these events, all of them or none. Raises ``ConflictingError`` for an id with other content."""
        verdicts = self._judge(events)
        if _Verdict.CONFLICT in verdicts:
            place = verdicts.index(_Verdict.CONFLICT)
            raise ConflictingError(place, events[place].conflict)
        return await self._publish(events, verdicts)

    async def take(self, arrival: Arrival) -> Taken:
        """Make of an arrival what its source's mapping says.

        Raises ``RetryableError`` when a system that must be asked for it is away: what was made of it until then is
        known again when it comes again.
        """
        source = self._source(arrival.source)
        taken = Taken()
        original = await self._originals.keep(arrival.data)
        await faultpoints.reach("intake.after_original")
        items = _items(source, arrival)
        is_large = len(arrival.data) > _LARGE_BYTES
        while group := await asyncio.to_thread(_some, items) if is_large else _some(items):
            await self._take_group(source, arrival, original, group, taken)
            if len(taken.quarantined) > _ASIDE_MAX:
                why = UnreadableError(f"more than {_ASIDE_MAX} of its items are wrong: the rest of it waits here")
                whole = Item(key=arrival.key, data=arrival.data, error=why)
                await self._take_group(source, arrival, original, [whole], taken)
                break
        await faultpoints.reach("intake.after_publish")
        for result, count in (
            ("event", sum(not event.is_duplicate for event in taken.events)),
            ("duplicate", sum(event.is_duplicate for event in taken.events)),
            ("quarantined", len(taken.quarantined)),
            ("ignored", taken.ignored),
        ):
            metrics.INTAKE_ITEMS.labels(source=arrival.source, result=result).inc(count)
        return taken

    def _source(self, name: str) -> Source:
        try:
            return self._sources[name]
        except KeyError:
            raise TerminalError(f"no source {name!r} is configured here: name it in intake.sources") from None

    async def _take_group(
        self, source: Source, arrival: Arrival, original: str, group: Sequence[Item], taken: Taken
    ) -> None:
        """What is made of these items, in their order: the events first, then what is set aside."""
        ends = await asyncio.gather(*(self._prepared(source, arrival, original, item) for item in group))
        ready = [(item, event) for item, end in zip(group, ends, strict=True) for event in end.events]
        verdicts = self._judge([event for _, event in ready])
        aside = [(item, end.error) for item, end in zip(group, ends, strict=True) if end.error is not None]
        for (item, event), verdict in zip(ready, verdicts, strict=True):
            if verdict is _Verdict.CONFLICT:
                detail = f"{event.conflict}: the first one stands; give a change an id of its own"
                identity = event.accepted.event
                aside.append((item, Rejected(Reason.CONFLICT, detail, identity.id, identity.source)))
        taken.events += await self._publish([event for _, event in ready], verdicts)
        taken.ignored += sum(end.ignored for end in ends)
        if aside:
            messages = [self._set_aside(arrival, item, rejected) for item, rejected in aside]
            await self._committer.commit(messages)
            taken.quarantined += [message.subject.rpartition(".")[2] for message in messages]

    async def _prepared(self, source: Source, arrival: Arrival, original: str, item: Item) -> _Prepared:
        """The events that an item makes; nothing is published yet."""
        found = _Prepared()
        try:
            if item.error is not None:
                raise item.error
            for part in item.parts:
                await self._originals.keep(part)
            for variables in each_of(source, arrival, original, item):
                event = await self._event(source, arrival, original, variables)
                if event is None:
                    found.ignored += 1
                elif isinstance(event, Rejected):
                    return _Prepared(error=event)
                else:
                    found.events.append(event)
        except UnreadableError as error:
            return _Prepared(error=Rejected(Reason.MALFORMED, str(error)))
        return found

    async def _event(
        self, source: Source, arrival: Arrival, original: str, variables: Variables
    ) -> Ready | Rejected | None:
        answers = await self._look_up(source.mapping.lookups, variables, {})
        rule = source.mapping.rule(variables)
        if rule is None:
            return Rejected(Reason.UNKNOWN_TYPE, f"no rule of {source.mapping.name} is meant for this")
        if rule.ignore:
            log.info("arrival_ignored", source=arrival.source, key=arrival.key, rule=rule.name, reason=rule.ignore)
            return None
        await self._look_up(rule.lookups, variables, answers)
        event = rule.event(variables) | {"channel": arrival.source, "original": original}
        try:
            data = msgspec.json.encode(event)
        except (TypeError, ValueError) as error:
            raise UnreadableError(f"no JSON comes of it: {error}", f"rule {rule.name}") from error
        found = read(data, {}, self._packs)
        return found if isinstance(found, Rejected) else Ready(found, data)

    async def _look_up(
        self, lookups: Sequence[Lookup], variables: Variables, answers: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ask these, each seeing the answers of those before it as ``found``; all answers."""
        found = dict(answers)
        for lookup in lookups:
            found[lookup.name] = await self._ask(lookup, variables)
            try:
                variables.put("found", found)
            except ExpressionError as error:
                raise UnreadableError(str(error), f"lookup {lookup.name}") from error
        return found

    async def _ask(self, lookup: Lookup, variables: Variables) -> Any:
        place = f"lookup {lookup.name}"
        try:
            args = msgspec.json.encode({name: each.value(variables) for name, each in lookup.args.items()})
            tool = self._toolbox.find(lookup.tool)
            answer = await self._toolbox.call(
                tool, msgspec.Raw(args), key="intake", epoch=0, call_by=unix() + tool.timeout_s
            )
        except (ExpressionError, ToolRefusedError, TypeError, ValueError) as error:
            raise UnreadableError(str(error), place) from error
        except (NotSentError, UncertainError) as error:
            raise RetryableError(f"{place}: {error}") from error
        return msgspec.json.decode(answer)

    def _set_aside(self, arrival: Arrival, item: Item, rejected: Rejected) -> Message:
        inline = len(item.data) <= _INLINE_BYTES
        metrics.QUARANTINED.labels(reason=rejected.reason).inc()
        log.warning("arrival_quarantined", source=arrival.source, reason=rejected.reason, detail=rejected.detail)
        return quarantined(
            stage=STAGE,
            reason=rejected.reason,
            detail=rejected.detail,
            stream="",
            subject=f"{arrival.source}/{item.key}",
            seq=0,
            data=item.data if inline else b"",
            headers={ARRIVAL_HEADER: _header_of(arrival, item)},
            event_id=rejected.event_id,
            event_source=rejected.event_source,
            kept="" if inline else arrival.digest,
        )

    def _judge(self, events: Sequence[Ready]) -> list[_Verdict]:
        """Which of these are new, in their order: one may come twice among them."""
        wanted: dict[str, First] = {}
        found: list[_Verdict] = []
        for event in events:
            task = event.accepted.task_id
            known = wanted.get(task) or self._recent.get(task) or self._index.known(task)
            # The same event on its way to disk is published again, which changes nothing: it is not there yet.
            first = known or self._under_way.get(task) or event.first
            if not first.is_same(event.accepted.digest, event.accepted.event.original):
                found.append(_Verdict.CONFLICT)
            else:
                found.append(_Verdict.KNOWN if known else _Verdict.NEW)
            wanted.setdefault(task, first)
        return found

    async def _publish(self, events: Sequence[Ready], verdicts: Sequence[_Verdict]) -> list[Admitted]:
        """Publish the new ones, together; the others but those in conflict came before."""
        new = [event for event, verdict in zip(events, verdicts, strict=True) if verdict is _Verdict.NEW]
        messages = [
            Message(
                subjects.event(each.accepted.event.type),
                each.data,
                expected=None,
                headers={"Nats-Msg-Id": secrets.token_hex(12)},
            )
            for each in new
        ]
        firsts = {each.accepted.task_id: each.first for each in new}
        self._under_way.update(firsts)
        try:
            stored: list[int] = []
            for start in range(0, len(messages), _COMMIT_MAX):
                stored += await self._committer.commit(messages[start : start + _COMMIT_MAX])
        finally:
            for task in firsts:
                self._under_way.pop(task, None)
        seqs = iter(stored)
        self._recent.update(firsts)
        while len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        return [
            Admitted(event.accepted.task_id, next(seqs) if verdict is _Verdict.NEW else 0)
            for event, verdict in zip(events, verdicts, strict=True)
            if verdict is not _Verdict.CONFLICT
        ]


def _items(source: Source, arrival: Arrival) -> Iterator[Item]:
    """The items of an arrival; where it cannot be read on, the last one says why."""
    try:
        if why := arrival.headers.get(CUT):
            raise UnreadableError(f"too large: {why}; only its beginning is kept")
        yield from source.reader(arrival)
    except UnreadableError as error:
        yield Item(key=arrival.key, data=arrival.data, error=error)


def _some(items: Iterator[Item]) -> list[Item]:
    """The next items, as many as are published together."""
    return list(islice(items, _GROUP))


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of an arrival in a header, so that a release can take it in again."""

    source: str
    key: str
    content_type: str
    received_at: datetime
    headers: dict[str, str] = {}


def _header_of(arrival: Arrival, item: Item) -> str:
    told = _Told(
        source=arrival.source,
        key=item.key,
        content_type=item.content_type or arrival.content_type,
        received_at=arrival.received_at,
        headers=dict(arrival.headers),
    )
    return json.dumps(msgspec.to_builtins(told))  # ASCII, as headers are


def arrival_of(header: str, data: bytes) -> Arrival:
    """The arrival that was set aside with this header; raises ``UnreadableError`` when it is none."""
    try:
        told = msgspec.json.decode(header, type=_Told)
    except msgspec.DecodeError as error:
        raise UnreadableError(f"not an arrival: {error}") from error
    return Arrival(
        source=told.source,
        key=told.key,
        data=data,
        content_type=told.content_type,
        received_at=told.received_at or now(),
        headers=told.headers,
    )
