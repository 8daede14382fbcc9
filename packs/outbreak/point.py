"""The policy information point: what policy must know of a step, read now from the registry.

The rule: a verdict counts only as far as it comes out again here, from the registry's numbers at this moment; what
stands in the plan is compared with it, and believed in nothing.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar

import msgspec

from mesh.errors import NotSentError, RetryableError
from mesh.grounding import Sources
from mesh.pack import Sheet
from mesh.records import Context, Party, Plan, Step
from packs.outbreak.arguments import (
    CHANGES,
    Change,
    CorrectArgs,
    FileArgs,
    HandOverArgs,
    PublishArgs,
    RecordArgs,
    SettleArgs,
    UpholdArgs,
    WithdrawArgs,
    alert_id,
)
from packs.outbreak.client import RegistryClient
from packs.outbreak.events import (
    BULLETIN,
    CLOSED,
    CORRECTED,
    READ,
    REPORTED,
    WITHDRAWAL,
    BulletinRead,
    BulletinReceived,
    CountsCorrected,
    CountsReported,
    OfSeries,
    WeekClosed,
    WithdrawalRequested,
)
from packs.outbreak.facts import OutbreakFacts
from packs.outbreak.judging import Judged, judge
from packs.outbreak.tools import REGISTRY, checked
from packs.outbreak.verdict import Rules
from packs.outbreak.weeks import is_over
from packs.outbreak.wire import AlertState

SOURCE = "source"  # the kind of party that limits over time are counted by
RULES, COVERS = "rules", "covers_weeks"  # what ``connect`` hands over beside the registry, from the options

S = TypeVar("S", bound=msgspec.Struct)


async def read_facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """The facts of a step; raises ``RetryableError`` while the registry cannot tell."""
    args = _arguments(step)
    point = _Point(systems[REGISTRY], systems[RULES], systems[COVERS])
    try:
        facts, source = await point.facts(context, plan, args) if args is not None else (OutbreakFacts(), "")
    except NotSentError as error:
        raise RetryableError(str(error)) from error
    if step.compensation is not None:  # nothing of this pack is ever undone by a plan
        facts = msgspec.structs.replace(facts, as_asked=False)
    parties = (Party(kind=SOURCE, id=source),) if source else ()
    return Sheet(facts=msgspec.Raw(msgspec.json.encode(facts)), parties=parties, source="the registry")


class _Point:
    """Reads facts for one step."""

    def __init__(self, registry: RegistryClient, rules: Rules, covers_weeks: int) -> None:
        self._registry = registry
        self._rules = rules
        self._covers_weeks = covers_weeks

    async def facts(self, context: Context, plan: Plan, args: Change) -> tuple[OutbreakFacts, str]:
        """The facts, and the source that the step is about, if it is about one."""
        match args:
            case RecordArgs():
                return await self._of_number(context, args), args.source
            case SettleArgs():
                return await self._of_settling(context, args), ""
            case PublishArgs() | UpholdArgs():
                return await self._of_verdict(context, args), ""
            case WithdrawArgs():
                return await self._of_withdrawal(context, args), ""
            case FileArgs():
                return await self._of_bulletin(context, plan, args), args.source
            case HandOverArgs():
                return await self._of_hand_over(context, args), args.source

    async def _of_number(self, context: Context, args: RecordArgs) -> OutbreakFacts:
        """A number that came: it is the event's, from a source that may say it, and can be."""
        if isinstance(args, CorrectArgs):
            asked: CountsReported | None = _event(context, CORRECTED, CountsCorrected)
        else:
            asked = _event(context, REPORTED, CountsReported)
        view = await self._registry.week(args.place, args.disease, args.week, args.source)
        known = checked(view, args.source, args.count)
        right_revision = not isinstance(args, CorrectArgs) or args.replaces == known.revision
        return OutbreakFacts(
            as_asked=asked is not None and _repeats(args, asked) and right_revision,
            series_found=view.found,
            source_known=view.source_known,
            channel_ok=view.channel == context.event.source,
            in_range=0 <= args.count <= view.ceiling,
            in_time=is_over(args.week, date.fromisoformat(args.received)) and args.received >= view.last_received,
            standing=known.standing,
        )

    async def _of_settling(self, context: Context, args: SettleArgs) -> OutbreakFacts:
        """A contested number: whichever a person has chosen is one of those that are contested now."""
        asked = _event(context, CLOSED, WeekClosed)
        week = asked.week if asked else args.week
        view = await self._registry.series(args.place, args.disease, week)
        one_of = (args.week, args.source, args.revision)
        return OutbreakFacts(
            as_asked=asked is not None and (asked.place, asked.disease) == (args.place, args.disease),
            series_found=view.found,
            contested=len({claim.week for claim in view.contested}),
            as_judged=one_of in {(claim.week, claim.source, claim.revision) for claim in view.contested},
        )

    async def _of_verdict(self, context: Context, args: PublishArgs | UpholdArgs) -> OutbreakFacts:
        """A verdict to act on: computed again, from the numbers as they are now."""
        asked = _event(context, CLOSED, WeekClosed)
        judged = await self._judge(args.place, args.disease, args.week)
        own = args.alert == alert_id(args.place, args.disease, args.week)
        facts = _of_judged(judged)
        return msgspec.structs.replace(
            facts,
            as_asked=asked is not None and _repeats(args, asked) and own,
            as_judged=_as_judged(args, judged),
        )

    async def _of_withdrawal(self, context: Context, args: WithdrawArgs) -> OutbreakFacts:
        """An alert to withdraw, of the event's week; whether the detectors still agree on it decides by whom."""
        wanted: OfSeries | None = _event(context, WITHDRAWAL, WithdrawalRequested)
        if isinstance(wanted, WithdrawalRequested):
            said = args.reason == wanted.reason
        else:
            wanted, said = _event(context, CLOSED, WeekClosed), True
        if wanted is None:
            return OutbreakFacts()
        judged = await self._judge(wanted.place, wanted.disease, wanted.week)
        facts = _of_judged(judged)
        right = said and args.alert == alert_id(wanted.place, wanted.disease, wanted.week)
        if isinstance(wanted, WeekClosed):  # nobody asked: only an alert whose numbers were corrected is at stake
            right = right and judged.alert_state == AlertState.IN_REVIEW and not judged.consensus
        return msgspec.structs.replace(facts, as_asked=right, as_judged=True)

    async def _of_bulletin(self, context: Context, plan: Plan, args: FileArgs) -> OutbreakFacts:
        """What was read in a bulletin: the bulletin's own head, and words that stand in it."""
        read = _read(context, plan)
        view = await self._registry.week(args.place, args.disease, args.week, args.source)
        return OutbreakFacts(
            as_asked=read is not None and _repeats(args, read),
            series_found=view.found,
            source_known=view.source_known,
            channel_ok=view.channel == context.event.source,
            grounded=read is not None and all(map(Sources([read.text]).holds, (args.place, args.disease, args.quote))),
        )

    async def _of_hand_over(self, context: Context, args: HandOverArgs) -> OutbreakFacts:
        """A bulletin that a person reads: as it came, from wherever it came."""
        written = _event(context, BULLETIN, BulletinReceived)
        same = written is not None and _repeats(args, written)
        return OutbreakFacts(as_asked=same, series_found=True, source_known=True, channel_ok=True, grounded=same)

    async def _judge(self, place: str, disease: str, week: str) -> Judged:
        view = await self._registry.series(place, disease, week)
        return await judge(view, place, disease, week, self._rules, self._covers_weeks)


def _of_judged(judged: Judged) -> OutbreakFacts:
    return OutbreakFacts(
        series_found=judged.found,
        contested=judged.contested,
        complete=judged.complete,
        consensus=judged.consensus,
        families=len(judged.families),
        alert_state=judged.alert_state,
        covered=bool(judged.covered_by),
    )


def _as_judged(args: PublishArgs | UpholdArgs, judged: Judged) -> bool:
    """Whether the step says exactly what was computed just now, digest, readings and all."""
    same = (args.series, args.families, args.readings, args.quorum) == (
        judged.series,
        judged.families,
        judged.readings,
        judged.quorum,
    )
    if isinstance(args, PublishArgs):
        return same and (args.count, args.verdict) == (judged.count, judged.verdict)
    return same


def _read(context: Context, plan: Plan) -> BulletinRead | None:
    """What was read in the bulletin of this event, if its head is the event's own; or the event, if it came so."""
    direct = _event(context, READ, BulletinRead)
    if direct is not None:
        return direct
    written, understood = _event(context, BULLETIN, BulletinReceived), plan.understood
    if written is None or understood is None or understood.event_type != READ:
        return None
    read = _decoded(understood.data, BulletinRead)
    return read if read is not None and _repeats(written, read) else None


def _event(context: Context, name: str, kind: type[S]) -> S | None:
    """The event's data, if the event is of this type."""
    return _decoded(context.data, kind) if context.event.type == name else None


def _decoded(data: bytes | msgspec.Raw, kind: type[S]) -> S | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _arguments(step: Step) -> Change | None:
    """The step's arguments, or ``None`` when they are not its tool's, or the tool is no step."""
    kind = CHANGES.get(step.call.tool.removeprefix("outbreak."))
    return None if kind is None else _decoded(step.call.args, kind)


def _repeats(ours: msgspec.Struct, theirs: msgspec.Struct) -> bool:
    """Whether the two are equal in every field that they have in common."""
    common = set(ours.__struct_fields__).intersection(theirs.__struct_fields__)
    return all(getattr(ours, name) == getattr(theirs, name) for name in common)
