"""Contexts and plans of the till, to decide on."""

from datetime import UTC, datetime

import msgspec

from mesh.plans import plan_digest
from mesh.records import Call, Causation, Context, Event, Header, Plan, Step


def context_of(data: bytes = b"{}", taint: tuple[str, ...] = ()) -> Context:
    """The context of a task with this data."""
    event = Event(
        id="1", source="/till", type="till.pay.requested", time=None, digest="", seq=1, accepted_at=datetime.now(UTC)
    )
    return Context(header=header(), event=event, data=msgspec.Raw(data), entity="till", taint=taint)


def header() -> Header:
    """A header; policy reads none of it."""
    causation = Causation(stream="EVENTS", subject="event.till.pay", seq=1)
    return Header(task_id="t", domain="till", causation=causation, writer="test", at=datetime.now(UTC))


def plan_of(*steps: Step, refusal: str = "") -> Plan:
    """A plan of these steps."""
    try:
        digest = plan_digest("t", "till", steps)
    except msgspec.DecodeError:  # arguments that are no JSON, which no record can hold
        digest = ""
    return Plan(header=header(), playbook="pay", playbook_digest="", digest=digest, steps=steps, refusal=refusal)


def step_of(name: str, tool: str = "till.pay", args: bytes = b"{}") -> Step:
    """A step that calls this tool."""
    return Step(id=name, call=Call(tool=tool, args=msgspec.Raw(args)), effect_key=f"wm-t-{name}")
