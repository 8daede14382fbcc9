"""Answers of memory, kept by question: bounded, and dropped as soon as memory says that they may have changed.

The rule: no answer stays that is older than a change heard; that has no exception for being busy or being full.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from mesh.facts import RecalledFact, Slot, subject_token
from mesh.memory import Question

ANY = "-"
"""Stands for every subject or predicate where a change is not of one slot."""

_HEARD_MAX = 8192  # topics whose last change is remembered one by one; older ones count for everything
_OVERHEAD_BYTES = 256  # of an answer with nothing in it

Topic = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: how far in ``MEMORY`` it reaches, and when it was given, by two clocks."""

    facts: tuple[RecalledFact, ...]
    seq: int
    at: datetime
    clock_s: float
    size: int


class Answers:
    """Keeps answers, the least recently used going first.

    All are of one ``connection`` to the bus: under another one changes may have been missed.
    """

    def __init__(self, *, max_answers: int, max_bytes: int) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Question, Kept] = OrderedDict()
        self._topics: dict[Topic, set[Question]] = {}
        self._heard: OrderedDict[Topic, int] = OrderedDict()
        self._floor = 0
        self.bytes = 0
        self.connection = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, question: Question) -> Kept | None:
        """The answer to this very question, whatever its age."""
        kept = self._kept.get(question)
        if kept is not None:
            self._kept.move_to_end(question)
        return kept

    def reach(self, question: Question) -> int:
        """How far an answer must reach to hold all changes heard of what it is about."""
        topic = topic_of(question)
        heard = [self._heard.get(each, 0) for each in _about(topic)]
        return max(self._floor, *heard)

    def keep(
        self,
        question: Question,
        facts: tuple[RecalledFact, ...],
        seq: int,
        *,
        at: datetime,
        clock_s: float,
        connection: int,
    ) -> bool:
        """Keep an answer that was given under ``connection``; not one that is behind a change, or too large."""
        if connection < self.connection:
            return False
        if connection > self.connection:
            self.clear()
            self.connection = connection
        self.drop(question)
        size = _OVERHEAD_BYTES + len(msgspec.json.encode(facts))
        if size > self._max_bytes or seq < self.reach(question):
            return False
        self._kept[question] = Kept(facts, seq, at, clock_s, size)
        self._topics.setdefault(topic_of(question), set()).add(question)
        self.bytes += size
        while len(self._kept) > self._max_answers or self.bytes > self._max_bytes:
            self.drop(next(iter(self._kept)))
        return True

    def changed(self, scope: str, subject: str, predicate: str, seq: int) -> int:
        """Memory changed there at ``seq``, by the tokens of a slot: drop what may be otherwise now; how many."""
        for topic in ((scope,), (scope, subject), (scope, subject, predicate)):
            self._heard[topic] = max(seq, self._heard.get(topic, 0))
            self._heard.move_to_end(topic)
        while len(self._heard) > _HEARD_MAX:
            _, gone = self._heard.popitem(last=False)
            self._floor = max(self._floor, gone)
        return self._drop_all(q for topic in self._touched(scope, subject, predicate) for q in self._topics[topic])

    def drop(self, question: Question) -> None:
        """Forget one answer."""
        kept = self._kept.pop(question, None)
        if kept is None:
            return
        self.bytes -= kept.size
        topic = topic_of(question)
        questions = self._topics[topic]
        questions.discard(question)
        if not questions:
            del self._topics[topic]

    def drop_before(self, clock_s: float) -> int:
        """Forget the answers given before this time; how many."""
        return self._drop_all(question for question, kept in self._kept.items() if kept.clock_s < clock_s)

    def clear(self) -> None:
        """Forget all answers; what was heard still counts."""
        self._kept.clear()
        self._topics.clear()
        self.bytes = 0

    def _drop_all(self, questions: Iterable[Question]) -> int:
        found = list(questions)
        for question in found:
            self.drop(question)
        return len(found)

    def _touched(self, scope: str, subject: str, predicate: str) -> list[Topic]:
        """The topics with answers that a change is about."""
        if ANY in (subject, predicate):
            return [topic for topic in self._topics if _matches((scope, subject, predicate), topic)]
        return [each for each in ((scope,), (scope, subject), (scope, subject, predicate)) if each in self._topics]


def topic_of(question: Question) -> Topic:
    """What the answer depends on: its scope, subject and predicate, or the whole scope.

    Words are weighed against all facts of the scope, and a prefix stands for subjects that may be yet to come.
    """
    if question.query or not question.subject or question.subject.endswith("/"):
        return (question.scope.token,)
    if not question.predicate:
        return (question.scope.token, subject_token(question.scope, question.subject))
    return Slot(scope=question.scope, subject=question.subject, predicate=question.predicate).tokens


def tokens_of(subject: str) -> tuple[str, str, str] | None:
    """Scope, subject and predicate of ``memory.changed.<scope>.<subject>.<predicate>``; none for another subject."""
    parts = subject.split(".")
    return (parts[2], parts[3], parts[4]) if len(parts) == 5 else None


def _about(topic: Topic) -> list[Topic]:
    """The topics under which a change of this one may have been told."""
    scope, *rest = topic
    match rest:
        case [_]:
            return [topic, (scope, ANY)]
        case [subject, predicate]:
            return [topic, (scope, subject, ANY), (scope, ANY, predicate), (scope, ANY, ANY)]
    return [topic]


def _matches(change: Topic, topic: Topic) -> bool:
    return all(told in (ANY, mine) for told, mine in zip(change, topic, strict=False))
