"""A task of the simulated executors: its plan, its decisions (genuine and not), a person's words, their signers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import nkeys

from mesh.canonical import effect_key
from mesh.identity import Identity
from mesh.plans import plan_digest
from mesh.records import (
    Approval,
    Call,
    Causation,
    Context,
    Decision,
    Event,
    Header,
    Obligation,
    Permit,
    Phase,
    Plan,
    Purpose,
    Statement,
    Step,
    Verdict,
    Word,
)
from mesh.signing import PERMIT_TYPE, STATEMENT_TYPE, TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry
from tests.agents.executor.simulated_executor import DOMAIN
from tests.agents.executor.virtual_time import CLOCK

TASK = "t1"
BUNDLE = "sha256:bundle"
PERMIT_S = 30.0
# What can be wrong with a decision, as a change of its permit; and another signer.
FLAWS: dict[str, dict[str, Any]] = {
    "verdict": {"verdict": Verdict.NEEDS_APPROVAL},
    "task": {"task_id": "t2"},
    "plan": {"plan_digest": "sha256:other"},
    "steps": {"steps": ("other",)},
    "bundle": {"bundle": "sha256:old"},
    "expired": {},
    "signer": {},
    "obligation": {"obligations": (Obligation(name="sing", value="a song"),)},
}


@dataclass(frozen=True)
class StepSketch:
    """A step in few words: its tool, the tool that undoes it, whether it may fail, whether it needs the one before.

    Of one with ``notify`` somebody must be told.
    """

    tool: str
    undo: str
    optional: bool
    needs: bool
    notify: bool = False


@cache
def identity(name: str) -> Identity:
    """A key that is the same at each run."""
    return Identity(name, Path(), nkeys.encode_seed(name.encode().ljust(32, b"."), nkeys.PREFIX_BYTE_USER))


@cache
def trust() -> TrustDirectory:
    """Policy and one person are enrolled."""
    root = identity("root")
    found = TrustDirectory(root.public_key)
    for name, kind, roles in (("policy", "agent", ("policy",)), ("olga", "person", ("operator",))):
        key = identity(name).public_key
        entry = {"name": name, "public_key": key, "kind": kind, "roles": roles, "enrolled_at": "2025-01-01T00:00:00Z"}
        found.apply(sign(msgspec.convert(entry, TrustEntry), TRUST_TYPE, root))
    return found


def header() -> Header:
    """The header of a record that a stage before the executor wrote."""
    causation = Causation(stream="EVENTS", subject="event.till.x", seq=1)
    return Header(task_id=TASK, domain=DOMAIN, causation=causation, writer="test", at=CLOCK.now())


def context() -> Context:
    """The task's context."""
    event = Event(id="e", source="s", type="till.x", time=None, digest="", seq=1, accepted_at=CLOCK.now())
    return Context(header=header(), event=event, data=msgspec.Raw(b"{}"), entity="e")


def plan(sketches: Sequence[StepSketch]) -> Plan:
    """A sound plan of these steps, named a, b, c."""
    steps: list[Step] = []
    args = msgspec.Raw(b"{}")
    for name, sketch in zip("abcd", sketches, strict=False):
        needs = (steps[-1].id,) if steps and sketch.needs else ()
        steps.append(
            Step(
                id=name,
                call=Call(tool=sketch.tool, args=args),
                effect_key=effect_key(TASK, name),
                needs=needs,
                compensation=Call(tool=sketch.undo, args=args) if sketch.undo else None,
                optional=sketch.optional,
            )
        )
    digest = plan_digest(TASK, DOMAIN, steps)
    return Plan(header=header(), playbook="p", playbook_digest="", digest=digest, steps=tuple(steps))


def decision(of: Plan, phase: Phase, flaw: str = "", notified: Sequence[str] = ()) -> Decision:
    """The decision that lets the plan pass; or one that only looks so. Somebody is told of ``notified`` steps."""
    life = timedelta(seconds=-1 if flaw == "expired" else PERMIT_S)
    permit = Permit(
        id="permit",
        task_id=TASK,
        domain=DOMAIN,
        plan_digest=of.digest,
        verdict=Verdict.ALLOW,
        steps=tuple(step.id for step in of.steps),
        bundle=BUNDLE,
        approved_by=(),
        issued_at=CLOCK.now(),
        expires_at=CLOCK.now() + life,
        obligations=tuple(Obligation(name="notify", value="ann", step=step) for step in notified),
    )
    permit = msgspec.structs.replace(permit, **FLAWS.get(flaw, {}))
    return Decision(
        header=header(),
        phase=phase,
        verdict=Verdict.ALLOW,
        plan_digest=of.digest,
        bundle=BUNDLE,
        steps=(),
        signed=sign(permit, PERMIT_TYPE, identity("planner" if flaw == "signer" else "policy")),
    )


def word(of: Plan, step: str, *, happened: bool) -> Approval:
    """What a person says of an effect in doubt."""
    said = Statement(
        task_id=TASK,
        plan_digest=of.digest,
        purpose=Purpose.IN_DOUBT,
        word=Word.HAPPENED if happened else Word.NOT_HAPPENED,
        role="operator",
        person="olga",
        nonce="nonce",
        at=CLOCK.now(),
        expires_at=CLOCK.now() + timedelta(minutes=5),
        step=step,
    )
    return Approval(header=header(), statement=said, signed=sign(said, STATEMENT_TYPE, identity("olga")))
