"""Running tools: real functions whose calls are counted, and what is made again of each failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from mesh.errors import NotSentError, SettingsError, ToolRefusedError, UncertainError
from mesh.records import EMPTY_OBJECT, Json
from mesh.toolbox import Toolbox
from mesh.tools import Recovery, RetryPolicy, Tool, ToolCall
from tests.mesh.samples import json

RETRY = RetryPolicy(attempts=3, first_delay_s=0.001, max_delay_s=0.002)


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """What the tool takes."""

    cents: int = 0


class Answer(msgspec.Struct):
    """What the tool answers."""

    done: int


@dataclass
class Target:
    """A target that does what it is told to, call by call; the last one goes on."""

    script: list[BaseException | int] = field(default_factory=lambda: [1])
    calls: list[ToolCall] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event | None = None

    async def run(self, args: Args, call: ToolCall) -> Answer:
        """Answer, or fail, as the script says."""
        self.calls.append(call)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_once -= 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        return Answer(step)

    async def verify(self, args: Args, call: ToolCall) -> Answer | None:
        """As ``run``; an answer below zero says that the key never took effect."""
        answer = await self.run(args, call)
        return answer if answer.done >= 0 else None


def tool(system: Target, recovery: Recovery = Recovery.MANUAL, **changes: Any) -> Tool:
    """A tool on this target."""
    settings: dict[str, Any] = {"target": "shop", "retry": RETRY, "verify": system.verify, **changes}
    return Tool(name=settings.pop("name", "pay"), args=Args, run=system.run, recovery=recovery, **settings)


def toolbox(*tools: Tool) -> Toolbox:
    """A toolbox with these."""
    return Toolbox({each.name: each for each in tools}, {"shop": "the shop's client"})


async def call(made: Tool, box: Toolbox | None = None, args: Json = EMPTY_OBJECT, *, in_s: float = 5.0) -> Any:
    """The answer to one call whose time ends in so many seconds."""
    box = box or toolbox(made)
    raw = await box.call(made, args, key="wm-t1-s1", epoch=1, call_by=time.time() + in_s, trace="00-x")
    return msgspec.json.decode(raw)


async def test_the_function_gets_its_arguments_the_key_and_the_system_of_its_target() -> None:
    target = Target()
    assert await call(tool(target), args=json({"cents": 5})) == {"done": 1}
    (made,) = target.calls
    assert (made.key, made.epoch, made.traceparent, made.system) == ("wm-t1-s1", 1, "00-x", "the shop's client")
    assert 4 < made.call_by - time.time() <= 5


async def test_an_unknown_tool_is_refused_by_name() -> None:
    with pytest.raises(ToolRefusedError, match="no installed pack has a tool named fly") as caught:
        toolbox().find("fly")
    assert caught.value.code == "unknown_tool"
    made = tool(Target())
    assert toolbox(made).find("pay") is made


@pytest.mark.parametrize("args", [{"cents": "5"}, {"euros": 5}, [], None])
async def test_arguments_that_do_not_fit_are_refused_and_nothing_is_called(args: Any) -> None:
    target = Target()
    with pytest.raises(ToolRefusedError) as caught:
        await call(tool(target), args=json(args))
    assert caught.value.code == "invalid_arguments" and target.calls == []


@pytest.mark.parametrize("recovery", Recovery)
async def test_what_was_not_sent_is_sent_again_whatever_the_tool_declares(recovery: Recovery) -> None:
    target = Target([NotSentError("refused"), NotSentError("refused"), 7])
    assert await call(tool(target, recovery)) == {"done": 7}
    assert len(target.calls) == 3 and {each.key for each in target.calls} == {"wm-t1-s1"}


@pytest.mark.parametrize("recovery", [Recovery.VERIFIABLE, Recovery.MANUAL])
async def test_what_is_uncertain_is_not_made_again_blindly(recovery: Recovery) -> None:
    target = Target([UncertainError("connection lost")])
    with pytest.raises(UncertainError, match="connection lost"):
        await call(tool(target, recovery))
    assert len(target.calls) == 1


async def test_an_idempotent_tool_is_called_again_with_the_same_key_when_it_is_uncertain() -> None:
    target = Target([UncertainError("500"), 7])
    assert await call(tool(target, Recovery.IDEMPOTENT)) == {"done": 7}
    assert [each.key for each in target.calls] == ["wm-t1-s1"] * 2


async def test_a_tool_without_effect_is_called_again() -> None:
    target = Target([UncertainError("500"), 7])
    assert await call(tool(target, read_only=True)) == {"done": 7}


@pytest.mark.parametrize("recovery", Recovery)
async def test_a_refusal_is_final(recovery: Recovery) -> None:
    target = Target([ToolRefusedError("too_late", "shipped already"), 7])
    with pytest.raises(ToolRefusedError, match="shipped already"):
        await call(tool(target, recovery))
    assert len(target.calls) == 1


@pytest.mark.parametrize("recovery", Recovery)
async def test_attempts_end(recovery: Recovery) -> None:
    target = Target([NotSentError("refused")])
    with pytest.raises(NotSentError):
        await call(tool(target, recovery))
    assert len(target.calls) == 3


@pytest.mark.parametrize("last", [NotSentError("breaker"), ToolRefusedError("x", "exists already")])
async def test_once_uncertain_a_dispatch_stays_uncertain_until_it_is_answered(last: Exception) -> None:
    target = Target([UncertainError("time-out"), last])
    with pytest.raises(UncertainError):
        await call(tool(target, Recovery.IDEMPOTENT, retry=RetryPolicy(2, 0.001, 0.002)))
    assert len(target.calls) == 2


async def test_a_call_without_an_answer_in_time_is_uncertain() -> None:
    target = Target(gate=asyncio.Event())
    with pytest.raises(UncertainError, match=r"pay did not answer within 0\.05 s"):
        await call(tool(target, timeout_s=0.05))
    assert target.at_once == 0


async def test_nothing_is_called_after_the_time_to_call() -> None:
    target = Target()
    for recovery in Recovery:
        with pytest.raises(NotSentError, match="the time to call pay for wm-t1-s1 is over"):
            await call(tool(target, recovery), in_s=-0.001)
    assert target.calls == []


async def test_a_call_that_waited_for_its_turn_until_its_time_was_over_is_not_made() -> None:
    target = Target(gate=asyncio.Event())
    made = tool(target, concurrency=1, retry=RetryPolicy(attempts=1))
    box = toolbox(made)
    first = asyncio.create_task(call(made, box))
    while not target.calls:  # noqa: ASYNC110 - the call sets no event
        await asyncio.sleep(0)
    late = asyncio.create_task(call(made, box, in_s=0.05))
    await asyncio.wait([late], timeout=0.1)
    assert target.gate is not None
    target.gate.set()
    assert await first == {"done": 1}
    with pytest.raises(NotSentError, match="is over"):
        await late
    assert len(target.calls) == 1


async def test_a_call_is_cut_off_when_its_time_is_over() -> None:
    target = Target(gate=asyncio.Event())
    started = time.monotonic()
    with pytest.raises(UncertainError):
        await call(tool(target, timeout_s=10.0), in_s=0.05)
    assert time.monotonic() - started < 5 and target.at_once == 0


async def test_what_has_no_effect_may_be_read_at_any_time() -> None:
    assert await call(tool(Target(), read_only=True), in_s=-10) == {"done": 1}


async def test_no_more_calls_at_once_than_the_tool_allows() -> None:
    target = Target(gate=asyncio.Event())
    made = tool(target, concurrency=3)
    box = toolbox(made)
    calls = [asyncio.create_task(call(made, box)) for _ in range(12)]
    while target.at_once < 3:  # noqa: ASYNC110 - the calls set no event
        await asyncio.sleep(0)
    assert target.gate is not None
    target.gate.set()
    await asyncio.gather(*calls)
    assert (target.most_at_once, len(target.calls)) == (3, 12)


NO_RETRY = RetryPolicy(attempts=1)


async def failed(made: Tool, box: Toolbox, error: type[Exception], times: int) -> None:
    """Call it so often, and see it fail."""
    for _ in range(times):
        with pytest.raises(error):
            await call(made, box)


async def test_the_breaker_opens_for_its_target_and_for_no_other() -> None:
    shop, mail = Target([UncertainError("500")]), Target()
    pay, ask = tool(shop, retry=NO_RETRY), tool(shop, name="ask", retry=NO_RETRY)
    send = tool(mail, name="send", target="mail")
    box = toolbox(pay, ask, send)
    await failed(pay, box, UncertainError, 5)
    with pytest.raises(NotSentError, match="circuit breaker of shop is open"):
        await call(ask, box)
    with pytest.raises(NotSentError, match="circuit breaker of shop is open"):
        box.check(ask)
    assert len(shop.calls) == 5
    box.check(send)
    assert await call(send, box) == {"done": 1}


async def test_a_refusal_is_an_answer_and_opens_no_breaker() -> None:
    target = Target([ToolRefusedError("no", "no")])
    made = tool(target, retry=NO_RETRY)
    box = toolbox(made)
    await failed(made, box, ToolRefusedError, 20)
    box.check(made)


async def half_open(target: Target, made: Tool, box: Toolbox) -> None:
    """Have the breaker open, and its pause pass."""
    target.script = [UncertainError("500")]
    await failed(made, box, UncertainError, 5)
    async with asyncio.timeout(5):
        while True:
            try:
                box.check(made)
            except NotSentError:
                await asyncio.sleep(0.02)
            else:
                return


@pytest.mark.parametrize("how", ["cancelled", "bug"])
@pytest.mark.parametrize("what", ["call", "verify"])
async def test_a_try_that_ends_without_telling_anything_leaves_the_breaker_free(how: str, what: str) -> None:
    target = Target()
    made = tool(target, retry=NO_RETRY)
    box = toolbox(made)
    await half_open(target, made, box)

    async def begin() -> None:
        if what == "call":
            await call(made, box)
        else:
            await box.verify(made, json({}), key="k", epoch=1)

    if how == "bug":
        target.script = [KeyError("a bug of the tool")]
        with pytest.raises(KeyError):
            await begin()
    else:
        target.gate = asyncio.Event()
        before = len(target.calls)
        task = asyncio.create_task(begin())
        while len(target.calls) == before:  # noqa: ASYNC110 - the call sets no event
            await asyncio.sleep(0)
        with pytest.raises(NotSentError):
            box.check(made)  # one at a time
        task.cancel()
        await asyncio.wait([task])
        target.gate = None
    box.check(made)
    target.script = [7]
    assert await call(made, box) == {"done": 7}


async def test_verification_gives_the_answer_of_then_or_none() -> None:
    target = Target([7])
    made = tool(target, Recovery.VERIFIABLE)
    box = toolbox(made)
    found = await box.verify(made, json({"cents": 5}), key="wm-t1-s1", epoch=3, trace="00-x")
    assert found is not None and msgspec.json.decode(found) == {"done": 7}
    assert (target.calls[0].key, target.calls[0].epoch, target.calls[0].system) == ("wm-t1-s1", 3, "the shop's client")
    target.script = [-1]
    assert await box.verify(made, json({}), key="wm-t1-s1", epoch=3) is None


def asks() -> list[tuple[str, BaseException]]:
    """What a target can do instead of answering."""
    return [("uncertain", UncertainError("500")), ("not sent", NotSentError("down")), ("late", TimeoutError())]


@pytest.mark.parametrize(("name", "error"), asks(), ids=lambda part: part if isinstance(part, str) else "")
async def test_a_target_that_cannot_be_asked_says_nothing_of_the_effect(name: str, error: BaseException) -> None:
    target = Target([error])
    made = tool(target, Recovery.VERIFIABLE)
    box = toolbox(made)
    for _ in range(5):
        with pytest.raises(NotSentError, match="shop cannot be asked about wm-t1-s1"):
            await box.verify(made, json({}), key="wm-t1-s1", epoch=1)
    with pytest.raises(NotSentError, match="circuit breaker"):
        await box.verify(made, json({}), key="wm-t1-s1", epoch=1)
    assert len(target.calls) == 5


async def test_a_target_that_refuses_to_say_has_answered_but_settled_nothing() -> None:
    target = Target([ToolRefusedError("no", "not for you")])
    made = tool(target, Recovery.VERIFIABLE)
    box = toolbox(made)
    for _ in range(10):
        with pytest.raises(NotSentError, match="does not say what came of wm-t1-s1: not for you"):
            await box.verify(made, json({}), key="wm-t1-s1", epoch=1)
    box.check(made)


async def test_what_has_no_verification_cannot_be_verified() -> None:
    made = tool(Target(), verify=None)
    with pytest.raises(ToolRefusedError) as caught:
        await toolbox(made).verify(made, json({}), key="k", epoch=1)
    assert caught.value.code == "not_verifiable"
    with pytest.raises(SettingsError, match="tool pay is declared verifiable but has no verify function"):
        tool(Target(), Recovery.VERIFIABLE, verify=None)


def test_a_tool_without_a_word_on_recovery_is_left_to_a_person() -> None:
    async def run(args: Any, call: ToolCall) -> Answer:
        return Answer(1)

    function: Callable[[Any, ToolCall], Awaitable[msgspec.Struct]] = run
    assert Tool(name="t", args=Args, run=function).recovery is Recovery.MANUAL
