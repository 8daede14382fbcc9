"""Memory over the bus: facts remembered and recalled through the service, each write on disk before its answer.

Server, service and caller share this machine; service and caller are one process. Without vectors: those follow behind.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.recall import documents, question, rss_mb, spread
from memory_service.process import remembering
from memory_service.retrieval.documents import Document
from memory_service.view import FactView
from mesh import service, streams
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.facts import Claim, Scope, Source
from mesh.identity import Identity
from mesh.journal import committing
from mesh.memory import Question, RecallAnswer, RecallRequest, RememberAnswer, RememberRequest
from mesh.permissions import BusUser
from mesh.service import serving
from mesh.trust import TrustDirectory

Figures = dict[str, Any]

SCOPE = Scope(domain="bench")
CLAIMS = 64  # of one request
_AT_ONCE = 4
_RECALLS = 300
_ROLES = ("admin", "memory", "operator")


async def facts(folder: Path, count: int, say: Callable[[str], None]) -> Figures:
    """Remember so many facts, a batch a request and then one a request; recall them by subject and by words."""
    rng = random.Random(5)
    made = list(documents(count, rng))
    claims = [_claim(document) for document in made]
    alone = [_claim(document, f"alone/{number}") for number, document in enumerate(made[: max(count // 20, 50)])]
    async with _memory(folder) as (bus, view):
        say(f"memory: remembering {count} facts over the bus")
        batches = [claims[start : start + CLAIMS] for start in range(0, len(claims), CLAIMS)]
        in_batches = len(claims) / await _timed([_remember(bus, batch) for batch in batches], _AT_ONCE)
        one_by_one = len(alone) / await _timed([_remember(bus, [claim]) for claim in alone], CLAIMS)
        say("memory: recalling over the bus")
        subjects = [Question(scope=SCOPE, subject=rng.choice(made).subject) for _ in range(_RECALLS)]
        words = [Question(scope=SCOPE, query=question(rng)) for _ in range(_RECALLS)]
        return {
            "facts": view.counts()[0],
            "writes_per_s": round(in_batches),
            "writes_per_s_one_a_request": round(one_by_one),
            "by_subject": await _recalls(bus, subjects),
            "by_words": await _recalls(bus, words),
            "rss_mb": rss_mb(),
            "database_mb": round((folder / "facts.db").stat().st_size / 1e6),
        }


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[tuple[Bus, FactView]]:
    """A server of its own, a running memory, and a caller's connection."""
    keys = {role: Identity.create(folder / "keys" / f"{role}.nk", role) for role in _ROLES}
    users = [BusUser(key.public_key, (role,)) for role, key in keys.items()]
    async with EmbeddedNats(folder / "nats", users) as server, AsyncExitStack() as stack:

        async def opened(role: str) -> Bus:
            options = keys[role].nats_options()
            return await stack.enter_async_context(connect(server.url, name=role, options=options))

        specs = streams.stream_specs({}, {})
        await streams.ensure(await opened("admin"), specs, replicas=1, ack_wait_s=2, max_ack_pending=4096)
        bus = await opened("memory")
        committer = await stack.enter_async_context(committing(bus))
        view = FactView(bus, folder / "facts.db")
        trust = TrustDirectory(keys["admin"].public_key)
        memory = await stack.enter_async_context(remembering(bus, committer, trust, view))
        await view.projection.caught_up.wait()
        await stack.enter_async_context(serving(bus, "memory", memory.verbs()))
        yield await opened("operator"), view


def _claim(document: Document, subject: str = "") -> Claim:
    return Claim(
        scope=SCOPE,
        subject=subject or document.subject,
        predicate=f"{document.predicate} {document.id}",
        value=msgspec.Raw(msgspec.json.encode(document.text)),
        text=document.text,
        source=Source(uri=f"bench:{document.id}"),
    )


async def _remember(bus: Bus, claims: Sequence[Claim]) -> None:
    request = RememberRequest(claims=tuple(claims), by="bench")
    await service.ask(bus, "memory", "remember", request, RememberAnswer, 30)


async def _timed(work: Sequence[Awaitable[None]], at_once: int) -> float:
    slots = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[None]) -> None:
        async with slots:
            await item

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for item in work:
            group.create_task(one(item))
    return time.perf_counter() - started


async def _recalls(bus: Bus, questions: Sequence[Question]) -> Figures:
    taken, found = [], 0
    for asked in questions:
        started = time.perf_counter()
        answer = await service.ask(bus, "memory", "recall", RecallRequest(questions=(asked,)), RecallAnswer, 30)
        taken.append((time.perf_counter() - started) * 1000)
        found += len(answer.facts[0])
    return {**spread(taken), "found": round(found / len(questions), 1)}
