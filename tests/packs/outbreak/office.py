"""What the outbreak tests share: events as contexts, plans as the planner makes them, and what policy says of them."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from agents.planner.planning import Inputs, make_plan
from agents.planner.playbook import Playbook, choose, load_playbooks
from mesh.admission import Accepted, Rejected, read
from mesh.canonical import digest_bytes
from mesh.clock import now
from mesh.records import Call, Causation, Context, Event, Header, Plan, Reading, Step
from mesh.toolbox import Toolbox
from mesh.tools import ToolCall
from packs.outbreak.pack import OutbreakOptions, pack, tools
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Assessment, Circumstances, assess

SAMPLE = Path(pack.playbooks).parent / "sample"
DOCUMENT = digest_bytes(b"weekly report")


def number(place: str = "kaohsiung", week: str = "2014-W18", count: int = 0, **more: Any) -> dict[str, Any]:
    """A number with its provenance."""
    data = {"place": place, "disease": "dengue", "week": week, "count": count, "source": "cdc", "document": DOCUMENT}
    return data | {"row": f"/{place}/dengue", "received": "2014-07-07"} | more


def event(kind: str, data: Mapping[str, Any], source: str = "/sources/cdc", event_id: str = "e1") -> dict[str, Any]:
    """A CloudEvent."""
    return {"specversion": "1.0", "id": event_id, "source": source, "type": kind, "subject": "s", "data": dict(data)}


def rejected(kind: str, data: Mapping[str, Any]) -> str:
    """Why perception does not take such an event."""
    found = read(msgspec.json.encode(event(kind, data)), {}, {"outbreak": pack})
    assert isinstance(found, Rejected), found
    return found.detail


def accept(happened: Mapping[str, Any]) -> Context:
    """The context that perception writes for an event."""
    accepted = read(msgspec.json.encode(happened), {}, {"outbreak": pack})
    assert isinstance(accepted, Accepted), accepted
    stored = Event(
        id=accepted.event.id,
        source=accepted.event.source,
        type=accepted.event.type,
        time=accepted.event.time,
        digest=accepted.digest,
        seq=1,
        accepted_at=now(),
        subject=accepted.event.subject,
    )
    return Context(
        header=_header(accepted.task_id),
        event=stored,
        data=accepted.event.data,
        entity=accepted.entity,
        taint=accepted.kind.taint,
    )


def _header(task_id: str) -> Header:
    causation = Causation(stream="EVENTS", subject="event.outbreak.test", seq=1)
    return Header(task_id=task_id, domain="outbreak", causation=causation, writer="test/1", at=now())


@cache
def playbooks() -> tuple[Playbook, ...]:
    """The pack's playbooks."""
    return load_playbooks(pack.playbooks, {tool.name: tool for tool in tools(OutbreakOptions())})


@cache
def bundle() -> Bundle:
    """The pack's policies."""
    return Bundle.load(BundleContents.read(pack.policies, "outbreak"))


async def plan_for(context: Context, systems: Mapping[str, Any]) -> Plan:
    """The plan that the planner makes, with readings made now."""
    inputs = Inputs(context)
    playbook = choose(playbooks(), context.event.type, inputs.variables)
    assert playbook is not None
    box, readings = Toolbox({tool.name: tool for tool in tools(OutbreakOptions())}, systems), []
    for name, invocation in playbook.reads:
        args = invocation.arguments(inputs.variables)
        tool = box.find(invocation.tool)
        answer = await box.call(tool, args, key="read", epoch=0, call_by=time.time() + tool.timeout_s)
        readings.append(Reading(name=name, call=Call(tool=invocation.tool, args=args), answer=answer))
    return make_plan(playbook, Inputs(context, tuple(readings)), _header(context.header.task_id))


async def assessed(
    context: Context, plan: Plan, systems: Mapping[str, Any], approvals: frozenset[str] = frozenset()
) -> Assessment:
    """What policy says of a plan, on facts read now."""
    sheets = {step.id: await pack.facts(context, plan, step, systems) for step in plan.steps}
    return assess(bundle(), context, plan, sheets, approvals, Circumstances(at=datetime(2026, 1, 2, tzinfo=UTC)))


async def carry_out(plan: Plan, systems: Mapping[str, Any], *people: str) -> list[Any]:
    """What the executor does with a permitted plan; its answers."""
    found = []
    for step in plan.steps:
        tool = next(tool for tool in tools(OutbreakOptions()) if tool.name == step.call.tool)
        call = ToolCall(step.effect_key, 1, time.time() + 10, "", systems[tool.target], people)
        found.append(await tool.run(tool.parse(step.call.args), call))
    return found


def args_of(step: Step) -> dict[str, Any]:
    """A step's arguments."""
    return msgspec.json.decode(step.call.args, type=dict[str, Any])


def with_args(plan: Plan, **changed: Any) -> Plan:
    """The plan with other arguments in its only step."""
    (step,) = plan.steps
    call = Call(tool=step.call.tool, args=msgspec.Raw(msgspec.json.encode(args_of(step) | changed)))
    return msgspec.structs.replace(plan, steps=(msgspec.structs.replace(step, call=call),))
