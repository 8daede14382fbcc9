"""What a tool is: a typed function, and what it declares about its effect. Running one is ``mesh.toolbox``'s job.

The rule: a tool says beforehand how an effect in doubt is settled; the runtime never retries blindly (invariant 4).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from mesh.errors import SettingsError
from mesh.records import Json


class Recovery(StrEnum):
    """How an effect without a result is settled: call again with the same key, ask the target, or ask a person."""

    IDEMPOTENT = "idempotent"
    VERIFIABLE = "verifiable"
    MANUAL = "manual"


class Risk(StrEnum):
    """How much harm a wrong call does, in the words of who declares the tool; shown to those who review it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a tool function gets beside its arguments.

    ``key`` goes to the target with the call. ``call_by`` is a Unix time in seconds: a target that can refuse late
    calls must be told it, and the function must not send after it. ``system`` is what the pack opened for ``target``.
    ``approved_by`` are the people whose approvals the permit names.
    """

    key: str
    epoch: int
    call_by: float
    traceparent: str
    system: Any
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts within one dispatch, for failures where another call is known to be safe."""

    attempts: int = 3
    first_delay_s: float = 0.05
    max_delay_s: float = 0.5


ToolFunction = Callable[[Any, ToolCall], Awaitable[msgspec.Struct]]
VerifyFunction = Callable[[Any, ToolCall], Awaitable[msgspec.Struct | None]]
VersionFunction = Callable[[Any, ToolCall], Awaitable[str]]
CheckFunction = Callable[[Json], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: ``run(args, call)`` returns a struct or raises a ``ToolError``.

    ``verify(args, call)`` asks the target whether ``call.key`` took effect: the answer it gave then, or ``None``.
    ``settle_s`` is how long after ``call_by`` a call that was sent may still take effect; verification waits for it.
    A ``read_only`` tool has no effect: it may run while planning, and is never journaled as an effect. Its answers may
    be kept near the agent for ``cache_s``; then ``version(args, call)``, if there is one, says whether they still hold.

    ``check`` looks at arguments beside their struct, and raises ``msgspec.ValidationError``. ``outside`` are JSON
    pointers into the answer to text from outside ("" is all of it): policies see what of a plan's arguments holds it.
    ``compensation`` names the tool that undoes this one; ``risk`` and it are for people who review tools and plans.
    """

    name: str
    args: type[msgspec.Struct]
    run: ToolFunction
    recovery: Recovery = Recovery.MANUAL
    verify: VerifyFunction | None = None
    target: str = "local"
    timeout_s: float = 5.0
    settle_s: float = 0.25
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = 32
    read_only: bool = False
    description: str = ""
    check: CheckFunction | None = None
    outside: tuple[str, ...] = ()
    risk: Risk = Risk.MEDIUM
    compensation: str = ""
    cache_s: float = 0.0
    version: VersionFunction | None = None

    def __post_init__(self) -> None:
        if self.cache_s and not self.read_only:
            raise SettingsError(f"tool {self.name} has an effect: its answers are never cached")
        if self.recovery is Recovery.VERIFIABLE and self.verify is None:
            raise SettingsError(f"tool {self.name} is declared verifiable but has no verify function")

    def parse(self, args: Json) -> msgspec.Struct:
        """The arguments as the tool's own struct; raises ``msgspec.ValidationError`` when they do not fit."""
        parsed = msgspec.json.decode(args, type=self.args)
        if self.check is not None:
            self.check(args)
        return parsed
