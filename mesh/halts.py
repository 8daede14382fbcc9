"""The kill switch: what is halted, who may halt and resume, and the question whether something may begin.

The rule: anybody who is enrolled may halt; only a person with a role for it may let work go on.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from mesh import subjects
from mesh.bus import Bus
from mesh.control import Act, Controls, Kind, Standing, controlling
from mesh.errors import NotSentError, SignatureError
from mesh.runtime import NotYetError
from mesh.trust import TrustEntry

RESUMERS: Final = ("operator", "policy_admin")
SITE_KEY: Final = "operator"
"""The role of the site's own key, which is no person's: it may halt."""

HALTED_ROLES: Final = ("planner", "model", "policy", "executor")
"""The agents that a halt can hold: a plan's writer, who asks models, who decides on it, and who carries it out."""

_ANY = "-"
_AGAIN_S = 0.5
_AGAIN_PER_S = 200  # of what is held: at 1 ms each a fifth of a core


class Halt(Act, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing new may begin in ``domain``, with ``tool``, by ``agent``; an empty one is any, several hold together.

    With ``halted`` false the halt of this very scope is over. ``agent`` is a role, or ``role/instance``.
    """

    domain: str = ""
    tool: str = ""
    agent: str = ""
    halted: bool

    @property
    def scope(self) -> str:
        """The scope in words."""
        parts = (("domain", self.domain), ("tool", self.tool), ("agent", self.agent))
        return ", ".join(f"{name} {value}" for name, value in parts if value) or "everything"

    def holds(self, domain: str, tools: Iterable[str], agents: Iterable[str]) -> bool:
        """Whether this is about one of these tools and agents in this domain."""
        return (
            self.halted
            and self.domain in ("", domain)
            and (not self.tool or self.tool in tools)
            and (not self.agent or any(f"{agent}/".startswith(f"{self.agent}/") for agent in agents))
        )


class HaltedError(NotSentError):
    """A call that was about to be sent is halted."""


def _subject(halt: Halt) -> str:
    return subjects.control("halt", *(part or _ANY for part in (halt.domain, halt.tool, halt.agent)))


def _check(halt: Halt, entry: TrustEntry) -> None:
    if _ANY in (halt.domain, halt.tool, halt.agent):
        raise SignatureError(f"nothing is named {_ANY!r}: leave it out for any")
    if halt.halted:
        if entry.kind != "person" and SITE_KEY not in entry.roles:
            raise SignatureError(f"{entry.name} is a {entry.kind} without the role {SITE_KEY}: it may not halt")
    elif entry.kind != "person" or not set(RESUMERS) & set(entry.roles):
        raise SignatureError(
            f"{entry.name} may not let work go on: a person with the role {' or '.join(RESUMERS)} must sign"
        )


HALT: Final = Kind("halt", Halt, _subject, _check)


class Halts:
    """The halts in force, asked before anything begins: a look-up in memory. Kept current by ``Controls.on_change``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._halts: tuple[Halt, ...] = ()
        self._clock = clock
        self._next = 0.0

    def replace(self, standing: Iterable[Standing[Halt]]) -> None:
        """Take these for all that stands."""
        self._halts = tuple(item.act for item in standing if item.act.halted)
        self._next = 0.0

    def find(self, domain: str, *, tools: Iterable[str] = (), agents: Iterable[str] = ()) -> Halt | None:
        """The halt that holds work with these tools by these agents, if there is one."""
        if not self._halts:
            return None
        tools, agents = tuple(tools), tuple(agents)
        return next((halt for halt in self._halts if halt.holds(domain, tools, agents)), None)

    def gate(self, domain: str, *, tools: Iterable[str] = (), agents: Iterable[str] = ()) -> None:
        """Raise ``HaltedError`` when it is held: for the last moment before a call."""
        halt = self.find(domain, tools=tools, agents=agents)
        if halt is not None:
            raise HaltedError(why(halt))

    def require(self, domain: str, *, tools: Iterable[str] = (), agents: Iterable[str] = ()) -> None:
        """Raise ``NotYetError`` when it is held. What is held comes again in turn: many cost no more than few."""
        halt = self.find(domain, tools=tools, agents=agents)
        if halt is not None:
            now = self._clock()
            self._next = max(self._next + 1 / _AGAIN_PER_S, now + _AGAIN_S)
            raise NotYetError(why(halt), delay_s=self._next - now)


def why(halt: Halt) -> str:
    """The halt as a reason."""
    said = f": {halt.reason}" if halt.reason else ""
    return f"{halt.scope} is halted by {halt.person} since {halt.at:%Y-%m-%d %H:%M:%S} UTC{said}"


@asynccontextmanager
async def following_halts(bus: Bus, root_public_key: str) -> AsyncIterator[Halts]:
    """The halts in force, kept current while the block runs; entered with all of them read."""
    async with controlling(bus, root_public_key, HALT) as controls:
        yield halts_of(controls)


def halts_of(controls: Controls) -> Halts:
    """The halts that these controls follow."""
    halts = Halts()
    controls.on_change(HALT, halts.replace)
    return halts


async def read_halts(bus: Bus, root_public_key: str) -> Halts:
    """The halts in force at this moment."""
    controls = Controls(bus, root_public_key, HALT)
    await controls.refresh()
    return halts_of(controls)
