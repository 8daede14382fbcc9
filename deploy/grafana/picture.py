"""Draws a dashboard's panels as one SVG, from what a Prometheus answers: a tool for the documentation, not Grafana.

The rule: every line is a series of a query of the dashboard; nothing is drawn that was not answered. What comes from
Prometheus is escaped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Formatter
from typing import Any

from deploy.grafana.board import Board, Panel, Query

Ask = Callable[[str], Sequence[Mapping[str, Any]]]
"""The series of a query (variables filled in) over the time of the picture, as ``query_range`` answers them."""

_COLUMN, _GAP, _HEAD = 50, 12, 30
_HEIGHTS = {"number": 110, "bars": 240, "lines": 240}
_COLOURS = ("#3b6fb6", "#c2572b", "#3f8f5b", "#8a4fa3", "#b08a1e", "#5b6770", "#b23a5e", "#2d8c93")
_FIRST = _COLOURS[0]
_LEGEND = 6
_FONT = 'font-family="system-ui, sans-serif"'


@dataclass(frozen=True, slots=True)
class Line:
    """A series that was answered: its name, and values by time."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """Its last value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Box:
    """Where something is drawn."""

    x: float
    y: float
    width: float
    height: float


def draw(board: Board, ask: Ask) -> str:
    """The picture of a dashboard."""
    parts: list[str] = []
    y = float(_GAP)
    width = 24 * _COLUMN + _GAP
    parts.append(_text(_GAP, y + 16, f"Workmesh: {board.title}", 17, weight="600"))
    y += 30
    for row in board.rows:
        parts.append(_text(_GAP, y + 14, row.title, 13, weight="600", colour="#555"))
        y += _HEAD - 6
        x = 0
        tallest = 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest + _GAP, 0
            height = _HEIGHTS[panel.kind]
            box = Box(_GAP + x * _COLUMN, y, panel.width * _COLUMN - _GAP, height)
            parts += _panel(panel, box, [line for query in panel.queries for line in lines_of(query, ask)])
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest + _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:.0f}" {_FONT} role="img">'
    title = f"<title>{escape(board.title)}: {escape(board.says)}</title>"
    return "\n".join([head, title, f'<rect width="{width}" height="{y:.0f}" fill="#f4f5f7"/>', *parts, "</svg>\n"])


def lines_of(query: Query, ask: Ask) -> list[Line]:
    """The series of a query, those that end highest first; without what is no number."""
    found = []
    for series in ask(query.expr):
        points = [(float(at), float(value)) for at, value in series["values"]]
        finite = tuple(point for point in points if math.isfinite(point[1]))
        if finite:
            found.append(Line(_name(query.legend, series["metric"]), finite))
    return sorted(found, key=lambda line: (-line.last, line.name))


def _name(legend: str, labels: Mapping[str, str]) -> str:
    if not legend:
        return ""
    plain = legend.replace("{{", "{").replace("}}", "}")
    known = {field: labels.get(field, "") for _, field, _, _ in Formatter().parse(plain) if field}
    return plain.format(**known).strip()


def _panel(panel: Panel, box: Box, lines: Sequence[Line]) -> list[str]:
    frame = (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" fill="#fff" stroke="#ddd"/>'
    )
    parts = [frame, _text(box.x + 10, box.y + 20, panel.title, 12, weight="600")]
    if not lines:
        return [*parts, _text(box.x + 10, box.y + 50, "nothing yet", 12, colour="#888")]
    inner = Box(box.x + 10, box.y + 32, box.width - 20, box.height - 42)
    if panel.kind == "number":
        return [*parts, _text(inner.x, inner.y + 46, shown(lines[0].last, panel.unit), 36, colour=_COLOURS[0])]
    return parts + (_bars(panel, inner, lines) if panel.kind == "bars" else _lines(panel, inner, lines))


def _bars(panel: Panel, box: Box, lines: Sequence[Line]) -> list[str]:
    step = box.height / len(lines)
    top = panel.top or max(line.last for line in lines) or 1.0
    parts = []
    for number, line in enumerate(lines):
        y = box.y + number * step
        wide = (box.width - 190) * min(max(line.last / top, 0.0), 1.0)
        parts += [
            _text(box.x, y + step * 0.65, line.name, 11),
            f'<rect x="{box.x + 130}" y="{y + 3:.1f}" width="{wide:.1f}" height="{step - 6:.1f}" fill="{_FIRST}"/>',
            _text(box.x + box.width - 50, y + step * 0.65, shown(line.last, panel.unit), 11),
        ]
    return parts


def _lines(panel: Panel, box: Box, lines: Sequence[Line]) -> list[str]:
    named = min(len(lines), _LEGEND)
    plot = Box(box.x + 52, box.y, box.width - 56, box.height - 14 * ((named + 1) // 2) - 8)
    start = min(line.points[0][0] for line in lines)
    span = max(max(line.points[-1][0] for line in lines) - start, 1.0)
    top = max(max(value for _, value in line.points) for line in lines) * 1.1 or 1.0
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = plot.y + plot.height * (1 - share)
        parts += [
            f'<line x1="{plot.x}" x2="{plot.x + plot.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>',
            _text(plot.x - 6, y + 4, shown(top * share, panel.unit), 10, colour="#777", anchor="end"),
        ]
    for number, line in enumerate(lines):
        places = [
            f"{plot.x + plot.width * (at - start) / span:.1f},{plot.y + plot.height * (1 - max(value, 0) / top):.1f}"
            for at, value in line.points
        ]
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < named:
            x, y = box.x + (number % 2) * box.width / 2, plot.y + plot.height + 16 + 14 * (number // 2)
            more = f" and {len(lines) - named} more" if number == named - 1 and len(lines) > named else ""
            parts.append(f'<rect x="{x}" y="{y - 7:.1f}" width="8" height="8" fill="{colour}"/>')
            parts.append(_text(x + 13, y, (line.name or panel.title)[:32] + more, 10, colour="#444"))
    return parts


def shown(value: float, unit: str) -> str:
    """A value in its unit, as short as a dashboard shows it."""
    if unit == "percentunit":
        return f"{100 * value:.0f} %" if abs(value) >= 1 else f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    if unit == "currencyUSD":
        return f"${value:.3g}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" + ("/s" if unit == "ops" else "")


def _text(x: float, y: float, text: str, size: int, **how: str) -> str:
    colour, weight, anchor = how.get("colour", "#222"), how.get("weight", "400"), how.get("anchor", "start")
    head = f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'{head} text-anchor="{anchor}">{escape(text)}</text>'
