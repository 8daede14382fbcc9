"""Recall with a cache beside the agent: what memory answered is served again until memory tells of a change.

The rule: an agent that cannot reach memory goes on with what it has, up to an age, and says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import structlog
from nats.aio.msg import Msg

from mesh import metrics, service, subjects
from mesh.answers import Answers, Kept, tokens_of
from mesh.breaker import Breaker
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import BusUnavailableError, NotSentError
from mesh.facts import RecalledFact
from mesh.lifetime import background
from mesh.memory import Changed, Question, RecallAnswer, RecallRequest
from mesh.settings import RecallSettings

log = structlog.get_logger(__name__)

_ASKS = 2  # of a copy that is behind a change which was heard here; then its answer is taken, with a note
_SWEEP_S = 10.0
_RESULTS = metrics.Bound(metrics.RECALLS)
_STALENESS = metrics.Bound(metrics.RECALL_STALENESS)

_UNANSWERED = (BusUnavailableError, NotSentError, service.ServiceError, msgspec.DecodeError)


@dataclass(frozen=True, slots=True)
class Recollection:
    """The facts for some questions, each once; the notes tell what could not be had, or is old."""

    facts: tuple[RecalledFact, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """The facts for each question so far, and the notes."""

    facts: dict[Question, tuple[RecalledFact, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Recall:
    """Asks memory, through a cache. Made by ``recalling``."""

    def __init__(self, bus: Bus, settings: RecallSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._settings = settings
        self._clock = clock
        self._answers = Answers(max_answers=settings.cache_answers, max_bytes=settings.cache_bytes)
        # Memory that hangs must not cost every plan the whole time limit.
        for result in ("hit", "miss", "stale", "none"):
            _RESULTS.of(result)
        self._breaker = Breaker("memory", pause_max_s=1.0, clock=clock)

    async def recall(self, questions: Sequence[Question], *, anew: bool = False) -> Recollection:
        """The facts for all questions, with one request at most for those whose answers are not at hand.

        ``anew`` takes nothing from the cache: somebody knows that it is not as memory has it.
        """
        if anew:
            for question in questions:
                self._answers.drop(question)
        found, at = _Found(), now()
        missing = []
        for question in dict.fromkeys(questions):
            kept = self._answers.find(question)
            if kept is None or not self._is_fresh(kept):
                missing.append(question)
                continue
            self._serve(found, question, kept, "hit", at)
        if missing:
            await self._ask_for(missing, found, at)
        facts = {fact.id: fact for question in questions for fact in found.facts.get(question, ())}
        return Recollection(tuple(facts.values()), tuple(found.notes))

    def on_change(self, message: Msg) -> None:
        """Drop what may have changed."""
        tokens = tokens_of(message.subject)
        try:
            seq = msgspec.json.decode(message.data, type=Changed).seq
        except msgspec.DecodeError:
            tokens, seq = None, 0
        if tokens is None:
            log.error("change_unreadable", subject=message.subject)
            self._answers.clear()
        else:
            metrics.RECALL_DROPPED.inc(self._answers.changed(*tokens, seq))
        metrics.RECALL_KEPT.set(len(self._answers))

    async def sweep(self) -> None:
        """Forget what is too old to be served, again and again, until cancelled."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._settings.stale_max_s))
            self._answers.drop_before(self._clock() - self._settings.stale_max_s)
            metrics.RECALL_KEPT.set(len(self._answers))

    def _is_fresh(self, kept: Kept) -> bool:
        """Whether every change since would have been heard, and it is not old all the same."""
        heard_all = self._bus.is_connected and self._answers.connection == self._bus.connection
        return heard_all and self._clock() - kept.clock_s < self._settings.fresh_s

    async def _ask_for(self, missing: list[Question], found: _Found, at: datetime) -> None:
        for attempt in range(1, _ASKS + 1):
            reach = {question: self._answers.reach(question) for question in missing}
            try:
                answer = await self._ask(tuple(missing))
            except _UNANSWERED as error:
                self._fall_back(missing, found, str(error) or type(error).__name__, at)
                return
            behind = [question for question in missing if answer.seq < reach[question]]
            for question, facts in zip(missing, answer.facts, strict=True):
                if question not in behind or attempt == _ASKS:
                    found.facts[question] = facts
                    _RESULTS.of("miss").inc()
            if not behind:
                return
            missing = behind
        found.notes.append(f"memory answered as of {answer.seq}, before a change that was told")

    async def _ask(self, questions: tuple[Question, ...]) -> RecallAnswer:
        """One request; its answers are kept. Raises one of ``_UNANSWERED``."""
        connection = self._bus.connection
        self._breaker.check()
        try:
            request = RecallRequest(questions=questions)
            answer = await service.ask(self._bus, "memory", "recall", request, RecallAnswer, self._settings.timeout_s)
        except BusUnavailableError:
            self._breaker.failed()
            raise
        except BaseException:
            self._breaker.released()
            raise
        self._breaker.succeeded()
        if len(answer.facts) != len(questions):
            raise service.ServiceError(f"memory answered {len(answer.facts)} of {len(questions)} questions")
        if connection == self._bus.connection:
            at, clock_s = now(), self._clock()
            for question, facts in zip(questions, answer.facts, strict=True):
                self._answers.keep(question, facts, answer.seq, at=at, clock_s=clock_s, connection=connection)
            metrics.RECALL_KEPT.set(len(self._answers))
        return answer

    def _fall_back(self, missing: list[Question], found: _Found, error: str, at: datetime) -> None:
        """Serve what is kept, unless it is too old."""
        oldest: Kept | None = None
        for question in missing:
            kept = self._answers.find(question)
            if kept is None or self._clock() - kept.clock_s > self._settings.stale_max_s:
                _RESULTS.of("none").inc()
                found.notes.append(f"planned without memory of {question.subject or question.scope.text}: {error}")
                continue
            self._serve(found, question, kept, "stale", at)
            oldest = kept if oldest is None or kept.clock_s < oldest.clock_s else oldest
        if oldest is not None:
            age_s = self._clock() - oldest.clock_s
            since = oldest.at.isoformat(timespec="seconds")
            found.notes.append(f"memory did not answer ({error}); facts as of {since}, {age_s:.0f} s old")

    def _serve(self, found: _Found, question: Question, kept: Kept, result: str, at: datetime) -> None:
        """Take an answer from the cache, without the facts that have ceased to be valid since."""
        found.facts[question] = tuple(fact for fact in kept.facts if fact.valid_to is None or fact.valid_to > at)
        _RESULTS.of(result).inc()
        _STALENESS.of(result).observe(self._clock() - kept.clock_s)


@asynccontextmanager
async def recalling(
    bus: Bus, settings: RecallSettings, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Recall]:
    """Recall with a cache that hears of changes while the block runs."""
    recall = Recall(bus, settings, clock=clock)

    async def on_change(message: Msg) -> None:
        recall.on_change(message)

    await bus.client.subscribe(subjects.CHANGES, cb=on_change)
    try:
        await bus.settle()
    except BusUnavailableError as error:  # nothing is kept before there is a connection, and then it listens
        log.warning("changes_not_yet_heard", error=str(error))
    async with background(recall.sweep(), "recall-sweep"):
        yield recall
