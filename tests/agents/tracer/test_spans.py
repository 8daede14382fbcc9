"""What becomes a span of a task's records: names, times, parents, and ids that the same journal always gives again."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tracer.exporter import is_chosen
from agents.tracer.held import Held, bare, readable
from agents.tracer.span import Naming, Span, request
from agents.tracer.spans import completed
from mesh import subjects, tracing
from mesh.bus import StoredMessage
from mesh.journal import Stored
from mesh.records import (
    AnyRecord,
    Causation,
    Header,
    Origin,
    OutcomeStatus,
    Phase,
    Purpose,
    ResultStatus,
    Verdict,
    Word,
)
from tests.agents.tracer.receiving import Received, received
from tests.mesh import samples
from tests.mesh.samples import AT, TRACE

TASK = "t1"
ROOT = tracing.root(TASK, TRACE)
SAMPLES: dict[str, Any] = {record.kind: record for record in samples.one_of_each()}


class Story:
    """A task's records, a second apart, as the stages write them."""

    def __init__(self) -> None:
        self.items: list[Stored] = []
        self.tell(samples.context(), ROOT)

    def tell(self, record: AnyRecord, trace: str, *, after_s: float = 1.0, cause: int = 0, **changes: Any) -> Stored:
        """One more record."""
        seq = len(self.items) + 1
        at = self.items[-1].time + timedelta(seconds=after_s) if self.items else AT + timedelta(milliseconds=5)
        found = next((item for item in self.items if item.seq == (cause or seq - 1)), None)
        stream, subject = ("JOURNAL", found.subject) if found else ("EVENTS", "event.retail.x")
        head = Header(
            task_id=TASK,
            domain="retail",
            causation=Causation(stream=stream, subject=subject, seq=found.seq if found else 7),
            writer=f"{record.kind}er/1",
            at=at,
            traceparent=trace,
        )
        record = msgspec.structs.replace(record, header=head, **changes)
        self.items.append(Stored(seq, subjects.of(record), at, record))
        return self.items[-1]

    def trace(self, *names: str) -> str:
        """The span under the root of these names in turn."""
        trace = ROOT
        for name in names:
            trace = tracing.child(trace, name)
        return trace

    def planned(self, **changes: Any) -> None:
        """A plan."""
        self.tell(samples.plan(), self.trace("plan"), **changes)

    def decided(self, verdict: Verdict = Verdict.ALLOW, phase: Phase = Phase.PROPOSE, **changes: Any) -> None:
        """A decision on it."""
        name = "decision" if phase is Phase.PROPOSE else "execute"
        decision = SAMPLES["decision"]
        self.tell(decision, self.trace("plan", name), verdict=verdict, phase=phase, void=(), **changes)

    def begun(self, epoch: int = 1, **changes: Any) -> Stored:
        """A call of the first step."""
        trace = self.trace("plan", "decision", f"effect/s1/{epoch}")
        return self.tell(samples.effect(), trace, step="s1", epoch=epoch, **changes)

    def answered(self, status: ResultStatus = ResultStatus.SUCCEEDED, epoch: int = 1, **changes: Any) -> None:
        """What came of it."""
        trace = self.trace("plan", "decision", f"result/s1/{epoch}")
        self.tell(samples.result(), trace, step="s1", epoch=epoch, status=status, **changes)

    def ended(self, status: OutcomeStatus = OutcomeStatus.COMPLETED) -> None:
        """The outcome."""
        self.tell(SAMPLES["outcome"], self.trace("plan", "decision", "outcome"), status=status)

    def spans(self) -> list[Span]:
        """All that the records complete, one after the other."""
        return [span for end in range(1, len(self.items) + 1) for span in completed(self.items[:end])]

    def one(self, name: str) -> Span:
        """The only span of this name."""
        (found,) = (span for span in self.spans() if span.name == name)
        return found

    def at(self, number: int) -> datetime:
        """When the record of this number was stored."""
        return self.items[number - 1].time


def require_tree(spans: Sequence[Span]) -> None:
    """Every id once, and every parent there but the root's."""
    ids = [span.id for span in spans]
    assert len(set(ids)) == len(ids)
    assert [span.name.split(" ")[0] for span in spans if span.parent not in ids] == ["task"]
    assert {span.trace for span in spans} == {TRACE.split("-")[1]}


def test_the_path_of_a_task_from_its_event_to_its_outcome() -> None:
    story = Story()
    story.planned()
    story.decided()
    story.begun()
    story.answered()
    story.ended()
    spans = story.spans()
    require_tree(spans)
    assert [span.name for span in spans] == [
        "context", "plan", "decision", "execute_tool refund", "outcome", "task retail.x"
    ]  # fmt: skip
    call, root = spans[3], spans[5]
    assert (call.start, call.end) == (story.at(4), story.at(5))
    assert call.id == tracing.span_of(story.items[3].record.header.traceparent)
    assert (root.start, root.end, root.id) == (AT, story.at(6), tracing.span_of(ROOT))
    assert {span.parent for span in spans[:5]} == {root.id} and not any(span.error for span in spans)


def test_the_wait_for_a_person_is_from_the_decision_that_asks_to_the_word() -> None:
    story = Story()
    story.planned()
    story.decided(Verdict.NEEDS_APPROVAL)
    story.tell(SAMPLES["approval"], story.trace("plan", "approval/controller"), after_s=3600)
    story.decided(Verdict.ALLOW, Phase.EXECUTE, cause=3)
    span = next(span for span in story.spans() if span.name.startswith("approval "))
    assert (span.start, span.end) == (story.at(3), story.at(4))
    decision = [span for span in story.spans() if span.name == "decision"][1]
    assert decision.start == story.at(4)
    assert len([span for span in story.spans() if span.name.startswith("approval")]) == 1


def test_a_wait_that_nobody_ended_is_a_span_until_its_time_was_over() -> None:
    story = Story()
    story.planned()
    until = story.items[-1].time + timedelta(seconds=60)
    story.decided(Verdict.NEEDS_APPROVAL, approve_by=until)
    story.decided(Verdict.DENY, Phase.EXECUTE, after_s=61, cause=3)
    wait = story.one("approval")
    assert (wait.start, wait.end, wait.error) == (story.at(3), until, "nobody gave the word in time")
    assert [span.start for span in story.spans() if span.name == "decision"] == [story.at(2), until]


@pytest.mark.parametrize(("withdrawn", "error"), [(True, "not sent"), (False, "lost")])
def test_each_call_of_a_step_is_a_span_with_the_id_that_its_target_was_sent(withdrawn: bool, error: str) -> None:
    story = Story()
    story.planned()
    story.decided()
    first = story.begun()
    if withdrawn:
        story.tell(first.record, story.trace("plan", "decision", "withdrawn/s1/1"), withdrawn=True)
    second = story.begun(2)
    story.answered(epoch=2)
    story.ended()
    calls = [span for span in story.spans() if span.name.startswith("execute_tool")]
    assert [span.error for span in calls] == [error, ""]
    assert [span.id for span in calls] == [tracing.span_of(item.record.header.traceparent) for item in (first, second)]
    assert calls[0].end == story.items[4].time
    require_tree(story.spans())


def test_a_doubt_that_a_person_settles_is_a_span_from_the_word_to_the_result() -> None:
    story = Story()
    story.planned()
    story.decided()
    story.begun()
    story.answered(ResultStatus.IN_DOUBT)
    said = msgspec.structs.replace(
        SAMPLES["approval"].statement, purpose=Purpose.IN_DOUBT, step="s1", word=Word.HAPPENED
    )
    story.tell(SAMPLES["approval"], story.trace("plan", "approval"), statement=said, after_s=600)
    story.answered(recovered="person")
    story.ended()
    spans = story.spans()
    require_tree(spans)
    call, wait, settled = (span for span in spans if span.name.split(" ")[0] in ("execute_tool", "approval", "settle"))
    assert (call.error, call.end) == ("in doubt", story.at(5))
    assert (wait.start, wait.end) == (story.at(5), story.at(6))
    assert (settled.start, settled.end) == (story.at(6), story.at(7))


def test_a_closed_effect_is_no_call_and_a_call_of_which_nothing_was_said_ends_with_the_task() -> None:
    story = Story()
    story.planned()
    story.decided()
    open_call = story.begun()
    story.tell(samples.effect(), story.trace("plan", "decision", "closed/s2/0"), step="s2", epoch=0, closed=True)
    story.ended(OutcomeStatus.FAILED)
    calls = [span for span in story.spans() if span.name.startswith("execute_tool")]
    assert [(span.id, span.error) for span in calls] == [(tracing.span_of(open_call.record.header.traceparent), "lost")]
    assert story.one("task retail.x").error == "failed"


def test_questions_stand_under_the_plan_that_they_are_asked_for_though_it_is_made_anew() -> None:
    story = Story()
    asked = story.trace("plan")
    for revision in (0, 1):
        story.tell(samples.prompt(), asked, name=f"q{revision}")
        story.tell(samples.completion(), tracing.child(asked, "completion", f"q{revision}"), name=f"q{revision}")
        story.tell(samples.plan(), asked, revision=revision, anew=bool(revision))
        decision = tracing.child(asked, "decision") if not revision else tracing.child(asked, "execute")
        void = () if revision else ("f1",)
        story.tell(SAMPLES["decision"], decision, verdict=Verdict.DENY, void=void, revision=revision)
    story.ended(OutcomeStatus.DENIED)
    spans = story.spans()
    require_tree(spans)
    plans = [span for span in spans if span.name == "plan"]
    chats = [span for span in spans if span.name.startswith("chat ")]
    assert [span.parent for span in chats] == [plan.id for plan in plans]
    assert [plan.start for plan in plans] == [story.at(1), story.at(5)]


def test_an_outcome_that_has_the_id_of_its_decision_gets_one_of_its_own() -> None:
    story = Story()
    story.planned()
    story.decided(Verdict.DENY)
    story.tell(SAMPLES["outcome"], story.trace("plan", "decision"), status=OutcomeStatus.DENIED)
    require_tree(story.spans())
    assert story.one("decision").id == tracing.span_of(story.trace("plan", "decision"))


def test_what_a_model_has_named_is_not_told() -> None:
    story = Story()
    story.planned(origin=Origin.MODEL)
    story.decided()
    story.begun(key="wm-t1-s1")
    story.answered()
    told = story.one("execute_tool refund").attributes
    assert "workmesh.step" not in told and told["workmesh.step_number"] == 1
    assert "s1" not in str(told["gen_ai.tool.call.id"])


def test_words_of_a_target_are_told_only_where_they_are_a_code() -> None:
    for code, told in (("already_refunded", "already_refunded"), ("No such order: #W1060358", "_OTHER")):
        story = Story()
        story.planned()
        story.decided()
        story.begun()
        story.answered(ResultStatus.FAILED, code=code, error="No such order: #W1060358")
        assert story.one("execute_tool refund").attributes["error.type"] == told


def test_records_without_a_trace_have_one_made_of_the_task() -> None:
    story = Story()
    story.planned()
    story.decided()
    story.ended()
    bald = [
        msgspec.structs.replace(item.record, header=msgspec.structs.replace(item.record.header, traceparent=""))
        for item in story.items
    ]
    items = [Stored(item.seq, item.subject, item.time, record) for item, record in zip(story.items, bald, strict=True)]
    spans = [span for end in range(1, len(items) + 1) for span in completed(items[:end])]
    assert {span.trace for span in spans} == {tracing.trace_of(tracing.root(TASK))}
    assert len({span.id for span in spans}) == len(spans) == 5


def _sent(spans: Sequence[Span]) -> list[Received]:
    return list(received(request(spans, Naming("workmesh")).SerializeToString()))


def test_a_span_is_the_same_over_the_wire() -> None:
    story = Story()
    story.planned()
    story.decided()
    story.begun()
    story.answered(ResultStatus.FAILED, code="refused")
    story.ended(OutcomeStatus.FAILED)
    spans, sent = story.spans(), _sent(story.spans())
    assert {span.id for span in sent} == {span.id for span in spans}
    call = next(span for span in sent if span.name.startswith("execute_tool"))
    assert (call.service, call.resource["service.instance.id"], call.error) == ("workmesh-effecter", "1", "failed")
    assert call.end - call.start == 1_000_000_000
    root = next(span for span in sent if span.name.startswith("task "))
    assert root.kind == 5 and root.attributes["workmesh.tools"] == SAMPLES["outcome"].tools


class Kept:
    """A journal of these records, which counts how often it is asked."""

    def __init__(self, items: Sequence[Stored]) -> None:
        self.messages = [message_of(item) for item in items]
        self.asked = 0

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """The last message of one subject."""
        self.asked += 1
        return next((each for each in reversed(self.messages) if each.subject == subject), None)

    async def read(self, stream: str, seq: int, limit: int, subject: str = ">") -> list[StoredMessage]:
        """Messages from a sequence on that match."""
        found = (each for each in self.messages if each.seq >= seq and subjects.matches(subject, each.subject))
        return list(found)[:limit]


def message_of(item: Stored) -> StoredMessage:
    """The record as the bus has it."""
    data = msgspec.json.encode(item.record)
    return StoredMessage("JOURNAL", item.subject, item.seq, item.time.isoformat(), data, {})


def _stories(count: int) -> list[Stored]:
    """Several tasks, their records interleaved."""
    found: list[Stored] = []
    for place in range(6):
        for number in range(count):
            story = Story()
            story.planned()
            story.decided()
            story.begun()
            story.answered()
            story.ended()
            item = story.items[place]
            head = msgspec.structs.replace(item.record.header, task_id=f"t{number}")
            record = msgspec.structs.replace(item.record, header=head)
            found.append(Stored(place * count + number + 1, subjects.of(record), item.time, record))
    return found


@given(count=st.integers(1, 5), most=st.integers(1, 40), start=st.integers(0, 29), twice=st.integers(0, 29))
async def test_what_is_held_or_read_again_gives_the_same_spans(count: int, most: int, start: int, twice: int) -> None:
    items = _stories(count)
    all_held, few_held = Held(Kept(items)), Held(Kept(items), most)
    wanted = {item.seq: completed(await all_held.take(item)) for item in items}
    for item in items[min(start, len(items) - 1) :]:
        assert completed(await few_held.take(item)) == wanted[item.seq]
    again = items[min(twice, len(items) - 1)]
    assert completed(await few_held.take(again)) == wanted[again.seq]


async def test_tasks_that_are_held_need_no_look_at_the_journal_and_are_bare_of_content() -> None:
    items = _stories(3)
    journal = Kept(items)
    held = Held(journal)
    for item in items:
        taken = await held.take(item)
        assert taken[-1] == bare(item)
    assert journal.asked == 0
    context = bare(Stored(1, "s", AT, samples.context(data={"secret": "PLANTED"})))
    assert b"PLANTED" not in msgspec.json.encode(context.record)


def test_the_samples_are_of_the_kinds_that_are_told() -> None:
    """Every kind of record is either a span or the beginning of one."""
    for record in samples.one_of_each():
        item = Stored(1, subjects.of(record), AT, record)
        names = [span.name for span in completed([item])]
        assert bool(names) is (record.kind not in ("prompt", "effect"))


async def test_a_record_that_cannot_be_read_hides_no_other_of_its_task() -> None:
    items = _stories(1)
    journal = Kept(items)
    journal.messages[1] = dataclasses.replace(journal.messages[1], data=b"{}")
    assert readable(journal.messages[1]) is None
    assert readable(dataclasses.replace(journal.messages[2], subject="task.plan.x")) is None
    taken = await Held(journal).take(items[5])
    assert [item.seq for item in taken] == [1, 3, 4, 5, 6]


def test_times_and_numbers_that_no_process_of_ours_writes_are_sent_within_what_the_format_holds() -> None:
    whole = Span(
        trace="ab" * 16,
        id="cd" * 8,
        parent="",
        name="odd",
        start=datetime(9999, 1, 1),
        end=AT,
        writer="",
        attributes={"big": 1 << 80, "small": -(1 << 80)},
    )
    [sent] = _sent([whole])
    assert sent.start == sent.end == round(AT.timestamp() * 1e6) * 1000
    assert sent.attributes == {"big": (1 << 63) - 1, "small": -(1 << 63) + 1}


@given(st.lists(st.integers(0, (1 << 128) - 1), min_size=400, max_size=400, unique=True))
def test_a_share_of_the_traces_is_the_same_for_all_who_have_it(numbers: list[int]) -> None:
    traces = [f"{number:032x}" for number in numbers]
    few, many = ({trace for trace in traces if is_chosen(trace, share)} for share in (0.1, 0.5))
    assert few <= many
    assert all(is_chosen(trace, 1.0) for trace in traces)


def test_the_share_is_that_of_the_lower_half_of_the_id() -> None:
    assert is_chosen("f" * 16 + "0" * 16, 0.001) and not is_chosen("0" * 16 + "f" * 16, 0.999)
    assert is_chosen("0" * 16 + "7" + "f" * 15, 0.5) and not is_chosen("0" * 16 + "8" + "0" * 15, 0.5)
