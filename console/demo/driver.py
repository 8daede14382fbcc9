"""Runs a demonstration: starts a site and the pack's systems, publishes, waits until all has come to something."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from console.demo.approver import approve_all
from console.demo.killer import Killer
from console.demo.ledger import Ledger
from console.demo.twice import approve_learned
from console.publish import Published, publish_lines
from console.up import Running, running, systems_env
from mesh.bus import Bus
from mesh.demo import Applied, Demo
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from mesh.journal import committing
from mesh.learned import APPROVER_ROLE, ProposalLine
from mesh.lifetime import end
from mesh.operator import operating
from mesh.records import Decision
from mesh.scripted.calls import Call
from mesh.scripted.server import Source, scripted_model
from mesh.settings import Settings, load

log = structlog.get_logger(__name__)

APPROVER = "demo-approver"
_OFTEN = {"WORKMESH_LEARNER__EVERY_S": "1"}  # a demonstration is over in seconds
# The key is for a server of our own; the pace is that of the demonstration, not of a provider.
_MODELS = {
    "WORKMESH_MODELS__USE": "yes",
    "WORKMESH_MODELS__REQUESTS_PER_MINUTE": "60000",
    "WORKMESH_MODELS__TOKENS_PER_MINUTE": "100000000",
    "ANTHROPIC_API_KEY": "scripted",
}
_POLL_S = 0.2
# Nothing has moved for this long: what is not settled is lost.
_STALLED_S = 60.0
# With kills: at least ten of them at 1 to 2 s each, so the events are spread over this many seconds.
_KILL_RUN_S = 22.0


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to run. ``number`` counts the runs on one folder from 0; ``learn`` approves what is proposed after it.

    With ``conversations`` models are asked: a server on loopback that says what these files say. ``env`` is added to
    the environment of the roles.
    """

    pack: str
    demo: Demo
    data: Path
    lines: list[bytes]
    approve: bool
    kill_seed: int | None = None
    faults: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    learn: bool = False
    conversations: Sequence[Source] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left: the ledger, what was published, what the systems say."""

    plan: DemoPlan
    ledger: Ledger
    lines: list[Published]
    applied: list[Applied]
    world: msgspec.Raw
    duration_s: float
    killer: Killer | None
    learned: tuple[ProposalLine, ...] = ()
    billed: Sequence[Call] = ()


Progress = Callable[[int, int, Running], None]


async def run_demo(plan: DemoPlan, folder: Path, progress: Progress) -> Run:
    """Run it with all state in ``folder``: that of the site is kept from run to run, the systems begin anew."""
    systems = plan.demo.systems(plan.data, systems_folder(folder, plan.number), plan.faults)
    settings = _settings(folder)
    async with AsyncExitStack() as stack:
        people = _people(folder, plan.demo.roles)
        person = next(iter(people))
        model, models = None, {}
        if plan.conversations:
            model = await stack.enter_async_context(scripted_model(plan.conversations))
            models = _MODELS | {"WORKMESH_MODELS__BASE_URL": model.url}
        site = await stack.enter_async_context(
            running(
                settings,
                env=systems_env(plan.pack, systems.options) | _OFTEN | models | dict(plan.env),
                extra=systems.children,
                people=people | {person: (*people[person], APPROVER_ROLE)},
            )
        )
        bus = await stack.enter_async_context(operating(settings))
        ledger = Ledger(bus)
        await ledger.skip()
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            helpers: list[asyncio.Task[None]] = []
            if plan.approve:
                helpers += [
                    group.create_task(approve_all(bus, each, roles), name="approver") for each, roles in people.items()
                ]
            killer = None
            if plan.kill_seed is not None:
                killer = Killer(site, plan.kill_seed)
                helpers.append(group.create_task(killer.run(), name="killer"))
            lines = await _publish_and_settle(plan, site, bus, ledger, helpers, progress)
            duration = time.monotonic() - started
            for helper in helpers:
                await end(helper)
        await site.supervisor.wait_ready(30)
        learned = await approve_learned(bus, person) if plan.learn else ()
        return Run(
            plan,
            ledger,
            lines,
            await plan.demo.applied(systems.options),
            await plan.demo.world(systems.options),
            duration,
            killer,
            learned,
            model.billed if model else (),
        )


async def _publish_and_settle(
    plan: DemoPlan,
    site: Running,
    bus: Bus,
    ledger: Ledger,
    helpers: list[asyncio.Task[None]],
    progress: Progress,
) -> list[Published]:
    rate = len(plan.lines) / _KILL_RUN_S if plan.kill_seed is not None else 0.0
    lines: list[Published] = []
    done = asyncio.Event()

    async def publish() -> None:
        async with committing(bus) as committer:
            async for item in publish_lines(committer, plan.lines, per_s=rate):
                lines.append(item)  # noqa: PERF401 - the list is read while it grows
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(publish(), name="publish")
        moved, count = time.monotonic(), -1
        while True:
            await asyncio.sleep(_POLL_S)
            settled = await _settled(plan, bus, ledger, lines)
            progress(min(settled, len(plan.lines)), len(plan.lines), site)
            if settled != count:
                moved, count = time.monotonic(), settled
            if done.is_set() and settled >= len(plan.lines):
                return sorted(lines, key=lambda line: line.line)
            if done.is_set() and helpers and helpers[-1].get_name() == "killer":
                # All is on the bus; what is under way may finish in peace, or the run would never end.
                helpers[-1].cancel()
            if time.monotonic() - moved > _STALLED_S:
                log.error("stalled", settled=settled, of=len(plan.lines))
                done.set()
                return sorted(lines, key=lambda line: line.line)


async def _settled(plan: DemoPlan, bus: Bus, ledger: Ledger, lines: list[Published]) -> int:
    """How many lines have come to something; with approvals, one that waits has not."""
    try:
        # Asked first: what perception had acknowledged by then is in the streams that are read next, if it is anywhere.
        unknown = [line for line in lines if not ledger.settled(line) and line.seq not in ledger.task_of]
        floor = await _perceived_up_to(bus) if unknown else 0
        await ledger.catch_up()
        waiting = set()
        if plan.approve:
            waiting = {task for task, decision in ledger.waits.items() if _is_for(decision, plan.demo.roles)}
        known = [line for line in lines if ledger.settled(line)]
        count = sum(ledger.task_of.get(line.seq) not in waiting for line in known)
        unknown = [line for line in lines if not ledger.settled(line) and line.seq not in ledger.task_of]
        return count + sum(line.seq <= floor for line in unknown)
    except BusUnavailableError:
        return -1


def _is_for(decision: Decision, roles: Collection[str]) -> bool:
    """Whether the plan waits for somebody of these roles."""
    return any(role.partition(":")[0] in roles for step in decision.steps for role in step.roles)


async def _perceived_up_to(bus: Bus) -> int:
    """The sequence up to which perception has acknowledged every event."""
    info = await bus.api("CONSUMER.INFO.EVENTS.perception")
    if "error" in info:
        raise BusUnavailableError(str(info["error"]))
    floor: int = info["ack_floor"]["stream_seq"]
    return floor


def systems_folder(folder: Path, number: int) -> Path:
    """Where the systems of a run keep their state."""
    return folder / (f"systems-{number + 1}" if number else "systems")


def _people(folder: Path, roles: Sequence[str]) -> dict[Identity, tuple[str, ...]]:
    """The approvers, one for each role: who must be two people is two."""
    names = [APPROVER, *(f"{APPROVER}-{number}" for number in range(2, len(roles) + 1))]
    return {_person(folder, name): tuple(roles[n : n + 1]) for n, name in enumerate(names)}


def _person(folder: Path, name: str) -> Identity:
    path = folder / "people" / f"{name}.nk"
    return Identity.load(path) if path.exists() else Identity.create(path, name)


def _settings(folder: Path) -> Settings:
    return load(None, {"WORKMESH_STATE_DIR": str(folder / "site")})
