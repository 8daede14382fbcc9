"""The money of one question while it is asked: claimed before each call, settled with the completion.

The rule: a call that nobody can tell the end of counts as the most it can have cost, and stands in the completion.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from agents.model.ledger import Draft, Ledger
from mesh import metrics, subjects
from mesh.clock import unix
from mesh.inference import Mode, Prompt, Usage
from mesh.journal import Journal, Write
from mesh.prices import Price
from mesh.records import Completion
from mesh.runtime import NotYetError
from mesh.spending import Claim, ClaimLostError, Window, day_of

_LOOK_S = 1.0
_DAYS_MAX = 31  # a question that is older is not looked for in the windows of its first days


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to be made: what it can cost, and when it will have ended."""

    price: Price
    at_most: int
    ends_in_s: float
    mode: Mode = Mode.INTERACTIVE


class Account:
    """What one handling of a question has spent. One call at a time."""

    def __init__(self, ledger: Ledger, journal: Journal, prompt: Prompt, by: str, *, cap: int, is_first: bool) -> None:
        self.key = f"{prompt.header.task_id}.{prompt.name}"
        self._ledger = ledger
        self._journal = journal
        self._completion = subjects.record("completion", prompt.header.domain, prompt.header.task_id, prompt.name)
        self._domain = prompt.header.domain
        self._by = by
        self._cap = cap
        self._nonce = secrets.token_hex(8)
        self._day = day_of(unix())
        self._names = _names(self._domain, prompt.header.at, self._day)
        self._has_claim = False
        self._done: tuple[Usage, ...] = ()  # ended, and not yet in the window
        self._fresh = not is_first

    async def claim(self, call: Call) -> None:
        """Put on record that this call is made.

        Raises ``OverBudgetError`` when it does not fit into the day's budget, ``ClaimLostError`` when another copy has
        taken the question over, ``NotYetError`` while one is asking it.
        """
        may_be_settled = self._fresh
        after = await self._change(lambda windows: self._claimed(windows, call))
        metrics.BUDGET_LEFT.labels(domain=self._domain).set(self._cap - after.windows[self._today].taken)
        self._has_claim = True
        self._done = ()
        # Who took this question before us may have settled it since we looked; from now on nobody can.
        if may_be_settled and await self._journal.record(self._completion) is not None:
            await self._drop()
            raise ClaimLostError(f"{self.key} has been settled")

    async def require_room(self, call: Call) -> None:
        """Raise as ``claim`` would; nothing is put on record."""

        def draft(windows: Mapping[str, Window]) -> Draft:
            self._claimed(windows, call)
            return Draft({})

        await self._ledger.change(self._names, draft, fresh=self._fresh)

    def paid(self, usage: Usage) -> None:
        """The call has ended, and cost this."""
        self._done = (replace(usage, day=self._day),)

    def lost(self, call: Call) -> None:
        """The call may have been answered: it counts as the most that it can cost."""
        usage = Usage(
            model=call.price.model,
            tokens_in=0,
            tokens_out=0,
            cost_micro_usd=call.at_most,
            mode=call.mode,
            prices=call.price.date,
            certain=False,
        )
        self.paid(usage)

    async def release(self) -> None:
        """No call is under way; what was paid before stays on record."""

        def draft(windows: Mapping[str, Window]) -> Draft:
            return Draft(self._mine(windows))

        if self._has_claim:
            await self._change(draft)
            self._done = ()

    async def settle(self, build: Callable[[tuple[Usage, ...]], Completion]) -> Completion:
        """Put on record what ``build`` makes of all calls for the question, and count them as spent.

        Raises ``ConflictError`` when a completion stands, ``ClaimLostError`` and ``NotYetError`` as ``claim`` does.
        """
        made: list[Completion] = []

        def draft(windows: Mapping[str, Window]) -> Draft:
            after = dict(self._mine(windows))
            calls: tuple[Usage, ...] = ()
            for name, window in after.items():
                held = window.find(self.key)
                if held is not None:
                    calls += held.calls
                    after[name] = window.without(self.key).spend(held.calls)
            made.append(build(calls))
            return Draft(after, (Write(made[-1]),))

        await self._change(draft)
        return made[-1]

    async def _drop(self) -> None:
        def draft(windows: Mapping[str, Window]) -> Draft:
            self._mine(windows)
            return Draft({self._today: windows[self._today].without(self.key)})

        await self._change(draft)
        self._has_claim = False

    async def _change(self, draft: Callable[[Mapping[str, Window]], Draft]) -> Draft:
        done = await self._ledger.change(self._names, draft, fresh=self._fresh)
        self._fresh = False
        return done

    def _claimed(self, windows: Mapping[str, Window], call: Call) -> Draft:
        mine = self._mine(windows)
        today = mine[self._today]
        held = today.find(self.key)
        claim = Claim(
            key=self.key,
            nonce=self._nonce,
            by=self._by,
            until=unix() + call.ends_in_s,
            at_most=call.at_most,
            model=call.price.model,
            mode=call.mode,
            prices=call.price.date,
            calls=held.calls if held else (),
        )
        return Draft({**mine, self._today: today.claimed(claim, self._cap)})

    @property
    def _today(self) -> str:
        return subjects.spend(self._domain, self._day)

    def _mine(self, windows: Mapping[str, Window]) -> dict[str, Window]:
        """The windows with every claim of the question taken over, and the calls that ended here put into it."""
        after = dict(windows)
        for name, window in windows.items():
            held = window.find(self.key)
            if self._has_claim and name == self._today:
                if held is None or held.nonce != self._nonce:
                    raise ClaimLostError(f"{self.key} was taken over by {held.by if held else 'another, and settled'}")
                after[name] = window.put(self._idle((*held.calls, *self._done)))
            elif held is not None:
                if held.nonce != self._nonce and held.is_alive(self._by, now_s := unix()):
                    raise NotYetError(
                        f"{held.by} is asking {self.key}", delay_s=max(0.05, min(_LOOK_S, held.until - now_s))
                    )
                after[name] = window.put(self._idle(held.given_up(name.rpartition(".")[2])))
        return after

    def _idle(self, calls: tuple[Usage, ...]) -> Claim:
        return Claim(key=self.key, nonce=self._nonce, by=self._by, calls=calls)


def _names(domain: str, since: datetime, today: str) -> Sequence[str]:
    """The windows in which a question of this age may have a claim; that of today is the last."""
    end = datetime.fromisoformat(today).date()
    days = min(max(0, (end - since.astimezone(UTC).date()).days), _DAYS_MAX)
    return [subjects.spend(domain, f"{end - timedelta(days=back):%Y-%m-%d}") for back in range(days, -1, -1)]
