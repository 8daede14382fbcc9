"""Runs tools: the breaker and the limit of their target, their time-out, and the retries that are known to be safe.

The rule: a call whose fate is unknown is never simply made again; it raises ``UncertainError`` to who asked.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import tenacity

from mesh import metrics
from mesh.breaker import Breaker
from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.records import Json
from mesh.toolcache import Kept, ToolCache
from mesh.tools import Recovery, Tool, ToolCall

_encode = msgspec.json.Encoder().encode
_SECONDS = metrics.Bound(metrics.TOOL_SECONDS)

Gate = Callable[[], None]


class Toolbox:
    """The tools of the packs in this process, with one breaker a target, one limit a tool, and what may be kept."""

    def __init__(self, tools: Mapping[str, Tool], systems: Mapping[str, Any]) -> None:
        self._tools = dict(tools)
        self._systems = systems
        self._breakers = {tool.target: Breaker(tool.target) for tool in tools.values()}
        self._limits = {tool.name: asyncio.Semaphore(tool.concurrency) for tool in tools.values()}
        self._cache = ToolCache()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All of them."""
        return tuple(self._tools.values())

    def find(self, name: str) -> Tool:
        """The tool of this name; raises ``ToolRefusedError`` when no pack in this process has it."""
        try:
            return self._tools[name]
        except KeyError:
            raise ToolRefusedError("unknown_tool", f"no installed pack has a tool named {name}") from None

    def check(self, tool: Tool) -> None:
        """Raises ``NotSentError`` while the breaker of the tool's target is open."""
        breaker = self._breakers[tool.target]
        breaker.check()
        breaker.released()

    def wait_s(self, tool: Tool) -> float | None:
        """In how many seconds the breaker of the tool's target may let a call pass; ``None`` while it is closed.

        Who waits for the target comes again then: backing off on its own, it would come long after the target is back.
        """
        return self._breakers[tool.target].wait_s()

    async def call(
        self,
        tool: Tool,
        args: Json,
        *,
        key: str,
        epoch: int,
        call_by: float,
        trace: str = "",
        gate: Gate = lambda: None,
        approved_by: tuple[str, ...] = (),
    ) -> Json:
        """The tool's answer as JSON.

        Retries within ``call_by`` (Unix seconds) what certainly was not sent, and for idempotent tools also what is
        uncertain, with the same key. Raises ``NotSentError``, ``UncertainError`` or ``ToolRefusedError``. ``gate`` is
        asked right before each attempt, and raises ``NotSentError`` when it must not be made. What a read-only tool
        answered before may be its answer, as long as the tool allows.
        """
        parsed = self._parse(tool, args)
        call = ToolCall(key, epoch, call_by, trace, self._systems.get(tool.target), approved_by)
        if tool.read_only and tool.cache_s > 0:
            return await self._read(tool, args, parsed, call, gate)
        return await self._run(tool, parsed, call, gate)

    async def _read(self, tool: Tool, args: Json, parsed: msgspec.Struct, call: ToolCall, gate: Gate) -> Json:
        """A kept answer that still holds, or a new one. A version is asked before the answer: never newer than it."""
        kept = self._cache.find(tool.name, args)
        if kept is not None and kept.is_fresh:
            return self._cache.served(tool.name, kept, "hit")
        version = await self._version(tool, parsed, call, gate)
        if kept is not None and version and kept.version == version:
            return self._cache.served(tool.name, kept.renewed(tool.cache_s), "valid")
        answer = await self._run(tool, parsed, call, gate)
        return self._cache.served(tool.name, Kept.new(args, answer, tool.cache_s, version), "miss")

    async def _version(self, tool: Tool, parsed: msgspec.Struct, call: ToolCall, gate: Gate) -> str:
        """What the tool says its answer would be of; "" when it cannot tell now."""
        if tool.version is None:
            return ""
        breaker = self._breakers[tool.target]
        gate()
        breaker.check()
        try:
            async with asyncio.timeout(tool.timeout_s):
                found = await tool.version(parsed, call)
        except (ToolError, TimeoutError):
            breaker.released()
            return ""
        except BaseException:
            breaker.released()
            raise
        breaker.succeeded()
        return found

    async def _run(self, tool: Tool, parsed: msgspec.Struct, call: ToolCall, gate: Gate) -> Json:
        """A call, and those that may follow it."""
        safe: tuple[type[ToolError], ...] = (NotSentError,)
        if tool.recovery is Recovery.IDEMPOTENT or tool.read_only:
            safe = (NotSentError, UncertainError)
        try:
            return await self._once(tool, parsed, call, gate)
        except safe as error:
            if tool.retry.attempts == 1:
                raise
            uncertain = isinstance(error, UncertainError)
            return await self._again(tool, parsed, call, gate, safe, uncertain=uncertain)

    async def _again(
        self,
        tool: Tool,
        args: msgspec.Struct,
        call: ToolCall,
        gate: Gate,
        safe: tuple[type[ToolError], ...],
        *,
        uncertain: bool,
    ) -> Json:
        """The attempts after the first; ``uncertain`` says that one before may still take effect."""
        wait = tenacity.wait_random_exponential(multiplier=tool.retry.first_delay_s, max=tool.retry.max_delay_s)
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(safe),
            stop=tenacity.stop_after_attempt(tool.retry.attempts - 1),
            wait=wait,
            reraise=True,
        )
        await asyncio.sleep(random.uniform(0, tool.retry.first_delay_s))
        async for attempt in attempts:
            with attempt:
                try:
                    return await self._once(tool, args, call, gate)
                except UncertainError:
                    uncertain = True
                    raise
                except (NotSentError, ToolRefusedError) as error:
                    if uncertain:
                        # An earlier attempt of this dispatch may still take effect: so may the dispatch as a whole.
                        raise UncertainError(str(error)) from error
                    raise
        raise AssertionError("unreachable: tenacity returns or raises")

    async def verify(self, tool: Tool, args: Json, *, key: str, epoch: int, trace: str = "") -> Json | None:
        """What the target says of this key: the answer it gave, or ``None`` when the key never took effect."""
        if tool.verify is None:
            raise ToolRefusedError("not_verifiable", f"tool {tool.name} has no verify function")
        parsed = self._parse(tool, args)
        breaker = self._breakers[tool.target]
        breaker.check()
        call = ToolCall(key, epoch, unix() + tool.timeout_s, trace, self._systems.get(tool.target))
        try:
            async with asyncio.timeout(tool.timeout_s):
                answer = await tool.verify(parsed, call)
        except ToolRefusedError as error:
            breaker.succeeded()
            raise NotSentError(f"{tool.target} does not say what came of {key}: {error}") from error
        except (ToolError, TimeoutError) as error:
            breaker.failed()
            raise NotSentError(f"{tool.target} cannot be asked about {key}: {error or 'no answer in time'}") from error
        except BaseException:
            breaker.released()
            raise
        breaker.succeeded()
        return None if answer is None else Json(_encode(answer))

    async def _once(self, tool: Tool, args: msgspec.Struct, call: ToolCall, gate: Gate) -> Json:
        async with self._limits[tool.name]:
            gate()
            left = call.call_by - unix()
            if left <= 0 and not tool.read_only:
                raise NotSentError(f"the time to call {tool.name} for {call.key} is over")
            breaker = self._breakers[tool.target]
            breaker.check()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(tool.timeout_s if tool.read_only else min(tool.timeout_s, left)):
                    answer = await tool.run(args, call)
            except ToolRefusedError:
                breaker.succeeded()
                raise
            except ToolError:
                breaker.failed()
                raise
            except TimeoutError as error:
                breaker.failed()
                raise UncertainError(f"{tool.name} did not answer within {tool.timeout_s:g} s") from error
            except BaseException:
                breaker.released()
                raise
            finally:
                _SECONDS.of(tool.name).observe(time.perf_counter() - started)
            breaker.succeeded()
            return Json(_encode(answer))

    @staticmethod
    def _parse(tool: Tool, args: Json) -> msgspec.Struct:
        try:
            return tool.parse(args)
        except msgspec.ValidationError as error:
            raise ToolRefusedError("invalid_arguments", f"{tool.name}: {error}") from error
