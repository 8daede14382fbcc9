"""The registry's tools: its changes, and the two readings that plans are made with.

The rule: every change goes out with its key, its last moment, and the people who approved it.
"""

import msgspec

from mesh.tools import Recovery, Risk, Tool, ToolCall
from packs.outbreak.arguments import CHANGES, Change, Name, SeriesArgs
from packs.outbreak.client import RegistryClient
from packs.outbreak.judging import Judged, judge
from packs.outbreak.verdict import Rules
from packs.outbreak.wire import Answer, WeekView

REGISTRY = "registry"

_DOES = {
    "record": ("take a number with its source", Risk.LOW),
    "correct": ("put a source's corrected number in place of its earlier one", Risk.MEDIUM),
    "settle": ("say which of two contested numbers stands", Risk.MEDIUM),
    "publish": ("publish an alert with its evidence", Risk.HIGH),
    "uphold": ("note that a corrected alert stands", Risk.MEDIUM),
    "withdraw": ("mark an alert as withdrawn", Risk.HIGH),
    "file": ("file what an authority says in a bulletin", Risk.LOW),
    "hand-over": ("have a person read a bulletin", Risk.LOW),
}
_TIMEOUT_S = 5.0  # the registry answers in milliseconds; packs.outbreak.client gives up sooner
_JUDGE_S = 20.0  # the first judgement of a process loads statsmodels, on a busy machine


class CheckArgs(SeriesArgs, frozen=True, kw_only=True):
    """A number that came: of which series, week and source."""

    source: Name
    count: int


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a number would be: ``first``, ``same``, ``other`` than the source's own, or in ``conflict`` with another's.

    ``revision`` is the one that stands of this source, 0 where there is none.
    """

    found: bool
    standing: str
    revision: int
    has: int


async def _check(args: CheckArgs, call: ToolCall) -> Checked:
    registry: RegistryClient = call.system
    return checked(await registry.week(args.place, args.disease, args.week, args.source), args.source, args.count)


def checked(view: WeekView, source: str, count: int) -> Checked:
    """Hold a number against those that there are of its week."""
    own = next((claim for claim in view.claims if claim.source == source), None)
    if own is not None:
        standing = "same" if own.count == count else "other"
        return Checked(found=view.found, standing=standing, revision=own.revision, has=own.count)
    conflict = any(claim.count != count for claim in view.claims)
    return Checked(found=view.found, standing="conflict" if conflict else "first", revision=0, has=-1)


def make_tools(rules: Rules, covers_weeks: int) -> tuple[Tool, ...]:
    """All tools; ``rules`` are those of consensus."""

    async def assess(args: SeriesArgs, call: ToolCall) -> Judged:
        registry: RegistryClient = call.system
        view = await registry.series(args.place, args.disease, args.week)
        return await judge(view, args.place, args.disease, args.week, rules, covers_weeks)

    reading = Tool(
        name="outbreak.assess",
        args=SeriesArgs,
        run=assess,
        recovery=Recovery.IDEMPOTENT,
        target=REGISTRY,
        timeout_s=_JUDGE_S,
        concurrency=4,
        read_only=True,
        description="what every detector says of a week, and whether they agree",
    )
    check = Tool(
        name="outbreak.check",
        args=CheckArgs,
        run=_check,
        recovery=Recovery.IDEMPOTENT,
        target=REGISTRY,
        timeout_s=_TIMEOUT_S,
        read_only=True,
        description="what is known of the week that a number is about",
    )
    return (*(_change_tool(kind) for kind in CHANGES), reading, check)


def _change_tool(kind: str) -> Tool:
    description, risk = _DOES[kind]

    async def run(args: Change, call: ToolCall) -> Answer:
        registry: RegistryClient = call.system
        return await registry.change(kind, args, call)

    return Tool(
        name=f"outbreak.{kind}",
        args=CHANGES[kind],
        run=run,
        recovery=Recovery.IDEMPOTENT,
        verify=_verify,
        target=REGISTRY,
        timeout_s=_TIMEOUT_S,
        description=description,
        risk=risk,
    )


async def _verify(_: msgspec.Struct, call: ToolCall) -> Answer | None:
    registry: RegistryClient = call.system
    return await registry.change_of(call.key)
