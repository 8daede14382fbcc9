"""Asking models in the order of a chain until one answers, each a bounded number of times and at a claimed cost.

The rule: there is always an end: an answer, or the reason of every model why there is none.
"""

import asyncio
import time

import msgspec
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from agents.model.account import Account, Call
from agents.model.pacing import Pacing, TooLateError
from agents.model.tiers import Target, question
from mesh import faultpoints, metrics, tracing
from mesh.clock import unix
from mesh.errors import NotSentError, WorkmeshError
from mesh.halts import Halts
from mesh.inference import CompletionStatus, Mode, Prompt, Usage
from mesh.messages import CallError, Messages, NotBilledError, Question, RejectedError, Reply, UnknownFateError
from mesh.record import NULL, Json
from mesh.runtime import NotYetError
from mesh.settings import ModelSettings
from mesh.spending import OverBudgetError

log = structlog.get_logger(__name__)

_LONG_S = 86_400.0
_BUDGET_S = 0.1
_PACE_S = 60.0  # what a call waits here for its turn; longer, and the input waits at the server
_GRACE_S = 2.0  # behind a time-out: until the call has ended on every clock
_BYTES_A_TOKEN = 4  # of English and JSON, roughly: for pacing alone, never for money
_BACKOFF = wait_exponential_jitter(initial=0.25, max=8, jitter=0.25)


class _EndedError(WorkmeshError):
    """A model of the chain will not be asked again for this question."""


class Ending(msgspec.Struct, frozen=True):
    """What came of the chain."""

    status: CompletionStatus
    model: str = ""
    output: Json = NULL
    text: str = ""
    reason: str = ""


class Asker:
    """Asks for one question after the other, many at once."""

    def __init__(self, messages: Messages, pacing: Pacing, halts: Halts, settings: ModelSettings, writer: str) -> None:
        self._messages = messages
        self._pacing = pacing
        self._halts = halts
        self._settings = settings
        self._writer = writer
        self._trouble: dict[str, str] = {}

    async def ask(self, prompt: Prompt, chain: list[Target], account: Account) -> Ending:
        """Ask the models of the chain. Raises ``NotYetError`` when the question has to wait elsewhere, and as
        ``Account.claim`` does."""
        reasons: list[str] = []
        text, over = "", 0
        status = CompletionStatus.UNAVAILABLE
        for number, target in enumerate(chain):
            asked = question(prompt, target.model)
            call = self._call(target, asked)
            if over and call.at_most >= over:
                reasons.append(f"{target.model}: no cheaper")
                continue
            try:
                reply = await self._answer(prompt, asked, target, call, account, is_last=number == len(chain) - 1)
            except OverBudgetError as error:
                reasons.append(f"over budget: {error}")
                status, over = CompletionStatus.OVER_BUDGET, max(1, call.at_most)
                if self._settings.budget_of(prompt.header.domain).at_limit != "small":
                    break
                continue
            except (_EndedError, CallError) as error:
                reasons.append(f"{target.model}: {error}")
                status = CompletionStatus.UNAVAILABLE
                continue
            text = reply.text or text
            if reply.problem and not reply.declined:
                reasons.append(f"{target.model}: {reply.problem}")
                status = CompletionStatus.UNAVAILABLE
                continue
            status = CompletionStatus.DECLINED if reply.declined else CompletionStatus.ANSWERED
            reasons += [f"{target.model}: {reply.problem}"] if reply.declined else []
            said = reply.text if reply.declined else ""
            return Ending(status, target.model, reply.output, said, "; ".join(reasons))
        return Ending(status, text=text, reason="; ".join(reasons) or "the chain is empty")

    async def _answer(
        self, prompt: Prompt, asked: Question, target: Target, call: Call, account: Account, *, is_last: bool
    ) -> Reply:
        """What one model answers, asked again as often as the settings say; raises the last error."""

        def is_worth_it(error: BaseException) -> bool:
            # A call of unknown fate may have been paid for: another one here only where nobody else can be asked.
            return isinstance(error, NotBilledError) or (is_last and isinstance(error, UnknownFateError))

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._settings.attempts) | stop_before_delay(_left_s(prompt)),
            wait=_pause_s,
            retry=retry_if_exception(is_worth_it),
            reraise=True,
        )
        return await retrying(self._once, prompt, asked, target, call, account, is_last=is_last)

    async def _once(
        self, prompt: Prompt, asked: Question, target: Target, call: Call, account: Account, *, is_last: bool
    ) -> Reply:
        self._may(prompt)
        self._check(target, is_last=is_last)
        until = min(unix() + call.ends_in_s, unix() + _left_s(prompt))
        try:
            while True:
                try:
                    await account.require_room(call)
                    async with target.slots:
                        await self._turn(prompt, asked, target, is_last=is_last)
                        self._may(prompt)
                        await account.claim(call)
                        await faultpoints.reach("model.after_claim")
                        return await self._call_once(prompt, asked, target, call, account)
                except OverBudgetError as error:
                    # Only calls under way may stand against it, which cost less than they might: wait, out of the way.
                    if not error.for_now or unix() >= until:
                        raise
                await asyncio.sleep(_BUDGET_S)
        finally:
            target.breaker.released()

    async def _call_once(self, prompt: Prompt, asked: Question, target: Target, call: Call, account: Account) -> Reply:
        timeout_s = min(self._settings.timeout_s, max(0.05, _left_s(prompt)))
        started = time.perf_counter()
        try:
            reply = await self._messages.ask(asked, timeout_s=timeout_s, traceparent=trace_of(prompt))
        except UnknownFateError as error:
            account.lost(call)
            await self._failed(target, error, "unknown_fate")
            raise
        except NotBilledError as error:
            await account.release()
            await self._failed(target, error, "not_billed")
            raise
        except RejectedError as error:
            await account.release()
            _CALLS.of(target.model, Mode.INTERACTIVE, "rejected").inc()
            log.warning("model_rejected", model=target.model, reason=error.brief)
            raise
        metrics.MODEL_SECONDS.labels(model=target.model).observe(time.perf_counter() - started)
        await faultpoints.reach("model.after_answer")
        account.paid(usage_of(reply, call))
        target.breaker.succeeded()
        await self._pacing.tell(target.model, "")
        count(target.model, Mode.INTERACTIVE, reply)
        return reply

    def _call(self, target: Target, asked: Question) -> Call:
        at_most = target.price.at_most(Mode.INTERACTIVE, asked.size, asked.most_out)
        return Call(target.price, at_most, self._settings.timeout_s + _GRACE_S)

    def _may(self, prompt: Prompt) -> None:
        """Raise when nobody may be asked, or it is too late."""
        self._halts.require(prompt.header.domain, agents=(self._writer,))
        if _left_s(prompt) <= 0:
            raise _EndedError("not asked: the answer would come too late")

    def _check(self, target: Target, *, is_last: bool) -> None:
        try:
            target.breaker.check()
        except NotSentError as error:
            said = f"{error}, the last one: {self._trouble.get(target.model, 'unknown')}"
            if is_last:
                raise NotBilledError(said, retry_after_s=target.breaker.wait_s()) from error
            raise _EndedError(said) from error

    async def _turn(self, prompt: Prompt, asked: Question, target: Target, *, is_last: bool) -> None:
        left_s = _left_s(prompt)
        patience_s = _PACE_S if is_last else self._settings.timeout_s
        try:
            await self._pacing.turn(target.model, asked.size // _BYTES_A_TOKEN, min(left_s, patience_s))
        except TooLateError as error:
            if is_last and prompt.answer_by is None:
                raise NotYetError(str(error), delay_s=patience_s / 2) from error
            raise _EndedError(str(error)) from error

    async def _failed(self, target: Target, error: CallError, result: str) -> None:
        _CALLS.of(target.model, Mode.INTERACTIVE, result).inc()
        log.warning("model_failed", model=target.model, result=result, reason=error.brief)
        if error.limited:
            await self._pacing.leave_alone(target.model, error.retry_after_s or 1.0)
            return
        self._trouble[target.model] = str(error)
        target.breaker.failed()
        if target.breaker.wait_s() is not None:
            await self._pacing.tell(target.model, str(error))


_CALLS = metrics.Bound(metrics.MODEL_CALLS)
_TOKENS = metrics.Bound(metrics.MODEL_TOKENS)


def trace_of(prompt: Prompt) -> str:
    """The span that the calls for a prompt are: that of its completion."""
    return tracing.child(prompt.header.traceparent, "completion", prompt.name)


def usage_of(reply: Reply, call: Call) -> Usage:
    """What a reply cost."""
    cost = call.price.cost(
        call.mode,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        tokens_cached=reply.tokens_cached,
        tokens_written=reply.tokens_written,
    )
    return Usage(
        model=call.price.model,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        cost_micro_usd=cost,
        tokens_cached=reply.tokens_cached,
        tokens_written=reply.tokens_written,
        mode=call.mode,
        prices=call.price.date,
    )


def count(model: str, mode: Mode, reply: Reply) -> None:
    """Count a reply and its tokens."""
    result = "declined" if reply.declined else "no_answer" if reply.problem else "answered"
    _CALLS.of(model, mode, result).inc()
    for kind in ("in", "out", "cached", "written"):
        _TOKENS.of(model, kind).inc(getattr(reply, f"tokens_{kind}"))


def _left_s(prompt: Prompt) -> float:
    """Until its answer would be too late."""
    return prompt.answer_by.timestamp() - unix() if prompt.answer_by else _LONG_S


def _pause_s(state: RetryCallState) -> float:
    """Before the next attempt: what the server asked for, else more each time."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, NotBilledError) and error.limited:
        return 0.0  # the pace that all share knows when
    asked = error.retry_after_s if isinstance(error, CallError) else None
    return max(asked or 0.0, float(_BACKOFF(state)))
