"""A business system and the network before it: calls arrive late, or not at all, and their answers get lost.

It has one tool for each kind of recovery, once with a target that refuses calls after their deadline and once without.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from mesh import notices
from mesh.errors import NotSentError, ToolRefusedError, UncertainError
from mesh.tools import Recovery, Tool, ToolCall
from tests.agents.executor.simulated_journal import LOST, Point
from tests.agents.executor.virtual_time import CLOCK

TIMEOUT_S = 5.0
SETTLE_S = 0.25
TOOLS: Mapping[str, tuple[Recovery, bool]] = {
    f"{'strict' if strict else 'lax'}.{recovery}": (recovery, strict)
    for recovery in Recovery
    for strict in (True, False)
}
# What the runtime calls by itself, and no plan does.
_ALL = {**TOOLS, notices.TOOL: (Recovery.IDEMPOTENT, False)}


class NoArgs(msgspec.Struct, frozen=True):
    """A tool without arguments."""


class Receipt(msgspec.Struct, frozen=True):
    """What a target answers."""

    key: str


Answer = Receipt | NotSentError | ToolRefusedError


@dataclass(eq=False)
class Sent:
    """A call in the network."""

    key: str
    epoch: int
    call_by: float
    tool: str
    process: int
    reply: asyncio.Future[Receipt]
    answer: Answer | None = None
    is_gone: bool = False

    @property
    def recovery(self) -> Recovery:
        """What its tool declares."""
        return _ALL[self.tool][0]

    @property
    def may_arrive(self) -> bool:
        """Whether it can still take effect."""
        return not self.is_gone and CLOCK.seconds <= self.call_by + SETTLE_S


@dataclass
class Target:
    """The world outside: what took effect there, under which key."""

    sent: list[Sent] = field(default_factory=list)
    applied: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    on_sent: Callable[[Sent], None] = lambda sent: None
    on_applied: Callable[[str], None] = lambda key: None

    def under_way(self, process: int | None = None) -> list[Sent]:
        """The calls that may arrive, or whose caller still waits."""
        return [
            sent for sent in self.sent if process in (None, sent.process) and (sent.may_arrive or not sent.reply.done())
        ]

    def arrives(self, sent: Sent, *, refuse: bool = False) -> None:
        """The call reaches the target, which does it, refuses it, or knows its key."""
        if not sent.may_arrive:
            return
        sent.is_gone = True
        recovery, strict = _ALL[sent.tool]
        if strict and CLOCK.seconds >= sent.call_by:
            sent.answer = NotSentError("it came too late")
        elif recovery is Recovery.IDEMPOTENT and sent.key in self.applied:
            sent.answer = Receipt(sent.key)
        elif refuse or (recovery is Recovery.IDEMPOTENT and sent.key in self.refused):
            self.refused.add(sent.key)
            sent.answer = ToolRefusedError("refused", "the target will not")
        else:
            self.applied[sent.key] = self.applied.get(sent.key, 0) + 1
            sent.answer = Receipt(sent.key)
            self.on_applied(sent.key)

    def replies(self, sent: Sent, *, lost: bool = False) -> None:
        """The answer reaches the caller, or its connection breaks; a call that did not arrive was not sent."""
        if sent.reply.done():
            return
        if lost:
            sent.reply.set_exception(UncertainError("the connection broke"))
        elif sent.answer is None:
            sent.is_gone = True
            sent.reply.set_exception(NotSentError("no connection"))
        elif isinstance(sent.answer, Receipt):
            sent.reply.set_result(sent.answer)
        else:
            sent.reply.set_exception(sent.answer)


@dataclass
class Line:
    """One process's connection to the target."""

    target: Target
    process: int
    point: Point

    async def call(self, tool: str, call: ToolCall) -> Receipt:
        """Send a call, not after its time, and wait for the answer."""
        if CLOCK.read() >= call.call_by:
            raise NotSentError("the time to send is over")
        reply: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        sent = Sent(call.key, call.epoch, call.call_by, tool, self.process, reply)
        self.target.sent.append(sent)
        self.target.on_sent(sent)
        return await reply

    async def verify(self, key: str) -> Receipt | None:
        """What came of a key."""
        if await self.point("verify") == LOST:
            raise NotSentError("no answer")
        return Receipt(key) if self.target.applied.get(key) else None


def tools() -> dict[str, Tool]:
    """All tools, each with its own breaker."""
    return {name: _tool(name, recovery) for name, (recovery, _) in TOOLS.items()}


def notice_tools() -> dict[str, Tool]:
    """The tool that tells people."""
    return {notices.TOOL: replace(_tool(notices.TOOL, Recovery.IDEMPOTENT), args=notices.NoticeArgs)}


def _tool(name: str, recovery: Recovery) -> Tool:
    async def run(_: NoArgs, call: ToolCall) -> Receipt:
        line: Line = call.system
        return await line.call(name, call)

    async def verify(_: Any, call: ToolCall) -> Receipt | None:
        line: Line = call.system
        return await line.verify(call.key)

    return Tool(
        name=name,
        args=NoArgs,
        run=run,
        recovery=recovery,
        verify=verify if recovery is Recovery.VERIFIABLE else None,
        target=name,
        timeout_s=TIMEOUT_S,
        settle_s=SETTLE_S,
    )
