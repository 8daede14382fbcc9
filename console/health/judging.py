"""What is wrong with a state, and how to mend it: pure.

The rule: a failure is something that loses work, stops it, or lets the wrong one in; all else that needs a look is a
warning.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from console.health.state import HubLine, StageLine, State
from mesh.link import NEVER_S
from mesh.records import Struct
from mesh.settings import Settings
from mesh.site import INTAKE, MODEL, ROLES, TRACER

Verdict = Literal["ok", "warn", "fail"]

SERVER_MIN = (2, 12)
"""Atomic batches, which group commit needs, came with this nats-server."""
_AHEAD_WARN_S, _AHEAD_FAIL_S = 1.0, 60.0  # a statement of a person lives 300 s, a permit an hour
_OLD_S = 60.0
_AUDIT_BEHIND = 3  # checkpoints' worth of time
_FULL_WARN, _FULL_FAIL = 0.8, 0.95


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at: how it is, and what to do where it is not well."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def judge(state: State, settings: Settings) -> Iterator[Check]:
    """Everything that the bus tells."""
    yield _server(state)
    yield _clock(state)
    yield _streams(state)
    yield _storage(state)
    yield _processes(state, settings)
    yield from _stages(state)
    yield _people(state)
    yield _quarantine(state)
    yield from _acts(state)
    yield _audit(state, settings)
    if state.hub is not None:
        yield _hub(state.hub)


def _server(state: State) -> Check:
    parts = tuple(int(part) for part in state.server.split(".")[:2])
    if parts < SERVER_MIN:
        least = ".".join(map(str, SERVER_MIN))
        return fail("server", f"nats-server {state.server}", f"run nats-server {least} or later: it has atomic batches")
    return ok("server", f"nats-server {state.server}")


def _clock(state: State) -> Check:
    ahead = abs(state.ahead_s)
    said = f"{ahead:.2f} s {'ahead of' if state.ahead_s > 0 else 'behind'} the bus"
    mend = "have both hosts set their clocks by NTP: permits, approvals and acts of governance go by them"
    if ahead > _AHEAD_FAIL_S:
        return fail("clock", said, mend)
    return warn("clock", said, mend) if ahead > _AHEAD_WARN_S else ok("clock", said)


def _streams(state: State) -> Check:
    if state.missing:
        return fail("streams", f"missing: {', '.join(state.missing)}", "`workmesh up` makes them, or your admin does")
    down = [f"{each.name} on {', '.join(each.down)}" for each in state.streams if each.down]
    if down:
        return warn("streams", f"copies away or behind: {'; '.join(down)}", "start these servers, and wait for them")
    return ok("streams", f"{len(state.streams)} streams and buckets")


def _storage(state: State) -> Check:
    full = [(state.storage, state.storage_max, "the bus's disk")]
    full += [(each.bytes, each.max_bytes, f"stream {each.name}") for each in state.streams]
    for used, most, what in full:
        share = used / most if most > 0 else 0.0
        if share > _FULL_WARN:
            mend = "raise the limit, free disk, or shorten the ages in [bus]: a full stream takes nothing more"
            said = f"{what} is {share:.0%} full ({used / 1e9:.2f} of {most / 1e9:.2f} GB)"
            return fail("space", said, mend) if share > _FULL_FAIL else warn("space", said, mend)
    limit = f" of {state.storage_max / 1e9:.1f} GB" if state.storage_max > 0 else ""
    return ok("space", f"the bus holds {state.storage / 1e9:.2f} GB{limit}")


def _processes(state: State, settings: Settings) -> Check:
    wanted = [
        *ROLES,
        *([MODEL] if settings.models.is_on(os.environ) else []),
        *([INTAKE] if settings.intake.is_on else []),
        *([TRACER] if settings.traces.is_on(os.environ) else []),
    ]
    living = {each.role for each in state.processes}
    missing = [role for role in wanted if role not in living]
    if missing:
        mend = f"start it (`workmesh run {missing[0]}`), and look at its log in {settings.state_dir / 'logs'}"
        return fail("processes", f"none of {', '.join(missing)} lives", mend)
    return ok("processes", f"{len(state.processes)} live, of {len(living)} roles")


def _stages(state: State) -> Iterator[Check]:
    late = [each for each in state.stages if each.oldest_s > _OLD_S and not state.halts]
    for each in late:
        mend = f"look at the log of {each.stage}, and whether it is short of processor: more copies share its work"
        yield warn("lag", _line(each), mend)
    if not late:
        yield ok("lag", f"{sum(each.waiting + each.in_hand for each in state.stages)} inputs wait or are in hand")


def _line(each: StageLine) -> str:
    return f"{each.stage}: {each.waiting} wait, {each.in_hand} in hand, the oldest for {each.oldest_s:.0f} s"


def _people(state: State) -> Check:
    people = state.people
    if people is None:
        return fail("approvals", "no policy process answers", "start one: `workmesh run policy`")
    said = f"{people.approvals} plans and {people.in_doubt} effects in doubt wait for people"
    if people.in_doubt:
        return warn("approvals", said, "find out whether they happened, then `workmesh tasks settle TASK`")
    if people.overdue:
        return warn("approvals", f"{said}, {people.overdue} for too long", "`workmesh approvals list`")
    return ok("approvals", said)


def _quarantine(state: State) -> Check:
    if not state.quarantine:
        return ok("quarantine", "empty")
    return warn("quarantine", f"{state.quarantine} items", "`workmesh quarantine list`, mend, then release or leave")


def _acts(state: State) -> Iterator[Check]:
    if state.halts:
        yield warn("paused", "; ".join(state.halts), "`workmesh resume` with the same scope")
    else:
        yield ok("paused", "nothing")
    if state.restored:
        said = f"from the backup of {state.restored}: targets are asked before the first call of each effect"
        yield warn("restored", said, "once nothing from after it can come again: `workmesh restore --over --key KEY`")


def _audit(state: State, settings: Settings) -> Check:
    audit = state.audit
    if audit.problems:
        return fail("audit", f"{audit.problems} problems on record", "`workmesh audit status`, then `audit verify`")
    if not audit.signed_at:
        return warn("audit", "nothing is signed yet", "wait for the first checkpoint, or start `workmesh run auditor`")
    age_s = (state.at - datetime.fromisoformat(audit.signed_at)).total_seconds()
    said = f"{audit.behind} records wait for a signature, the last one was {age_s:.0f} s ago"
    if audit.behind and age_s > _AUDIT_BEHIND * settings.audit.checkpoint_s:
        return warn("audit", said, "look at the log of the auditor, and whether it runs")
    return ok("audit", said)


def _hub(hub: HubLine) -> Check:
    said = line_of_hub(hub)
    if hub.silent_s >= NEVER_S:
        mend = "start `workmesh bus uplink`, with a key that is enrolled here with the role uplink"
        return warn("hub", said, mend)
    if hub.silent_s > _OLD_S:
        return warn("hub", said, "look whether `workmesh bus uplink` runs and reaches the hub; the site works on")
    if hub.problem:
        return warn("hub", said, "look at the log of the uplink; a bundle is to be sent anew from the hub")
    return ok("hub", said)


def line_of_hub(hub: HubLine) -> str:
    """The hub in words."""
    if hub.silent_s >= NEVER_S:
        return "never heard"
    line = f"heard {hub.silent_s} s ago, {hub.up} records were not there and {hub.down} messages of it not here"
    return f"{line}; not taken: {hub.problem}" if hub.problem else line


def ok(name: str, found: str) -> Check:
    """It is well."""
    return Check(name=name, verdict="ok", found=found)


def warn(name: str, found: str, mend: str) -> Check:
    """Somebody should look at it."""
    return Check(name=name, verdict="warn", found=found, mend=mend)


def fail(name: str, found: str, mend: str) -> Check:
    """Work is lost, stopped, or open to the wrong one."""
    return Check(name=name, verdict="fail", found=found, mend=mend)
