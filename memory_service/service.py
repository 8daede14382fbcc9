"""The verbs of memory: checked, written to ``MEMORY``, answered from the view.

The rule: what was written can be recalled from this copy when the answer goes out; every answer has a bounded size.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from memory_service import checks, versions
from memory_service.requests import FactsPage, FactsRequest, HistoryRequest
from memory_service.store import Change, FactStore
from memory_service.view import FactView
from mesh import faultpoints
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.facts import FactEvent, ForgetRequest, RecalledFact, RecallRequest, RememberRequest
from mesh.service import Verb

S = TypeVar("S", bound=msgspec.Struct)

WRITE_LIMIT_S = 5.0  # callers wait 3 s; what comes later must not keep a slot for ever
ANSWER_BYTES = 512 * 1024  # half of the payload that a NATS server takes by default

_encode = msgspec.json.Encoder().encode


class Memory:
    """Remembers, recalls and forgets."""

    def __init__(self, store: FactStore, view: FactView, *, write_limit_s: float = WRITE_LIMIT_S) -> None:
        self._store = store
        self._view = view
        self._write_limit_s = write_limit_s

    def verbs(self) -> Mapping[str, tuple[type, Verb]]:
        """What the service answers."""
        return {
            "remember": (RememberRequest, self.remember),
            "recall": (RecallRequest, self.recall),
            "forget": (ForgetRequest, self.forget),
            "facts": (FactsRequest, self.facts),
            "history": (HistoryRequest, self.history),
        }

    async def remember(self, request: RememberRequest) -> FactEvent:
        """The version that stands afterwards; a repeated or stale request writes nothing."""
        checks.check_remember(request)
        return await self._write(request.scope, request.key, lambda last: versions.remembered(last, request, now()))

    async def forget(self, request: ForgetRequest) -> FactEvent:
        """The version that says it is forgotten; raises ``TerminalError`` for an unknown fact."""
        checks.check_forget(request)
        return await self._write(request.scope, request.key, lambda last: versions.forgotten(last, request, now()))

    async def recall(self, request: RecallRequest) -> tuple[RecalledFact, ...]:
        """Current facts: of one key, or the best for the words, or the newest."""
        checks.check_recall(request)
        if request.key:
            found = self._view.exact(request.scope, request.key, request.limit)
        elif request.query.strip():
            found = self._view.search(request.scope, request.query, request.limit)
        else:
            found = self._view.newest(request.scope, request.limit)
        return tuple(fitting(found))

    async def facts(self, request: FactsRequest) -> FactsPage:
        """A page of the current facts of a scope, with value and provenance."""
        checks.check_facts(request)
        found = self._view.page(request.scope, request.after, request.limit + 1)
        page = fitting(found[: request.limit])
        return FactsPage(facts=tuple(page), more=len(page) < len(found))

    async def history(self, request: HistoryRequest) -> tuple[FactEvent, ...]:
        """The versions of one fact, oldest first; raises ``TerminalError`` for an unknown fact."""
        checks.check_history(request)
        found = await self._store.history(request.scope, request.key, request.limit)
        if not found:
            raise TerminalError(f"no fact {request.key!r} in scope {request.scope!r}")
        return tuple(reversed(fitting(reversed(versions.told(found)))))

    async def _write(self, scope: str, key: str, change: Change) -> FactEvent:
        try:
            async with asyncio.timeout(self._write_limit_s):
                await faultpoints.reach("memory.before_commit")
                stands = await self._store.write(scope, key, change)
                await faultpoints.reach("memory.before_answer")
                if stands is None:
                    raise TerminalError(f"no fact {key!r} in scope {scope!r}")
                await self._view.projection.reached(stands.seq)
        except TimeoutError as error:
            raise BusUnavailableError(
                f"fact {key!r} of {scope!r} was not confirmed within {self._write_limit_s:g} s: "
                "it may be written; asking again is safe"
            ) from error
        return stands.fact


def fitting(items: Iterable[S]) -> list[S]:
    """The first items that fit into one answer; at least one."""
    found: list[S] = []
    size = 0
    for item in items:
        size += len(_encode(item))
        if found and size > ANSWER_BYTES:
            break
        found.append(item)
    return found
