"""The back-test's tables in Markdown, and its picture as SVG."""

from collections.abc import Sequence
from html import escape

from packs.outbreak.backtest.measure import CONSENSUS, SEEDS, STRENGTHS, Line, Results

_WIDTH, _HEIGHT = 640, 300
_LEFT, _TOP, _PANEL, _GAP = 50, 30, 240, 70


def markdown(results: Results) -> str:
    """Both tables, the quorums, and the labels."""
    made = len(SEEDS) * len(STRENGTHS)
    outbreaks = sum(map(len, results.labels.values()))
    parts = [
        f"**Real outbreaks**: {outbreaks} in three places, 2004 to 2024\n",
        _table(results.real),
        f"\n**Made outbreaks**: {made}, put into the real counts of imported cases, 2004 to 2019\n",
        _table(results.made),
        "\n**Another quorum**: families that must agree\n",
        "| families | real: found | delay | false a year | made: found | delay | false a year |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for who, (real, second) in sorted(results.quorums.items(), key=lambda each: -each[1][0].false_alarms):
        name = f"{results.rules.quorum} (the default)" if who == CONSENSUS else who.split()[0]
        parts.append(f"| {name} | {_cells(real)} | {_cells(second)} |")
    parts.append("\n**What the rule found**\n")
    parts += [f"- {place}: {'; '.join(found)}" for place, found in results.labels.items()]
    return "\n".join(parts) + "\n"


def _table(lines: Sequence[Line]) -> str:
    rows = ["| who | family | found | within two weeks | median delay (weeks) | false alarms a year |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for line in lines:
        who, family = (f"**{line.who}**", "three of four") if line.who == CONSENSUS else (line.who, line.family)
        rows.append(
            f"| {who} | {family} | {line.found} of {line.outbreaks} | {line.by_week_2} "
            f"| {line.delay_weeks:g} | {line.a_year:.2f} |"
        )
    return "\n".join(rows)


def _cells(line: Line) -> str:
    return f"{line.found} of {line.outbreaks} | {line.delay_weeks:g} | {line.a_year:.2f}"


def picture(results: Results) -> str:
    """Found against false alarms, a panel a table: up and to the left is better."""
    panels = [("real outbreaks", results.real), ("made outbreaks", results.made)]
    drawn = "".join(_panel(title, lines, n) for n, (title, lines) in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>{drawn}</svg>\n'
    )


def _panel(title: str, lines: Sequence[Line], number: int) -> str:
    left, bottom = _LEFT + number * (_PANEL + _GAP), _TOP + _PANEL - 20
    most = max(line.a_year for line in lines) * 1.15 or 1.0
    marks = [
        f'<text x="{left + _PANEL / 2:.0f}" y="18" text-anchor="middle" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{left} {_TOP}V{bottom}H{left + _PANEL}" fill="none" stroke="#444444"/>',
        f'<text x="{left + _PANEL / 2:.0f}" y="{bottom + 32}" text-anchor="middle">'
        "false alarms a year and series</text>",
        f'<text transform="translate({left - 34} {(_TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "found within two weeks</text>",
    ]
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * (bottom - _TOP)
        marks.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{part:.0%}</text>')
        x = left + part * _PANEL
        marks.append(f'<text x="{x:.0f}" y="{bottom + 15}" text-anchor="middle">{part * most:.2f}</text>')
    lowest = float(_TOP)
    for line in sorted(lines, key=lambda line: (-line.by_week_2, line.a_year)):
        x = left + line.a_year / most * _PANEL
        y = bottom - line.by_week_2 / line.outbreaks * (bottom - _TOP)
        label = max(y + 4, lowest + 13)  # one below the other: none covers another
        lowest = label
        colour, weight = ("#b00020", "bold") if line.who == CONSENSUS else ("#1f5fa8", "normal")
        side, anchor = (-12, "end") if x > left + _PANEL * 0.6 else (12, "start")
        marks.append(
            f'<path d="M{x:.1f} {y:.1f}L{x + side * 0.8:.1f} {label - 4:.1f}" stroke="{colour}" stroke-width="0.5"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            f'<text x="{x + side:.1f}" y="{label:.1f}" fill="{colour}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(line.who)}</text>'
        )
    return "".join(marks)
