"""Numbers in the registry: taken, contested, corrected, settled.

The rule: one source has one number for a week at a time, and another number of it is a correction with a document of
its own; two sources that differ are both contested until a person has settled it.
"""

import sqlite3
from collections.abc import Sequence
from datetime import date

import msgspec

from packs.outbreak.arguments import CorrectArgs, RecordArgs, SeriesArgs, SettleArgs
from packs.outbreak.registry.rules import RuleViolation
from packs.outbreak.verdict import Said
from packs.outbreak.weeks import WINDOW, is_over, week_number
from packs.outbreak.wire import AlertState, Claim, ClaimState, SeriesView, WeekView, series_digest

_COLUMNS = "week, source, revision, count, document, row, received, state"
_LIVE = (ClaimState.STANDING, ClaimState.CONTESTED)


def record(database: sqlite3.Connection, args: RecordArgs) -> ClaimState:
    """Take a first number of a source for a week; says whether it stands or is contested."""
    _check(database, args)
    known = [claim for claim in live(database, args) if claim.source == args.source]
    if known and known[0].count == args.count:
        raise RuleViolation("already_known", f"{args.source} has {args.count} for {args.week} already")
    if known:
        raise RuleViolation("not_a_correction", f"{args.source} has {known[0].count} for {args.week}: correct it")
    return _insert(database, args, 1)


def correct(database: sqlite3.Connection, args: CorrectArgs) -> ClaimState:
    """Put another number of the same source in place of one that stands; alerts that rest on it come into review."""
    _check(database, args)
    known = [claim for claim in live(database, args) if claim.source == args.source]
    if not known or known[0].revision != args.replaces:
        has = f"revision {known[0].revision}" if known else "none"
        raise RuleViolation("other_revision", f"{args.source} has {has} for {args.week}, not {args.replaces}")
    if known[0].document == args.document:
        raise RuleViolation("same_document", f"revision {args.replaces} comes from the same document")
    _mark(database, args, args.source, args.replaces, ClaimState.SUPERSEDED)
    state = _insert(database, args, args.replaces + 1)
    _review(database, args)
    return state


def settle(database: sqlite3.Connection, args: SettleArgs) -> ClaimState:
    """Let one of the contested numbers of a week stand, and reject those that differ from it."""
    claims = live(database, args)
    chosen = [claim for claim in claims if (claim.source, claim.revision) == (args.source, args.revision)]
    if not chosen or chosen[0].state is not ClaimState.CONTESTED:
        raise RuleViolation("not_contested", f"revision {args.revision} of {args.source} is not contested")
    for claim in claims:
        state = ClaimState.STANDING if claim.count == chosen[0].count else ClaimState.REJECTED
        _mark(database, args, claim.source, claim.revision, state)
    _review(database, args)
    return ClaimState.STANDING


def live(database: sqlite3.Connection, args: SeriesArgs) -> list[Claim]:
    """The numbers of a week that stand or are contested."""
    sql = (
        f"SELECT {_COLUMNS} FROM claim WHERE place = ? AND disease = ? AND number = ? AND state IN (?, ?) ORDER BY seq"
    )
    found = database.execute(sql, (args.place, args.disease, week_number(args.week), *_LIVE))
    return [_claim(row) for row in found.fetchall()]


def claims_of(database: sqlite3.Connection, place: str, disease: str) -> tuple[Claim, ...]:
    """All numbers of a series that ever came, in their order."""
    sql = f"SELECT {_COLUMNS} FROM claim WHERE place = ? AND disease = ? ORDER BY seq"
    return tuple(_claim(row) for row in database.execute(sql, (place, disease)).fetchall())


def series_view(database: sqlite3.Connection, place: str, disease: str, week: str) -> SeriesView:
    """A series up to a week, without its alerts."""
    if not database.execute("SELECT 1 FROM series WHERE place = ? AND disease = ?", (place, disease)).fetchone():
        return SeriesView(found=False)
    last = week_number(week)
    sql = f"""SELECT {_COLUMNS} FROM claim WHERE place = ? AND disease = ? AND number > ? AND number <= ?
              AND state IN (?, ?) ORDER BY number, seq"""
    rows = database.execute(sql, (place, disease, last - WINDOW, last, *_LIVE)).fetchall()
    claims = [_claim(row) for row in rows]
    sql = """SELECT week, signal, source, document FROM said
             WHERE place = ? AND disease = ? AND number BETWEEN ? AND ? ORDER BY seq"""
    heard = database.execute(sql, (place, disease, last - 1, last)).fetchall()
    said = tuple(Said(week=row[0], signal=row[1], source=row[2], document=row[3]) for row in heard)
    return SeriesView(
        found=True,
        digest=series_digest(claims, said),
        standing=tuple(claim for claim in claims if claim.state is ClaimState.STANDING),
        contested=tuple(claim for claim in claims if claim.state is ClaimState.CONTESTED),
        said=said,
    )


def week_view(database: sqlite3.Connection, args: SeriesArgs, source: str) -> WeekView:
    """What bears on a number of this source for this week."""
    sql = "SELECT ceiling FROM series WHERE place = ? AND disease = ?"
    series = database.execute(sql, (args.place, args.disease)).fetchone()
    if series is None:
        return WeekView(found=False)
    known = database.execute("SELECT channel, series FROM source WHERE name = ?", (source,)).fetchone()
    reports = known is not None and f"{args.place}/{args.disease}" in msgspec.json.decode(known[1])
    sql = "SELECT max(received) FROM claim WHERE place = ? AND disease = ? AND source = ?"
    last = database.execute(sql, (args.place, args.disease, source)).fetchone()[0]
    return WeekView(
        found=True,
        source_known=reports,
        channel=known[0] if known else "",
        ceiling=series[0],
        last_received=last or "",
        claims=tuple(live(database, args)),
    )


def _check(database: sqlite3.Connection, args: RecordArgs) -> None:
    """Raises ``RuleViolation`` for a number that cannot be: whoever sent it, and whoever let it pass."""
    view = week_view(database, args, args.source)
    if not view.found:
        raise RuleViolation("no_such_series", f"there is no series {args.place}/{args.disease}")
    if not view.source_known:
        raise RuleViolation("unknown_source", f"{args.source} does not report on {args.place}/{args.disease}")
    if args.count > view.ceiling:
        raise RuleViolation("out_of_range", f"{args.count} is above the ceiling of {view.ceiling} cases a week")
    if not is_over(args.week, date.fromisoformat(args.received)):
        raise RuleViolation("week_not_over", f"{args.week} was not over on {args.received}")
    if args.received < view.last_received:
        raise RuleViolation("back_in_time", f"{args.source} has reported on {view.last_received} already")


def _insert(database: sqlite3.Connection, args: RecordArgs, revision: int) -> ClaimState:
    sql = """INSERT INTO claim (place, disease, number, week, source, revision, count, document, row, received, state)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    values = (args.place, args.disease, week_number(args.week), args.week, args.source, revision)
    database.execute(sql, (*values, args.count, args.document, args.row, args.received, ClaimState.STANDING))
    claims = live(database, args)
    state = _agreed(claims)
    for claim in claims:
        _mark(database, args, claim.source, claim.revision, state)
    return state


def _agreed(claims: Sequence[Claim]) -> ClaimState:
    return ClaimState.STANDING if len({claim.count for claim in claims}) == 1 else ClaimState.CONTESTED


def _mark(database: sqlite3.Connection, args: SeriesArgs, source: str, revision: int, state: ClaimState) -> None:
    sql = """UPDATE claim SET state = ? WHERE place = ? AND disease = ? AND number = ? AND source = ?
             AND revision = ?"""
    database.execute(sql, (state, args.place, args.disease, week_number(args.week), source, revision))


def _review(database: sqlite3.Connection, args: SeriesArgs) -> None:
    """Alerts that rest on this week are to be judged again."""
    number = week_number(args.week)
    sql = """UPDATE alert SET state = ? WHERE place = ? AND disease = ? AND number >= ? AND number < ? AND state = ?"""
    about = (args.place, args.disease, number, number + WINDOW)
    database.execute(sql, (AlertState.IN_REVIEW, *about, AlertState.PUBLISHED))


def _claim(row: Sequence[str | int]) -> Claim:
    return msgspec.convert(dict(zip(_COLUMNS.split(", "), row, strict=True)), Claim)
