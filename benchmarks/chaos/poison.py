"""Poison beside good work: events and records that nobody can read, and handlers that always fail or hang.

The rule: each is set aside by the stage that met it, with a reason that says what it is; the good tasks complete.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.events import SOURCE
from benchmarks.chaos.evidence import Accepted, Evidence, Verdict
from benchmarks.chaos.saga.pack import FAILS, HANGS
from benchmarks.chaos.site import Ground, SiteSpec, ground_in, until
from benchmarks.chaos.trial import HIT_S, Load, Trial
from console.publish import publish_lines
from mesh import records, subjects
from mesh.bus import StoredMessage, connect
from mesh.clock import now
from mesh.quarantine import Reason
from mesh.records import SCHEMA_VERSION
from mesh.site import Site

_LOAD = Load(events=(10, 10))
_ATTEMPTS = 3
_HANG_S = 2.0
_ENV = {
    "WORKMESH_RUNTIME__MAX_ATTEMPTS": str(_ATTEMPTS),
    "WORKMESH_RUNTIME__HANDLER_TIMEOUT_S": str(_HANG_S),
}
_DATA = {"user_id": "u_1", "order_id": "#W0000000", "address1": "1", "address2": "", "city": "c", "country": "USA"} | {
    "state": "OR",
    "zip": "1",
}
_GARBAGE = b"\x00\xffthis was a record once"


class _Poisoned(Trial):
    """What is not among the good events is poison: it is counted apart, by who set it aside and why."""

    async def evidence(self) -> Evidence:
        return replace(await super().evidence(), quarantined=())

    def accepted(self, message: StoredMessage) -> Accepted | None:
        return super().accepted(message) if self.is_own(message) else None


async def poison(bench: Bench) -> Verdict:
    """Poison goes in first, so that it is in the way of the good work behind it."""
    await bench.sites.close()
    async with ground_in(bench.folder / "site", SiteSpec(), env=_ENV) as ground:
        await ground.ready()
        trial = await _Poisoned.begin(ground, bench.folder.name, bench.draw, _LOAD)
        await trial.work()
        newer = await _newer_record(ground, trial)
        trial.fault_at = now()
        lines = _events()
        async for _ in publish_lines(ground.committer, lines):
            pass
        await _write(ground, {**_corrupt(), **newer})
        await trial.work()
        verdict = await trial.settle()
        aside = await trial.set_aside()
    met = Counter((item.stage, item.reason) for item in aside)
    expected = _expected()
    problems = list(verdict.problems)
    if met != expected:
        problems.append(f"set aside were {_told(met)}, not {_told(expected)}")
    if any(not item.detail for item in aside):
        problems.append("an item says nothing of its reason")
    if not aside:
        raise NotHitError("nothing was set aside")
    return replace(verdict, problems=tuple(problems), notes=(f"set aside: {_told(met)}",))


def _expected() -> Counter[tuple[str, Reason]]:
    """Who must have set aside what: each input its own item."""
    return Counter(
        {
            ("perception", Reason.MALFORMED): 3,
            ("perception", Reason.UNKNOWN_TYPE): 2,
            ("planner", Reason.DEAD_LETTER): 2,
            ("policy", Reason.DEAD_LETTER): 3,
            ("executor", Reason.DEAD_LETTER): 1,
            ("learner", Reason.DEAD_LETTER): 1,
        }
    )


def _events() -> list[bytes]:
    """Three malformed, two of unknown types, and one each whose handling fails and hangs."""
    return [
        _GARBAGE,
        b'{"specversion": "1.0", "id": "cut off',
        _event("no-data", "retail.cancel.requested", {"order_id": 7}),
        _event("unknown-type", "retail.no-such.requested", {}),
        _event("unknown-domain", "nowhere.thing.happened", {}),
        _event("fails", FAILS, _DATA),
        _event("hangs", HANGS, _DATA),
    ]


def _event(name: str, kind: str, data: Mapping[str, object]) -> bytes:
    found = {"specversion": "1.0", "id": f"poison-{name}", "source": SOURCE, "type": kind, "data": data}
    return msgspec.json.encode({**found, "subject": f"poison-{name}"})


def _corrupt() -> dict[str, tuple[str, bytes]]:
    """Subjects of the journal where garbage will stand, and the role that may write there."""
    roles = {"context": "perception", "plan": "planner", "decision": "policy", "outcome": "executor"}
    return {subjects.record(kind, "retail", f"poison{kind}", "-"): (role, _GARBAGE) for kind, role in roles.items()}


async def _newer_record(ground: Ground, trial: Trial) -> dict[str, tuple[str, bytes]]:
    """A context as a newer version of the product may write it."""

    async def contexts() -> list[StoredMessage]:
        return [item for item in await trial.journal() if item.subject.startswith("task.context.")]

    async def is_there() -> bool:
        return bool(await contexts())

    await until(is_there, HIT_S, "a context is in the journal")
    record = records.decode((await contexts())[0].data)
    header = msgspec.structs.replace(record.header, v=SCHEMA_VERSION + 1, task_id="poisonnewer")
    data = records.encode(msgspec.structs.replace(record, header=header))
    return {subjects.record("context", header.domain, header.task_id, "-"): ("perception", data)}


async def _write(ground: Ground, found: Mapping[str, tuple[str, bytes]]) -> None:
    """Put these into the journal, each under the key of a role that may."""
    site = Site(ground.settings)
    for subject, (role, data) in found.items():
        options = site.identity(role).nats_options()
        async with connect(ground.running.url, name=f"{role}/chaos", options=options) as bus:
            await bus.request(subject, data)


def _told(found: Counter[tuple[str, Reason]]) -> str:
    return ", ".join(f"{count} {reason} by {stage}" for (stage, reason), count in sorted(found.items()))
