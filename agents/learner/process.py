"""The learner process: the stage that writes lessons, the book beside it, and the service for people."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, cast

import structlog

from agents.learner.book import Book
from agents.learner.corrections import Corrections
from agents.learner.drifting import Drifts
from agents.learner.knowing import Knowing
from agents.learner.proposals import LISTED_MAX, Proposals
from agents.learner.proposing import Learning
from agents.learner.shadow import Shadow
from mesh.approvals import Nothing
from mesh.backlog import Backlog
from mesh.control import controlling
from mesh.corrections import CorrectRequest
from mesh.errors import RetryableError, SignatureError, TerminalError
from mesh.learned import LEARNED, PROPOSALS, LearnRequest, ProposalLine, ProposalRequest
from mesh.lifetime import background
from mesh.parameters import read_declared
from mesh.process import opened
from mesh.projection import following
from mesh.service import Offered, Verb, described, serving
from mesh.settings import Settings
from mesh.statistics import DriftLine, StatLine, WindowRequest

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Learn until asked to stop."""
    async with opened(settings, "learner") as process:
        controls = await process.exit.enter_async_context(
            controlling(process.bus, settings.root_key(), LEARNED, PROPOSALS)
        )
        declared = {name: read_declared(pack.playbooks) for name, pack in process.packs.items()}
        book = Book(process.bus, process.folder / "book.db")
        drifts = Drifts(process.bus, process.folder / "drift.db")
        process.exit.callback(book.close)
        process.exit.callback(drifts.close)
        proposals = Proposals(process.bus, controls, process.committer, declared, process.identity, process.trust)
        shadow = Shadow(process.journal)
        learning = Learning(process.bus, book, shadow, proposals, declared, settings.learner)
        corrections = Corrections(process.journal, proposals, process.writer)
        async with AsyncExitStack() as stack:
            for projection in (*book.projections, *drifts.projections):
                await stack.enter_async_context(following(projection))
            verbs = _verbs(book, drifts, proposals, learning, corrections)
            await stack.enter_async_context(serving(process.bus, "learner", verbs))
            await stack.enter_async_context(background(Backlog(process.bus).run(), "backlog"))
            looking = _again_and_again(learning, settings.learner.every_s)
            await stack.enter_async_context(background(looking, "looking"))
            await process.run_stage(Knowing(process.bus, process.journal, process.packs).learn)


def _verbs(
    book: Book, drifts: Drifts, proposals: Proposals, learning: Learning, corrections: Corrections
) -> Mapping[str, tuple[type, Verb]]:
    """What people ask of the service: each verb with its request."""

    async def stats(request: WindowRequest) -> list[StatLine]:
        await asyncio.gather(*(projection.fresh() for projection in book.projections))
        return book.lines(request)

    async def drift(_: Nothing) -> list[DriftLine]:
        return drifts.lines()

    async def list_(_: Nothing) -> list[ProposalLine]:
        await proposals.refresh()
        return [proposals.line(item, learning.watch) for item in reversed(proposals.standing()[-LISTED_MAX:])]

    async def show(request: ProposalRequest) -> ProposalLine:
        await proposals.refresh()
        return proposals.line(proposals.find(request.proposal), learning.watch)

    async def say(request: LearnRequest) -> ProposalLine:
        return proposals.line(await proposals.take(request), learning.watch)

    return {
        "correct": (CorrectRequest, corrections.correct),
        "stats": (WindowRequest, stats),
        "drift": (Nothing, drift),
        "list": (Nothing, list_),
        "show": (ProposalRequest, show),
        "say": (LearnRequest, say),
    }


def offered() -> Offered:
    """What the service answers, read from its functions: the classes stand for what is opened when it runs."""
    opening = (cast(Any, each) for each in (Book, Drifts, Proposals, Learning, Corrections))
    return described(_verbs(*opening))


async def _again_and_again(learning: Learning, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await learning.look()
        except (RetryableError, TerminalError, SignatureError) as error:
            log.warning("learning_waits", error=str(error))
