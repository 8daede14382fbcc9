"""Velocity, revision rate and rework, from contexts and outcomes."""

from datetime import UTC, datetime, timedelta

import msgspec

from mesh.records import Causation, Context, Event, Header, Outcome, OutcomeStatus
from packs.content.measures import Measures, measure

START = datetime(2026, 11, 20, 8, tzinfo=UTC)


def task(
    kind: str, minute: int, *tools: str, slug: str = "lamp", ended: int = 0, status: str = "completed", **data: str
) -> tuple[Context, Outcome]:
    """A task whose event came in a minute, and which ended in another."""
    event = Event(
        id=f"{kind}{minute}",
        source="/studio",
        type=f"content.{kind}",
        time=None,
        digest="",
        seq=1,
        accepted_at=START + timedelta(minutes=minute),
        subject=f"article/{slug}",
    )

    def head(at: int) -> Header:
        causation = Causation(stream="EVENTS", subject="s", seq=1)
        return Header(
            task_id=f"{kind}{minute}",
            domain="content",
            causation=causation,
            writer="t/1",
            at=START + timedelta(minutes=at),
        )

    raw = msgspec.Raw(msgspec.json.encode({"slug": slug, **data}))
    context = Context(header=head(minute), event=event, data=raw, entity=f"article/{slug}")
    return context, Outcome(header=head(ended or minute), status=OutcomeStatus(status), tools=tools)


def test_nothing_is_measured_of_nothing() -> None:
    assert measure([]) == Measures()


def test_the_measures_of_two_articles() -> None:
    tasks = [
        task("brief.submitted", 0, "content.brief", "content.assign", "content.draft"),
        task("brief.submitted", 10, "content.brief", "content.assign", "content.draft", slug="chair"),
        task("edit.submitted", 11, "content.edit"),
        task("edit.submitted", 12, "content.merge"),
        task("review.given", 13, "content.review", verdict="changes"),
        task("review.given", 14, "content.review", verdict="approved"),
        task("publish.requested", 15, status="denied"),
        task("publish.requested", 16, "content.commit", "content.release", ended=20),
        task("publish.requested", 30, "content.commit", "content.release", slug="chair", ended=40),
        task("publish.requested", 50, "content.commit", "content.release", ended=55),
        task("correction.requested", 60, "content.correct"),
        task("message.received", 61, "content.draft"),
        task("takedown.requested", 62, "content.remove", "content.withdraw"),
    ]
    found = measure(tasks)
    assert found == measure(reversed(tasks))
    assert (found.briefs, found.published, found.refused_publications) == (2, 2, 1)
    assert (found.velocity_p50_s, found.velocity_max_s) == (25 * 60, 30 * 60)
    assert (found.revisions, found.revision_rate) == (3, 1.5)
    assert (found.changes_asked, found.merges, found.corrections, found.takedowns) == (1, 1, 1, 1)
    assert found.rework_rate == round(4 / 12, 3)
