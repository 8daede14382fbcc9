"""The provider behind the HTTP server: takes prompts up, answers them from the script, and bills them.

The rule: a prompt is billed when its answer is made, whether or not anybody still listens.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from mesh.scripted.asked import Asked, InvalidRequest, read
from mesh.scripted.batches import Batches
from mesh.scripted.cache import InputTokens, PromptCache
from mesh.scripted.calls import Call
from mesh.scripted.conversations import Conversation, Turn
from mesh.scripted.limits import RateLimits
from mesh.scripted.replies import Refused, Reply, error_body, reply
from mesh.scripted.script import Script

Listens = Callable[[], Awaitable[bool]]
"""Whether the client still waits for its answer."""

Elsewhere = Callable[[], Awaitable[Conversation]]
"""Asks a prompt that no conversation answers somewhere else."""

_USER_BEGINS = 200


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How the provider serves. ``api_key`` "" takes any; ``models`` () serves every name.

    The rates are a minute's; ``batch_s`` is how long an item of a batch takes, if its turn does not say,
    ``batch_expires_s`` how long a batch may; ``cache_min_tokens`` the shortest prefix that is cached.
    """

    api_key: str = ""
    models: tuple[str, ...] = ()
    requests: int = 1_000_000
    tokens: int = 1_000_000_000
    cache_min_tokens: int = 1024
    batch_s: float = 0.1
    batch_expires_s: float = 86_400.0


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What is put on the wire: a message, a body that is no JSON, or, dropped, as much of it as ``drop`` says."""

    message: dict[str, Any] = {}
    malformed: str = ""
    drop: Literal["", "before", "after", "midway"] = ""
    stream: bool = False


class Provider:
    """One provider: its script, cache, limits, batches and invoice."""

    def __init__(self, terms: Terms, clock: Callable[[], float]) -> None:
        self.terms = terms
        self.script = Script()
        self.limits = RateLimits(terms.requests, terms.tokens, clock)
        self.batches = Batches(clock, self._take_up_item, terms.batch_expires_s)
        self.closing = asyncio.Event()
        self._clock = clock
        self._cache = PromptCache(clock, terms.cache_min_tokens)
        self._calls: list[Call] = []
        self.traceparents: list[str] = []  # of each request to a model, in order
        self._named: dict[str, int] = {}
        self._learning: dict[str, asyncio.Lock] = {}

    def name(self, kind: str) -> str:
        """A fresh id of this kind, the same in every run."""
        self._named[kind] = self._named.get(kind, 0) + 1
        return f"{kind}_scripted_{self._named[kind]:06}"

    def calls(self) -> list[Call]:
        """The invoice up to now."""
        self._calls += self.batches.due()
        return self._calls

    def read(self, body: object, *, counting: bool = False) -> Asked:
        """A prompt, checked; raises ``Refused``."""
        try:
            asked = read(body, counting=counting)
        except InvalidRequest as error:
            raise Refused(400, str(error)) from error
        if self.terms.models and asked.model not in self.terms.models:
            raise Refused(404, f"model: {asked.model}")
        return asked

    async def answer(
        self, asked: Asked, request_id: str, listens: Listens, elsewhere: Elsewhere | None = None
    ) -> Answered:
        """Answer a prompt; raises ``Refused``. Each way it ends is on the invoice."""
        conversation, turn = None, None
        try:
            if wait_s := self.limits.take(self._cache.look(asked).whole):
                raise Refused(429, "This request would exceed the rate limit of this server.", wait_s)
            if elsewhere:
                await self._learn(asked, elsewhere)
            conversation, turn = self.script.next(asked)
            return await self._say(asked, conversation, turn, request_id, listens)
        except Refused as error:
            title = conversation.conversation if conversation else ""
            self._calls.append(self._call(asked, title, request_id, status=error.status, answered=True))
            raise

    async def _learn(self, asked: Asked, elsewhere: Elsewhere) -> None:
        """Ask elsewhere what is not known; who asks the same meanwhile waits for that answer."""
        async with self._learning.setdefault(asked.segments[-1].digest, asyncio.Lock()):
            if not self.script.has(asked):
                self.script.add([await elsewhere()])

    async def _say(
        self, asked: Asked, conversation: Conversation, turn: Turn, request_id: str, listens: Listens
    ) -> Answered:
        title = conversation.conversation
        taken = _as_recorded(turn) or self._cache.look(asked)
        if turn.disconnect == "before":
            self._calls.append(self._call(asked, title, request_id, status=0))
            return Answered(drop="before")
        await self.think(turn.delay_s)
        if turn.status:
            raise Refused(turn.status, turn.error, turn.retry_after)
        said = reply(_spoken(turn), asked, self.name("toolu"), title)
        self._cache.put(asked)
        answered = turn.disconnect is None and await listens()
        call = self._call(asked, title, request_id, status=0 if turn.disconnect else 200, answered=answered)
        self._calls.append(msgspec.structs.replace(_billed(call, taken, said), took_s=turn.took_s))
        if turn.malformed:
            return Answered(malformed=turn.malformed)
        message = said.body(asked, self.name("msg"), taken, "standard")
        return Answered(message=message, drop=turn.disconnect or "", stream=asked.stream)

    async def think(self, delay_s: float) -> None:
        """Wait so long; raises ``Refused`` (503) when the server ends first."""
        if delay_s:
            try:
                await asyncio.wait_for(self.closing.wait(), delay_s)
            except TimeoutError:
                return
            raise Refused(503, "The server is going down")

    def _take_up_item(self, batch_id: str, custom_id: str, params: object) -> tuple[float, dict[str, Any], Call]:
        """An item of a batch: the seconds it takes, its result, and its line on the invoice."""
        request_id = self.name("req")
        blank = Call(
            model="", conversation="", status=400, billed=False, answered=True, user="", request_id=request_id,
            at=self._clock(), service="batch", custom_id=custom_id, batch=batch_id,
        )  # fmt: skip
        turn = None
        try:
            asked = self.read(params)
            blank = msgspec.structs.replace(blank, model=asked.model, user=asked.user[:_USER_BEGINS])
            conversation, turn = self.script.next(asked)
            blank = msgspec.structs.replace(blank, conversation=conversation.conversation, status=200)
            if turn.is_fault or turn.malformed:
                raise Refused(turn.status or 500, turn.error)
            said = reply(turn, asked, self.name("toolu"), conversation.conversation)
            taken = _as_recorded(turn) or self._cache.look(asked)
        except Refused as error:
            failed = {"type": "errored", "error": error_body(error.status, str(error), request_id)}
            seconds = (turn.delay_s if turn else 0.0) or self.terms.batch_s
            return seconds, failed, msgspec.structs.replace(blank, status=error.status)
        self._cache.put(asked)
        message = said.body(asked, self.name("msg"), taken, "batch")
        result = {"type": "succeeded", "message": message}
        return turn.delay_s or self.terms.batch_s, result, _billed(blank, taken, said)

    def _call(self, asked: Asked, title: str, request_id: str, *, status: int, answered: bool = False) -> Call:
        return Call(
            model=asked.model,
            conversation=title,
            status=status,
            billed=False,
            answered=answered,
            user=asked.user[:_USER_BEGINS],
            request_id=request_id,
            at=self._clock(),
        )


def _spoken(turn: Turn) -> Turn:
    """What the model made: where nobody was meant to see it, a word."""
    return (
        turn if turn.answer is not msgspec.UNSET or turn.text or turn.refusal else Turn(text=turn.malformed or "lost")
    )


def _as_recorded(turn: Turn) -> InputTokens | None:
    if (tokens := turn.tokens) is None:
        return None
    return InputTokens(whole=tokens.input, read=tokens.cache_read, written=tokens.cache_write)


def _billed(call: Call, taken: InputTokens, said: Reply) -> Call:
    return msgspec.structs.replace(
        call,
        billed=True,
        tokens_in=taken.whole,
        tokens_out=said.tokens_out,
        tokens_cached=taken.read,
        tokens_written=taken.written,
        tokens_written_1h=taken.hour,
        stop_reason=said.stop_reason,
    )
