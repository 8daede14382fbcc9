"""The graph of a task's records, and the table of tasks' states."""

from datetime import UTC, datetime

from console.web.graph import graph_of
from mesh.journal import Stored
from mesh.records import (
    AnyRecord,
    Causation,
    Context,
    Decision,
    Event,
    Header,
    Outcome,
    OutcomeStatus,
    Phase,
    Plan,
    Verdict,
)

AT = datetime(2026, 11, 23, tzinfo=UTC)


def head(stream: str, seq: int) -> Header:
    cause = Causation(stream=stream, subject="s", seq=seq)
    return Header(task_id="t", domain="d", causation=cause, writer="w/1", at=AT)


def records() -> list[Stored]:
    event = Event(id="e", source="s", type="d.x", time=None, digest="", seq=1, accepted_at=AT)
    plan = Plan(header=head("JOURNAL", 5), playbook="p" * 40, playbook_digest="", digest="")
    decision = Decision(
        header=head("JOURNAL", 7), phase=Phase.PROPOSE, verdict=Verdict.DENY, plan_digest="", bundle="", steps=()
    )
    found: tuple[AnyRecord, ...] = (
        Context(header=head("EVENTS", 1), event=event, data=b"{}", entity="e"),  # type: ignore[arg-type]
        plan,
        decision,
        Outcome(header=head("JOURNAL", 8), status=OutcomeStatus.DENIED),
        Outcome(header=head("JOURNAL", 5), status=OutcomeStatus.FAILED),
    )
    return [Stored(seq, "s", AT, record) for seq, record in zip((5, 7, 8, 9, 10), found, strict=True)]


def test_a_record_stands_right_of_the_one_that_led_to_it() -> None:
    graph = graph_of(records())
    columns = [node.x // (150 + 44) for node in graph.nodes]
    assert columns == [0, 1, 2, 3, 1]
    assert len(graph.edges) == 4
    assert len({(node.x, node.y) for node in graph.nodes}) == 5


def test_labels_are_short_and_tones_say_how_it_went() -> None:
    graph = graph_of(records())
    assert all(len(node.label) <= 21 for node in graph.nodes)
    assert [node.tone for node in graph.nodes] == ["plain", "plain", "bad", "bad", "bad"]
