"""The records of one task up to one of them, and what its spans need of them: ids, parents, and what was waited for.

The rule: an id is a function of the records before it, so whoever reads the same journal gives the same ids.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from agents.tracer.span import Kind, Span, Value
from mesh import tracing
from mesh.journal import Stored
from mesh.records import Approval, Context, Decision, Plan, Prompt, Record, Verdict


class Trail:
    """The records of a task up to one, and what spans need of them."""

    def __init__(self, items: Sequence[Stored]) -> None:
        self.items = items
        self.item = items[-1]
        self.before = items[:-1]
        self.head = self.item.record.header
        self.base = tracing.root(self.head.task_id)
        given = (tracing.trace_of(item.record.header.traceparent) for item in items)
        self.trace = next(filter(None, given), tracing.trace_of(self.base))
        self.root = tracing.span_of(self.base)
        self.context = next((item.record for item in items if isinstance(item.record, Context)), None)

    def span(
        self,
        name: str,
        start: datetime,
        said: Mapping[str, Value],
        *,
        of: Stored | None = None,
        error: str = "",
        kind: Kind = Kind.INTERNAL,
        parent: str = "",
    ) -> Span:
        """A span that ends with the last record; it has the id of that one, or of the record that it is ``of``."""
        own = of or self.item
        head = own.record.header
        common: dict[str, Value] = {
            "workmesh.task": head.task_id,
            "workmesh.domain": head.domain,
            "workmesh.sequence": own.seq,
        }
        return Span(
            trace=self.trace,
            id=self.id_of(own),
            parent=parent or self.root,
            name=name,
            start=start,
            end=self.item.time,
            writer=head.writer,
            attributes={**common, **said},
            kind=kind,
            error=error,
        )

    def id_of(self, item: Stored) -> str:
        """The id of a record's span."""
        record, given = item.record, item.record.header.traceparent
        own = tracing.span_of(given)
        taken = {self.root} | {
            tracing.span_of(other.record.header.traceparent)
            for other in self.items
            if other.seq < item.seq and not isinstance(other.record, Prompt)
        }
        return own if own and own not in taken else self._further(given, record.kind, item.seq)

    def plan_after(self, prompt: Prompt, seq: int) -> str:
        """The id that the plan's span will have that a question was asked for."""
        given = prompt.header.traceparent
        first = not any(isinstance(item.record, Plan) for item in self.items if item.seq < seq)
        return tracing.span_of(given) if first else self._further(given, "plan", seq)

    def _further(self, given: str, kind: str, seq: int) -> str:
        number = sum(item.record.kind == kind for item in self.items if item.seq < seq)
        return tracing.span_of(tracing.child(given or self.base, "span", kind, str(number)))

    def last(self, *kinds: type[Record]) -> Stored | None:
        """The last record before this one that is of these kinds."""
        return next((item for item in reversed(self.before) if isinstance(item.record, kinds)), None)

    def caused_at(self, record: Record) -> datetime:
        """When the record stood that led to this one; else the one before it."""
        cause = record.header.causation
        found = (item.time for item in self.before if item.seq == cause.seq and item.subject == cause.subject)
        return next(found, self.before[-1].time if self.before else record.header.at)

    def turn_given(self) -> datetime:
        """When a plan could be begun: its context stood, or what made the plan before it void."""
        given = self.last(Context, Decision, Approval)
        return given.time if given else self.head.at

    def asked(self) -> Stored | None:
        """The decision that asked for somebody's word last."""
        decisions = (item for item in reversed(self.before) if isinstance(item.record, Decision))
        return next((item for item in decisions if _verdict(item) is Verdict.NEEDS_APPROVAL), None)


def _verdict(item: Stored) -> Verdict | None:
    return item.record.verdict if isinstance(item.record, Decision) else None
