"""What a domain has spent on models in a day, and what calls under way may still cost: one window, in the journal.

The rule: what is spent is what completions say, to the micro-dollar; all else that may be owed is an open claim, and
counts as the most that it can cost. So the cap holds whoever dies, and whenever.
"""

from datetime import UTC, datetime

from msgspec.structs import replace

from mesh.errors import WorkmeshError
from mesh.inference import Mode, Usage
from mesh.record import Struct

_LASTS_MAX_S = 3600.0  # no call lasts longer: a claim that says so was made under a clock that is wrong


class OverBudgetError(WorkmeshError):
    """A call would, at most, go beyond the cap of its day. ``for_now``: until calls under way have ended."""

    def __init__(self, message: str, *, for_now: bool = False) -> None:
        super().__init__(message)
        self.for_now = for_now


class ClaimLostError(WorkmeshError):
    """Another process has taken the question over: what comes of the call here counts as unknown there."""


class Claim(Struct, frozen=True, kw_only=True):
    """One question (or batch) that is being asked: the handling ``nonce`` of it ``by`` this process.

    ``at_most`` is what the call under way can cost (0: none is); it has ended, one way or another, by ``until`` (Unix
    time). ``calls`` are earlier ones for it, which no completion holds yet.
    """

    key: str
    nonce: str
    by: str
    until: float = 0.0
    at_most: int = 0
    model: str = ""
    mode: Mode = Mode.INTERACTIVE
    prices: str = ""
    calls: tuple[Usage, ...] = ()

    @property
    def cost(self) -> int:
        """All that it can have cost so far."""
        return self.at_most + cost(self.calls)

    def is_alive(self, by: str, now_s: float) -> bool:
        """Whether its call may still be answered to the process that made it, and that is another than this one."""
        return self.by != by and now_s < self.until < now_s + _LASTS_MAX_S

    def given_up(self, day: str) -> tuple[Usage, ...]:
        """Its calls, the one under way among them, whose fate nobody knows."""
        if not self.at_most:
            return self.calls
        call = Usage(
            model=self.model,
            tokens_in=0,
            tokens_out=0,
            cost_micro_usd=self.at_most,
            mode=self.mode,
            prices=self.prices,
            certain=False,
            day=day,
        )
        return (*self.calls, call)


class Window(Struct, frozen=True, kw_only=True):
    """The money of one domain and day, in micro-dollars, as it stands in the journal.

    ``spent`` is the sum of all completions of the day, ``uncertain`` the part of it whose calls' fate is unknown.
    ``by`` tells one write of it from another that says the same.
    """

    spent: int = 0
    uncertain: int = 0
    calls: int = 0
    open: tuple[Claim, ...] = ()
    by: str = ""

    @property
    def taken(self) -> int:
        """What is spent or may be."""
        return self.spent + sum(claim.cost for claim in self.open)

    def find(self, key: str) -> Claim | None:
        """The open claim of this key."""
        return next((claim for claim in self.open if claim.key == key), None)

    def claimed(self, claim: Claim, cap: int) -> "Window":
        """With this claim in the place of the one of its key; raises ``OverBudgetError`` beyond the cap."""
        rest = self.without(claim.key)
        if rest.taken + claim.cost > cap:
            passing = sum(each.at_most for each in rest.open if each.mode is Mode.INTERACTIVE)
            raise OverBudgetError(
                f"{claim.model} can cost {dollars(claim.at_most)} here, and of {dollars(cap)} for the day "
                f"{dollars(max(0, cap - rest.taken - cost(claim.calls)))} are left",
                for_now=rest.taken - passing + claim.cost <= cap,
            )
        return replace(rest, open=(*rest.open, claim))

    def put(self, claim: Claim) -> "Window":
        """With this claim in the place of the one of its key, whatever it costs."""
        rest = self.without(claim.key)
        return replace(rest, open=(*rest.open, claim))

    def without(self, key: str) -> "Window":
        """Without the claim of this key."""
        return replace(self, open=tuple(claim for claim in self.open if claim.key != key))

    def spend(self, usage: tuple[Usage, ...]) -> "Window":
        """After these calls, which a completion holds."""
        return replace(
            self,
            spent=self.spent + cost(usage),
            uncertain=self.uncertain + cost(tuple(each for each in usage if not each.certain)),
            calls=self.calls + len(usage),
        )


def cost(usage: tuple[Usage, ...]) -> int:
    """What calls cost together."""
    return sum(each.cost_micro_usd for each in usage)


def day_of(at_s: float) -> str:
    """The day (UTC) of a Unix time, whose window it is."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"


def micro_usd(amount: float) -> int:
    """Dollars of the settings as micro-dollars."""
    return round(amount * 1_000_000)


def dollars(micro: int) -> str:
    """Micro-dollars for people, to the last digit."""
    whole, rest = divmod(abs(micro), 1_000_000)
    text = f"{whole}.{rest:06d}".rstrip("0")
    short = text if len(text.partition(".")[2]) >= 2 else f"{whole}.{rest // 10_000:02d}"
    return f"{'-' if micro < 0 else ''}${short}"
