"""The fold of records into statistics, over all histories."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.learner.counting import Key, Kind, Tally, counts_of, fold, hour_of, line
from mesh.experience import Experience
from mesh.records import Lesson, Outcome, OutcomeStatus
from tests.agents.learner.endings import header, outcome

START = datetime(2026, 1, 1, tzinfo=UTC)
TOOLS = st.lists(st.sampled_from(["shop.return", "shop.cancel", "notify"]), max_size=4)


def ended(
    status: OutcomeStatus, playbook: str, tools: list[str], ms: float | None, hours: int, left: Experience
) -> Outcome:
    """An outcome so many hours after the start."""
    made = outcome("task", status, playbook, tools, ms)
    head = msgspec.structs.replace(made.header, at=START + timedelta(hours=hours))
    return msgspec.structs.replace(made, header=head, experience=left)


def corrected(hours: int) -> Lesson:
    """A person's correction."""
    head = msgspec.structs.replace(header("task"), at=START + timedelta(hours=hours))
    return Lesson(header=head, name="c", playbook="retail.return", status="", tools=("notify",), correction="no")


EXPERIENCES = st.builds(
    Experience,
    entity_kind=st.sampled_from(["", "order"]),
    retried=TOOLS.map(tuple),
    doubted=TOOLS.map(tuple),
    erred=TOOLS.map(tuple),
    words=st.integers(0, 3),
    overrides=st.integers(0, 3),
    cost_micro_usd=st.integers(0, 10**9),
)
RECORDS = st.one_of(
    st.builds(
        ended,
        st.sampled_from(OutcomeStatus),
        st.sampled_from(["", "retail.return", "retail.cancel"]),
        TOOLS,
        st.one_of(st.none(), st.integers(0, 10**9).map(lambda us: us / 1000)),
        st.integers(0, 5),
        EXPERIENCES,
    ),
    st.builds(corrected, st.integers(0, 5)),
)


@given(st.lists(RECORDS, max_size=30), st.integers(0, 30))
def test_statistics_equal_a_refold_wherever_counting_stopped_and_in_any_order(
    found: list[Outcome | Lesson], cut: int
) -> None:
    first, rest = fold(found[:cut]), fold(reversed(found[cut:]))
    both = {key: first.get(key, Tally()) + rest.get(key, Tally()) for key in {*first, *rest}}
    assert both == fold(found)


@given(st.lists(RECORDS, max_size=30))
def test_every_outcome_counts_once_for_its_playbook_its_entity_and_each_tool(found: list[Outcome | Lesson]) -> None:
    sums: dict[tuple[Kind, str], Tally] = {}
    for key, tally in fold(found).items():
        sums[key.kind, key.name] = sums.get((key.kind, key.name), Tally()) + tally
    ends = [record for record in found if isinstance(record, Outcome)]
    for (kind, name), tally in sums.items():
        assert tally.tasks == sum(name in _names(kind, end) for end in ends)
    assert sum(tally.retries for (kind, _), tally in sums.items() if kind is Kind.TOOL) == sum(
        len(end.experience.retried) for end in ends
    )


def _names(kind: Kind, end: Outcome) -> tuple[str, ...]:
    """What an outcome counts for."""
    match kind:
        case Kind.PLAYBOOK:
            return (end.playbook,)
        case Kind.TOOL:
            return end.tools
        case Kind.ENTITY:
            return (f"retail.{end.experience.entity_kind}",)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_mean_and_maximum_are_exact_to_the_microsecond(durations_us: list[int]) -> None:
    endings = [outcome("task", tools=(), ms=us / 1000) for us in durations_us]
    (tally,) = fold(endings).values()
    assert (tally.timed, tally.total_us, tally.max_us) == (len(durations_us), sum(durations_us), max(durations_us))
    assert tally.mean_ms == sum(durations_us) / len(durations_us) / 1000


def test_a_tool_used_twice_in_a_plan_counts_once_and_its_retries_each() -> None:
    left = Experience(retried=("notify", "notify"), overrides=2)
    end = msgspec.structs.replace(outcome("task", tools=("notify", "notify")), experience=left)
    hour = hour_of(end.header.at)
    found = dict(counts_of(end))
    assert list(found) == [Key(Kind.PLAYBOOK, "retail.return", hour), Key(Kind.TOOL, "notify", hour)]
    shown = line(Kind.TOOL, "notify", found[Key(Kind.TOOL, "notify", hour)])
    assert (shown.tasks, shown.retries, shown.overridden, shown.success_rate) == (1, 2, 1, 1.0)
