"""Records of tasks that ended, for tests; written with the rights of the stages that write them."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agents.learner.book import Book
from agents.learner.proposals import Proposals
from mesh import subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Controls, controlling
from mesh.identity import Identity
from mesh.journal import Journal, Write, committing
from mesh.learned import LEARNED, PROPOSALS, Proposal
from mesh.parameters import Declared
from mesh.records import Call, Causation, Header, Outcome, OutcomeStatus, Plan, StageTime, Step
from mesh.trust import TrustDirectory, TrustEntry, enroll
from tests.memory_service.running_memory import Site


def header(task_id: str) -> Header:
    """The header of a record of a task."""
    return Header(
        task_id=task_id,
        domain="retail",
        causation=Causation(stream="JOURNAL", subject="task.result.retail.x.y", seq=1),
        writer="test/1",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def outcome(
    task_id: str,
    status: OutcomeStatus = OutcomeStatus.COMPLETED,
    playbook: str = "retail.return",
    tools: Sequence[str] = ("shop.return", "notify"),
    ms: float | None = 12.5,
) -> Outcome:
    """How a task ended."""
    times = () if ms is None else (StageTime(stage="plan", ms=1.0), StageTime(stage="outcome", ms=ms))
    return Outcome(header=header(task_id), status=status, playbook=playbook, tools=tuple(tools), times=times)


def plan(task_id: str, playbook: str = "retail.return") -> Plan:
    """What was planned for a task."""
    call = Call(tool="shop.return", args=msgspec.Raw(b"{}"))
    step = Step(id="return", call=call, effect_key=f"wm-{task_id}-return")
    return Plan(header=header(task_id), playbook=playbook, playbook_digest="", digest="", steps=(step,))


@asynccontextmanager
async def journal_of(site: Site, role: str) -> AsyncIterator[Journal]:
    """The journal as a stage of this role writes it."""
    async with site.bus(role) as bus, committing(bus) as committer:
        yield Journal(bus, committer)


async def end_tasks(site: Site, endings: Sequence[Outcome]) -> list[int]:
    """Commit these outcomes; their sequences."""
    async with journal_of(site, "executor") as journal:
        return [seq for ending in endings for seq in await journal.commit(Write(ending))]


async def plan_task(site: Site, task_id: str, playbook: str = "retail.return") -> None:
    """Commit the plan of a task."""
    async with journal_of(site, "planner") as journal:
        await journal.commit(Write(plan(task_id, playbook)))


@contextmanager
def opened_book(bus: Bus, folder: Path) -> Iterator[Book]:
    """The book of one copy of the learner, not yet followed."""
    book = Book(bus, folder / "book.db")
    try:
        yield book
    finally:
        book.close()


@asynccontextmanager
async def opened_proposals(
    site: Site, bus: Bus, declared: Mapping[str, Mapping[str, Declared]] | None = None
) -> AsyncIterator[Proposals]:
    """The proposals of one copy of the learner, whose key is enrolled."""
    root, signer = (Identity.load(site.folder / "keys" / f"{name}.nk") for name in ("admin", "learner"))
    async with site.bus("admin") as admin:
        bucket = await admin.client.jetstream().key_value(subjects.TRUST_BUCKET)
        key = signer.public_key
        entry = TrustEntry(name="learner", public_key=key, kind="agent", roles=("learner",), enrolled_at=now())
        await enroll(bucket, root, entry)
    async with committing(bus) as committer, controlling(bus, root.public_key, LEARNED, PROPOSALS) as controls:
        yield Proposals(bus, controls, committer, declared or {}, signer, TrustDirectory(root.public_key))


async def proposed(site: Site, bus: Bus) -> list[Proposal]:
    """What is proposed, as a process reads it that has just started."""
    controls = Controls(bus, Identity.load(site.folder / "keys" / "admin.nk").public_key, PROPOSALS)
    await controls.refresh()
    return [item.act.proposal for item in controls.standing(PROPOSALS)]
