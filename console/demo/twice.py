"""A demonstration that is run twice: what the first run taught, approved in between, and what the second gains."""

import asyncio
import statistics
from collections.abc import Iterable, Sequence

import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from console.demo.ledger import Ledger
from console.learn import say
from mesh import service
from mesh.approvals import Nothing
from mesh.bus import Bus
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from mesh.learned import APPROVER_ROLE, PLANNED, ProposalLine, ProposalState, Verdict
from mesh.records import Outcome, OutcomeStatus

log = structlog.get_logger(__name__)

_WAIT_S = 15.0
_SETTLE_S = 3.0  # after the first proposal: one look finds all that there are
_POLL_S = 0.3


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of the first run and of the second."""

    measure: str
    first: float
    second: float


def renamed(lines: Sequence[bytes], number: int) -> list[bytes]:
    """The same events as new ones, for run ``number`` on the same state; what cannot be read stays as it is."""
    return [_renamed(line, number) for line in lines] if number else list(lines)


def _renamed(line: bytes, number: int) -> bytes:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line
    if not isinstance(event, dict) or not isinstance(event.get("id"), str) or not event["id"]:
        return line
    return msgspec.json.encode(event | {"id": f"{event['id']}-run{number + 1}"})


async def approve_learned(bus: Bus, person: Identity) -> tuple[ProposalLine, ...]:
    """Approve what is proposed for the planner, as a person would with `workmesh learn approve`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _WAIT_S
    found: list[ProposalLine] = []
    while loop.time() < end:
        await asyncio.sleep(_POLL_S)
        try:
            lines = await service.ask(bus, "learner", "list", Nothing(), list[ProposalLine])
        except BusUnavailableError as error:
            log.info("learner_not_there", error=str(error))
            continue
        fresh = [
            line for line in lines if line.state is ProposalState.PROPOSED and line.proposal.change.kind in PLANNED
        ]
        if fresh and not found:
            end = min(end, loop.time() + _SETTLE_S)
        found = fresh
    approve = Verdict.APPROVE
    return tuple([await say(bus, person, line, approve, APPROVER_ROLE, "the demonstration") for line in found])


def gains(first: Ledger, second: Ledger) -> list[Gain]:
    """What has become of the measures from one run to the other."""
    before, after = list(first.outcomes.values()), list(second.outcomes.values())
    found = [
        Gain(measure=name, first=_count(before, status), second=_count(after, status))
        for name, status in (
            ("completed", OutcomeStatus.COMPLETED),
            ("denied by policy: planned in vain", OutcomeStatus.DENIED),
            ("refused by the planner itself", OutcomeStatus.REFUSED),
        )
    ]
    by_learning = sum(bool(outcome.experience.learned) for outcome in before)
    found.append(
        Gain(
            measure="planned under a learned change",
            first=by_learning,
            second=sum(bool(outcome.experience.learned) for outcome in after),
        )
    )
    return [*found, Gain(measure="median ms until a no", first=_no_ms(before), second=_no_ms(after))]


def show_gains(found: Iterable[Gain], learned: Sequence[ProposalLine], console: Console) -> None:
    """The table for people."""
    for line in learned:
        console.print(f"approved in between: {line.proposal.change.sentence()} ({line.id}): {line.proposal.gain}")
    if not learned:
        console.print("nothing was proposed: the first run taught nothing that convinces")
    table = Table("measure", "first run", "second run", title="What the second run gains")
    for gain in found:
        table.add_row(gain.measure, f"{gain.first:g}", f"{gain.second:g}")
    console.print(table)


def _count(outcomes: Iterable[Outcome], status: OutcomeStatus) -> int:
    return sum(outcome.status is status for outcome in outcomes)


def _no_ms(outcomes: Iterable[Outcome]) -> float:
    """From the acceptance of the event to the end, of what was denied or refused."""
    noes = (OutcomeStatus.DENIED, OutcomeStatus.REFUSED)
    times = [
        time.ms
        for outcome in outcomes
        if outcome.status in noes
        for time in outcome.times
        if time.stage == outcome.kind
    ]
    return round(statistics.median(times), 1) if times else 0.0
