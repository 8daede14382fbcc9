"""From an event to a plan, to what policy says of it, to the registry: with a registry that runs."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from agents.planner.planning import Inputs, make_plan
from agents.planner.playbook import choose
from mesh.canonical import digest_bytes
from mesh.errors import NotSentError, RetryableError, ToolRefusedError, UncertainError
from mesh.records import Call, Plan, Step, Understood, Verdict
from mesh.tools import ToolCall
from packs.outbreak.applied import registry_log
from packs.outbreak.consensus import again
from packs.outbreak.judging import Judged
from packs.outbreak.pack import OutbreakOptions, connect, pack
from packs.outbreak.registry.faults import Faults
from packs.outbreak.tools import REGISTRY
from packs.outbreak.weeks import week_name, week_number
from packs.outbreak.wire import Answer
from tests.packs.outbreak.conftest import StartRegistry
from tests.packs.outbreak.office import (
    accept,
    args_of,
    assessed,
    carry_out,
    event,
    number,
    plan_for,
    playbooks,
    rejected,
    with_args,
)

REPORTED, CORRECTED, CLOSED = "outbreak.counts.reported", "outbreak.counts.corrected", "outbreak.week.closed"
ABOUT = {"place": "kaohsiung", "disease": "dengue", "week": "2014-W22"}
BOTH = frozenset({"epidemiologist", "duty_officer"})
Systems = Mapping[str, Any]


async def told(systems: Systems, week: str, count: int, **more: Any) -> None:
    """A number comes in and is taken."""
    context = accept(event(REPORTED, number(week=week, count=count, **more), f"/sources/{more.get('source', 'cdc')}"))
    plan = await plan_for(context, systems)
    assert (await assessed(context, plan, systems)).verdict is Verdict.ALLOW
    keyed = tuple(msgspec.structs.replace(step, effect_key=f"{week}-{count}-{more}") for step in plan.steps)
    await carry_out(msgspec.structs.replace(plan, steps=keyed), systems)


async def spring(systems: Systems, last: int = 8) -> None:
    """The numbers of spring 2014, up to the first week of the outbreak."""
    for week in range(week_number("2014-W18"), week_number("2014-W22")):
        await told(systems, week_name(week), 0)
    await told(systems, "2014-W22", last)


async def judged(systems: Systems, **data: Any) -> Plan:
    return await plan_for(accept(event(CLOSED, ABOUT | data, "/office")), systems)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": -1},
        {"count": "8"},
        {"count": 1.5},
        {"document": "sha256:short"},
        {"row": ""},
        {"week": "2014-W53"},
        {"received": "2014-02-30"},
        {"place": "Kaohsiung; DROP TABLE claim"},
    ],
)
def test_what_is_no_number_with_provenance_is_no_event(wrong: dict[str, Any]) -> None:
    assert rejected(REPORTED, number() | wrong)


async def test_an_alert_is_proposed_when_detectors_agree_and_waits_for_two_people(systems: Systems) -> None:
    await spring(systems)
    context = accept(event(CLOSED, ABOUT, "/office"))
    plan = await plan_for(context, systems)
    (step,) = plan.steps
    assert (step.call.tool, args_of(step)["alert"]) == ("outbreak.publish", "kaohsiung.dengue.2014-W22")
    waits = await assessed(context, plan, systems)
    assert (waits.verdict, waits.steps[0].roles) == (Verdict.NEEDS_APPROVAL, ("duty_officer", "epidemiologist"))
    assert (await assessed(context, plan, systems, frozenset({"epidemiologist"}))).verdict is Verdict.NEEDS_APPROVAL
    assert (await assessed(context, plan, systems, BOTH)).verdict is Verdict.ALLOW


async def test_the_plan_holds_all_that_the_verdict_rests_on(systems: Systems) -> None:
    await spring(systems)
    plan = await judged(systems)
    (reading,) = plan.readings
    found = msgspec.json.decode(reading.answer, type=Judged)
    assert found.assessment is not None and again(found.assessment) == found.assessment
    assert found.assessment.counts[-5:] == (0, 0, 0, 0, 8)
    # The planner makes the same plan from the journal alone: no registry, no detector is asked.
    context = accept(event(CLOSED, ABOUT, "/office"))
    inputs = Inputs(context, plan.readings)
    playbook = choose(playbooks(), CLOSED, inputs.variables)
    assert make_plan(playbook, inputs, plan.header).digest == plan.digest


async def test_without_consensus_nothing_is_proposed_and_the_verdict_is_told(systems: Systems) -> None:
    await spring(systems, last=2)
    plan = await judged(systems)
    assert plan.steps == ()
    assert plan.refusal.startswith("no consensus (0 families see an alarm, 3 must")


async def test_a_number_that_changed_since_denies_the_alert_even_with_both_approvals(systems: Systems) -> None:
    await spring(systems)
    context = accept(event(CLOSED, ABOUT, "/office"))
    plan = await plan_for(context, systems)
    await told(systems, "2014-W22", 8, source="kaohsiung-health", row="the same number, by another source")
    said = await assessed(context, plan, systems, BOTH)
    assert (said.verdict, said.steps[0].policies[0]) == (Verdict.DENY, "verdict.as-judged")
    with pytest.raises(ToolRefusedError, match="have changed since"):
        await carry_out(plan, systems, "ann", "bob")


@pytest.mark.parametrize(
    "lie",
    [
        {"count": 80},
        {"verdict": "everybody agrees"},
        {"families": ["bayes", "cumulative", "regression", "report", "window"]},
        {"quorum": 2},
        {"series": digest_bytes(b"")},
        {"week": "2014-W21", "alert": "kaohsiung.dengue.2014-W21"},
        {"place": "tainan", "alert": "tainan.dengue.2014-W22"},
        {"alert": "kaohsiung.dengue.2014-W23"},
    ],
)
async def test_what_a_plan_says_beyond_the_registrys_numbers_is_denied(systems: Systems, lie: dict[str, Any]) -> None:
    await spring(systems)
    context = accept(event(CLOSED, ABOUT, "/office"))
    plan = with_args(await plan_for(context, systems), **lie)
    assert (await assessed(context, plan, systems, BOTH)).verdict is Verdict.DENY


async def test_readings_that_were_polished_are_denied(systems: Systems) -> None:
    await spring(systems)
    context = accept(event(CLOSED, ABOUT, "/office"))
    plan = await plan_for(context, systems)
    readings = args_of(plan.steps[0])["readings"]
    readings[3]["value"] += 1
    assert (await assessed(context, with_args(plan, readings=readings), systems, BOTH)).verdict is Verdict.DENY


async def test_a_contested_number_goes_to_a_person_who_may_choose_the_other_one(systems: Systems) -> None:
    await spring(systems)
    await told(systems, "2014-W22", 11, source="kaohsiung-health")
    context = accept(event(CLOSED, ABOUT, "/office"))
    plan = await plan_for(context, systems)
    (step,) = plan.steps
    assert (step.call.tool, args_of(step)["source"]) == ("outbreak.settle", "kaohsiung-health")
    assert "cdc says 8" in args_of(step)["reason"]
    person = frozenset({"epidemiologist"})
    for source in ("kaohsiung-health", "cdc"):
        chosen = with_args(plan, source=source)
        assert (await assessed(context, chosen, systems)).verdict is Verdict.NEEDS_APPROVAL
        assert (await assessed(context, chosen, systems, person)).verdict is Verdict.ALLOW
    invented = with_args(plan, revision=2)
    assert (await assessed(context, invented, systems, person)).verdict is Verdict.DENY


async def test_a_corrected_alert_is_judged_again_and_upheld_or_withdrawn_by_a_person(systems: Systems) -> None:
    await spring(systems)
    await carry_out(await judged(systems), systems, "ann", "bob")
    fix = number(week="2014-W22", count=9, document=digest_bytes(b"2"), replaces=1, reason="one came late")
    await carry_out(await plan_for(accept(event(CORRECTED, fix)), systems), systems)
    context = accept(event(CLOSED, ABOUT, "/office", "again"))
    upheld = await plan_for(context, systems)
    assert [step.call.tool for step in upheld.steps] == ["outbreak.uphold"]
    assert (await assessed(context, upheld, systems)).verdict is Verdict.ALLOW
    fix = number(week="2014-W22", count=0, document=digest_bytes(b"3"), replaces=1, reason="a typing error")
    wrong = await plan_for(accept(event(CORRECTED, fix | {"replaces": 3})), systems)
    assert wrong.refusal == "revision 2 of cdc stands for 2014-W22, not 3"
    await carry_out(await plan_for(accept(event(CORRECTED, fix | {"replaces": 2}, event_id="e3")), systems), systems)
    withdrawn = await plan_for(context, systems)
    assert [step.call.tool for step in withdrawn.steps] == ["outbreak.withdraw"]
    assert (await assessed(context, withdrawn, systems)).verdict is Verdict.NEEDS_APPROVAL
    assert (await assessed(context, withdrawn, systems, frozenset({"epidemiologist"}))).verdict is Verdict.ALLOW
    await carry_out(withdrawn, systems, "ann")
    assert (await judged(systems)).refusal.startswith("the alert of 2014-W22 was withdrawn")


async def test_an_alert_covers_the_weeks_after_it(systems: Systems) -> None:
    await spring(systems)
    await carry_out(await judged(systems), systems, "ann", "bob")
    await told(systems, "2014-W23", 25)
    plan = await judged(systems, week="2014-W23")
    assert plan.refusal.startswith("the alert kaohsiung.dengue.2014-W22 covers this week: consensus")


@pytest.mark.parametrize(
    ("wrong", "channel", "policy"),
    [
        ({"source": "nobody"}, "/sources/nobody", "source.known"),
        ({}, "/sources/unknown", "source.channel"),
        ({"count": 6000}, "/sources/cdc", "number.range"),
        ({"week": "2014-W40"}, "/sources/cdc", "number.time"),
    ],
)
async def test_a_number_that_cannot_be_is_denied(
    systems: Systems, wrong: dict[str, Any], channel: str, policy: str
) -> None:
    context = accept(event(REPORTED, number(count=3) | wrong, channel))
    said = await assessed(context, await plan_for(context, systems), systems)
    assert (said.verdict, policy in said.steps[0].policies) == (Verdict.DENY, True)


async def test_what_was_read_in_a_bulletin_counts_as_far_as_it_stands_there(systems: Systems) -> None:
    text = "Dengue in Kaohsiung is rising: 12 cases."
    head = {"source": "cdc", "bulletin": "B-1", "week": "2014-W22", "document": digest_bytes(text.encode())}
    context = accept(event("outbreak.bulletin.received", head | {"text": text}))
    read = head | {"text": text, "place": "kaohsiung", "disease": "dengue", "signal": "rise"}

    async def verdict(**other: Any) -> Verdict:
        said = msgspec.Raw(msgspec.json.encode(read | {"quote": "Dengue in Kaohsiung is rising"} | other))
        understood = Understood(event_type="outbreak.bulletin.read", data=said)
        inputs = Inputs(context, understood=understood)
        plan = make_plan(choose(playbooks(), inputs.event_type, inputs.variables), inputs, context.header)
        return (await assessed(context, plan, systems)).verdict

    assert await verdict() is Verdict.ALLOW
    for lie in ({"place": "tainan"}, {"quote": "120 cases"}, {"week": "2014-W23"}, {"source": "kaohsiung-health"}):
        assert await verdict(**lie) is Verdict.DENY, lie
    assert await verdict(text="Dengue in Tainan", place="tainan") is Verdict.DENY


async def test_while_the_registry_is_away_nothing_is_decided_and_nothing_was_sent() -> None:
    async with connect(OutbreakOptions(registry_url="http://127.0.0.1:9")) as systems:
        with pytest.raises(NotSentError):
            await plan_for(accept(event(CLOSED, ABOUT, "/office")), systems)
        context = accept(event(REPORTED, number()))
        args = msgspec.Raw(msgspec.json.encode(number()))
        step = Step(id="record", call=Call(tool="outbreak.record", args=args), effect_key="k")
        plan = Plan(header=context.header, playbook="", playbook_digest="", digest="", steps=(step,))
        with pytest.raises(RetryableError):
            await pack.facts(context, plan, step, systems)


async def test_a_registry_that_dies_after_its_commit_has_done_it_once(start_registry: StartRegistry) -> None:
    process = start_registry(faults=Faults(crash_after_commit=1))
    tool = next(tool for tool in pack.tools(OutbreakOptions()) if tool.name == "outbreak.record")
    call = ToolCall("wm-t-record", 1, 4_000_000_000.0, "", None)
    async with connect(OutbreakOptions(registry_url=process.url)) as systems:
        with pytest.raises(UncertainError, match="got no answer"):
            await tool.run(tool.parse(msgspec.Raw(msgspec.json.encode(number()))), _with(call, systems))
    process.wait()
    async with connect(OutbreakOptions(registry_url=start_registry().url)) as systems:
        answer = await tool.run(tool.parse(msgspec.Raw(msgspec.json.encode(number()))), _with(call, systems))
        assert isinstance(answer, Answer) and answer.replayed and tool.verify is not None
        found = await tool.verify(tool.parse(msgspec.Raw(msgspec.json.encode(number()))), _with(call, systems))
        assert isinstance(found, Answer) and found.seq == answer.seq


def _with(call: ToolCall, systems: Systems) -> ToolCall:
    return ToolCall(call.key, call.epoch, call.call_by, call.traceparent, systems["registry"])


async def test_the_registrys_log_is_read_to_its_end(systems: Systems) -> None:
    assert (await registry_log(systems[REGISTRY], "")).changes == []
    await told(systems, "2014-W18", 3)
    page = await registry_log(systems[REGISTRY], "")
    assert [each.key for each in page.changes] == ["2014-W18-3-{}"]
    assert (await registry_log(systems[REGISTRY], page.cursor)).changes == []
