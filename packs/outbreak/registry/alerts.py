"""Alerts in the registry: published with their page and notices, reviewed, withdrawn; and what authorities say.

The rule: an alert is published on the numbers that were judged, with the names of two people, or not at all; it is
marked, never deleted.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from packs.outbreak.arguments import FileArgs, HandOverArgs, PublishArgs, UpholdArgs, WithdrawArgs, alert_id
from packs.outbreak.page import Evidence, render
from packs.outbreak.registry.claims import series_view
from packs.outbreak.registry.rules import RuleViolation
from packs.outbreak.weeks import week_number
from packs.outbreak.wire import AlertLine, AlertState, Notice, SeriesView

PEOPLE = 2

_COLUMNS = "alert, place, disease, week, state, approved_by, withdrawn_by, reason"
_encode = msgspec.json.encode


def publish(database: sqlite3.Connection, args: PublishArgs, approved_by: Sequence[str]) -> AlertState:
    """Put the alert on the page, with its evidence, and letters to the subscribers into the outbox."""
    if len(set(approved_by)) < PEOPLE:
        raise RuleViolation("not_approved", f"an alert needs {PEOPLE} people, not {len(set(approved_by))}")
    if args.alert != alert_id(args.place, args.disease, args.week):
        raise RuleViolation("other_alert", f"{args.alert} is not the alert of this series and week")
    if alert_line(database, args.alert) is not None:
        raise RuleViolation("already_published", f"there is an alert {args.alert}")
    view = _as_judged(database, args)
    page = render(Evidence(args=args, view=view, approved_by=tuple(approved_by)))
    sql = "INSERT INTO alert (alert, place, disease, number, week, state, page, approved_by) VALUES (?,?,?,?,?,?,?,?)"
    values = (args.alert, args.place, args.disease, week_number(args.week), args.week, AlertState.PUBLISHED)
    database.execute(sql, (*values, page, _encode(approved_by).decode()))
    subject = f"Alert: {args.disease} in {args.place}, {args.week}"
    body = f"{args.count} cases were notified in {args.week}.\n{args.verdict}\nEvidence: /alerts/{args.alert}\n"
    _notify(database, args.alert, args.place, args.disease, subject, body)
    return AlertState.PUBLISHED


def uphold(database: sqlite3.Connection, args: UpholdArgs) -> AlertState:
    """An alert in review stands, on the numbers as they are now. Its page tells what it was published on."""
    line = _require(database, args.alert, (AlertState.IN_REVIEW,))
    if args.alert != alert_id(args.place, args.disease, args.week):
        raise RuleViolation("other_alert", f"{args.alert} is not the alert of this series and week")
    _as_judged(database, args)
    reason = f"judged again after a correction, on the numbers {args.series}: it stands"
    database.execute(
        "UPDATE alert SET state = ?, reason = ? WHERE alert = ?", (AlertState.PUBLISHED, reason, line.alert)
    )
    return AlertState.PUBLISHED


def withdraw(database: sqlite3.Connection, args: WithdrawArgs, approved_by: Sequence[str]) -> AlertState:
    """Mark the alert, and write to those who were told of it."""
    line = _require(database, args.alert, (AlertState.PUBLISHED, AlertState.IN_REVIEW))
    if not approved_by:
        raise RuleViolation("not_approved", "a person withdraws an alert")
    sql = "UPDATE alert SET state = ?, withdrawn_by = ?, reason = ? WHERE alert = ?"
    database.execute(sql, (AlertState.WITHDRAWN, _encode(approved_by).decode(), args.reason, args.alert))
    subject = f"Withdrawn: {line.disease} in {line.place}, {line.week}"
    _notify(database, args.alert, line.place, line.disease, subject, f"The alert is withdrawn: {args.reason}\n")
    return AlertState.WITHDRAWN


def file(database: sqlite3.Connection, args: FileArgs) -> str:
    """Keep what an authority says of a series; a bulletin says one thing."""
    sql = "SELECT 1 FROM series WHERE place = ? AND disease = ?"
    if not database.execute(sql, (args.place, args.disease)).fetchone():
        raise RuleViolation("no_such_series", f"there is no series {args.place}/{args.disease}")
    sql = """INSERT OR IGNORE INTO said (place, disease, number, week, bulletin, source, document, signal, quote)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq"""
    about = (args.place, args.disease, week_number(args.week), args.week, args.bulletin, args.source)
    if database.execute(sql, (*about, args.document, args.signal, args.quote)).fetchone() is None:
        raise RuleViolation("already_filed", f"bulletin {args.bulletin} of {args.source} is filed already")
    return args.signal


def hand_over(database: sqlite3.Connection, args: HandOverArgs, approved_by: Sequence[str]) -> str:
    """Note that a person has read a bulletin; nothing is made of it."""
    sql = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?) RETURNING bulletin"
    values = (args.bulletin, args.source, args.document, ", ".join(approved_by))
    if database.execute(sql, values).fetchone() is None:
        raise RuleViolation("already_seen", f"bulletin {args.bulletin} of {args.source} was seen already")
    return "seen"


def alert_line(database: sqlite3.Connection, alert: str) -> AlertLine | None:
    """The alert of this id."""
    row = database.execute(f"SELECT {_COLUMNS} FROM alert WHERE alert = ?", (alert,)).fetchone()
    return None if row is None else _line(row)


def alerts_of(database: sqlite3.Connection, place: str = "", disease: str = "") -> tuple[AlertLine, ...]:
    """The alerts of a series, or all."""
    sql = f"SELECT {_COLUMNS} FROM alert WHERE ? IN (place, '') AND ? IN (disease, '') ORDER BY number, alert"
    return tuple(_line(row) for row in database.execute(sql, (place, disease)).fetchall())


def notices(database: sqlite3.Connection) -> tuple[Notice, ...]:
    """The outbox."""
    rows = database.execute("SELECT seq, alert, recipient, subject, body FROM notice ORDER BY seq").fetchall()
    return tuple(Notice(seq=row[0], alert=row[1], to=row[2], subject=row[3], body=row[4]) for row in rows)


def page_of(database: sqlite3.Connection, alert: str) -> str | None:
    """The page as it was rendered when the alert was published."""
    row = database.execute("SELECT page FROM alert WHERE alert = ?", (alert,)).fetchone()
    return None if row is None else str(row[0])


def _as_judged(database: sqlite3.Connection, args: PublishArgs | UpholdArgs) -> SeriesView:
    """The series, if it is the one that was judged; raises ``RuleViolation`` when a number has changed since."""
    view = series_view(database, args.place, args.disease, args.week)
    if not view.found or view.digest != args.series:
        raise RuleViolation("series_changed", f"the numbers of {args.place}/{args.disease} have changed since")
    if view.contested:
        raise RuleViolation("contested", f"{view.contested[0].week} is contested")
    return view


def _require(database: sqlite3.Connection, alert: str, states: Sequence[AlertState]) -> AlertLine:
    line = alert_line(database, alert)
    if line is None:
        raise RuleViolation("no_such_alert", f"there is no alert {alert}")
    if line.state not in states:
        raise RuleViolation("other_state", f"{alert} is {line.state}")
    return line


def _notify(database: sqlite3.Connection, alert: str, place: str, disease: str, subject: str, body: str) -> None:
    sql = "SELECT subscribers FROM series WHERE place = ? AND disease = ?"
    (subscribers,) = database.execute(sql, (place, disease)).fetchone()
    sql = "INSERT INTO notice (alert, recipient, subject, body) VALUES (?, ?, ?, ?)"
    people: list[str] = msgspec.json.decode(subscribers)
    database.executemany(sql, [(alert, person, subject, body) for person in people])


def _line(row: Sequence[str]) -> AlertLine:
    alert, place, disease, week, state, approved, withdrawn, reason = row
    return AlertLine(
        alert=alert,
        place=place,
        disease=disease,
        week=week,
        state=AlertState(state),
        approved_by=msgspec.json.decode(approved, type=tuple[str, ...]),
        withdrawn_by=msgspec.json.decode(withdrawn, type=tuple[str, ...]),
        reason=reason,
    )
