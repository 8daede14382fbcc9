"""The page that explains an alert: one HTML document, without scripts or anything from elsewhere.

The rule: whatever stands on it is escaped; the policy in its head lets no script run even so. A pure function of what
the registry holds when the alert is published.
"""

from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from packs.outbreak.arguments import PublishArgs
from packs.outbreak.detectors.reading import Reading, State
from packs.outbreak.picture import draw
from packs.outbreak.verdict import REPORT
from packs.outbreak.weeks import week_number
from packs.outbreak.wire import AlertLine, AlertState, SeriesView

BANNER = "<!-- state -->"  # what has become of the alert goes here when the page is served; it is not part of the page

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ccc;padding:.25rem .6rem;
text-align:left;vertical-align:top}td:first-child{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.8em;
overflow-wrap:anywhere}.alarm{color:#b00020;font-weight:600}.quiet{color:#1f5fa8}.silent{color:#666}
.banner{border:2px solid #b00020;padding:.5rem 1rem;margin:1rem 0}svg{max-width:100%;height:auto}
"""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert was published on."""

    args: PublishArgs
    view: SeriesView
    approved_by: tuple[str, ...]


def render(evidence: Evidence) -> str:
    """The page."""
    args = evidence.args
    title = f"{args.disease} in {args.place}, {args.week}"
    parts = [
        f"<h1>Alert: {_t(title)}</h1>{BANNER}",
        f"<p><strong>{args.count} cases</strong> were notified in week {_t(args.week)}. {_t(args.verdict)}.</p>",
        draw(evidence.view.standing, args.readings, args.week),
        "<h2>What each detector says</h2>",
        _readings(args.readings),
        "<h2>What would have changed the verdict</h2>",
        _counterfactual(args),
        "<h2>Who approved it</h2>",
        f"<p>{_t(' and '.join(evidence.approved_by))}, each with a signature of their own, after the consensus had "
        "been computed again from the numbers below.</p>",
        "<h2>Where the numbers come from</h2>",
        _provenance(evidence.view),
        f"<p>Digest of all that was judged: <code>{_t(args.series)}</code></p>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><meta name="viewport" content="width=device-width"><title>Alert: {_t(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def served(page: str, line: AlertLine) -> str:
    """The page as it is shown now: what was published, and above it what has become of it."""
    return page.replace(BANNER, _banner(line), 1)


def index(lines: Sequence[AlertLine]) -> str:
    """The list of all alerts, the withdrawn ones too."""
    rows = [
        (f'<a href="/alerts/{_t(line.alert)}">{_t(line.alert)}</a>', _t(line.week), _t(line.state), _t(line.reason))
        for line in reversed(lines)
    ]
    body = _table(("alert", "week", "state", ""), rows) if rows else "<p>There are none.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Alerts</title><style>{_STYLE}</style>'
        f"</head><body><h1>Alerts</h1>{body}</body></html>\n"
    )


def _banner(line: AlertLine) -> str:
    match line.state:
        case AlertState.WITHDRAWN:
            text = f"Withdrawn by {' and '.join(line.withdrawn_by)}: {line.reason}"
        case AlertState.IN_REVIEW:
            text = "In review: a number that this alert rests on was corrected."
        case AlertState.PUBLISHED:
            text = line.reason
    return f'<p class="banner">{_t(text)}</p>' if text else ""


def _readings(readings: Iterable[Reading]) -> str:
    rows = [
        (
            _t(reading.detector),
            _t(reading.family),
            f'<span class="{_t(reading.state)}">{_t(reading.state)}</span>',
            *_numbers(reading),
            _t(reading.note),
        )
        for reading in readings
    ]
    head = ("detector", "family", "says", "expected", "value", "threshold", "alarm from (cases)", "")
    return _table(head, rows)


def _numbers(reading: Reading) -> tuple[str, str, str, str]:
    if reading.state is State.SILENT or reading.family == REPORT:
        return "", "", "", ""
    at = str(reading.alarm_at) if reading.alarm_at >= 0 else ""
    return f"{reading.expected:g}", f"{reading.value:g}", f"{reading.threshold:g}", at


def needed(readings: Iterable[Reading], quorum: int) -> int | None:
    """The least number of cases in the week with which so many families would have seen an alarm; ``None``: none.

    It is exact where there is consensus: a family whose limit nobody knows had too few cases for an alarm.
    """
    least: dict[str, int] = {}
    for reading in readings:
        heard = reading.family == REPORT
        at = 0 if heard and reading.state is State.ALARM else reading.alarm_at
        if at < 0:
            continue
        least[reading.family] = min(at, least.get(reading.family, at))
    ordered = sorted(least.values())
    return ordered[quorum - 1] if len(ordered) >= quorum else None


def _counterfactual(args: PublishArgs) -> str:
    least = needed(args.readings, args.quorum)
    if least is None or least == 0:
        return f"<p>{args.quorum} families agree whatever the count of this week alone had been.</p>"
    return (
        f"<p>{args.quorum} families of detectors had to agree. With fewer than <strong>{least}</strong> cases in "
        f"{_t(args.week)} instead of {args.count}, and all other numbers as they are, they would not have.</p>"
    )


def _provenance(view: SeriesView) -> str:
    """Every number that was judged, the latest first."""
    claims = sorted(view.standing, key=lambda claim: -week_number(claim.week))
    rows = [
        (
            _t(claim.week),
            str(claim.count),
            _t(claim.source),
            str(claim.revision),
            _t(claim.received),
            f"<code>{_t(claim.document)}</code> {_t(claim.row)}",
        )
        for claim in claims
    ]
    head = ("week", "cases", "source", "revision", "received", "document and row")
    recent, older = rows[:26], rows[26:]
    more = f"<details><summary>{len(older)} more weeks</summary>{_table(head, older)}</details>" if older else ""
    said = [
        (_t(each.source), _t(each.week), _t(each.signal), f"<code>{_t(each.document)}</code>") for each in view.said
    ]
    heard = "<h3>Bulletins</h3>" + _table(("authority", "week", "says", "document"), said) if said else ""
    return _table(head, recent) + more + heard


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{_t(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _t(text: str) -> str:
    return escape(str(text), quote=True)
