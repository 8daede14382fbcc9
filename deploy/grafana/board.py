"""What a dashboard is made of, as data, and the Grafana dashboard made of that.

The rule: every query is PromQL over metrics that ``mesh.metrics`` declares or rules record; ``$domain`` is the only
variable beside the data source.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

Kind = Literal["lines", "number", "bars"]
AnyPanel = timeseries.Panel | stat.Panel | bargauge.Panel

TAG = "workmesh"
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
WIDE = 24


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the name of its series, such as ``{{stage}}``."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``unit`` is Grafana's name; ``width`` is of 24 columns; ``says`` is shown at its corner."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    says: str = ""
    kind: Kind = "lines"
    width: int = 8
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. ``uid`` is its place in Grafana, which alerts link to."""

    uid: str
    title: str
    says: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        """All panels, in order."""
        return [panel for row in self.rows for panel in row.panels]


def build(board: Board) -> Dashboard:
    """The dashboard as Grafana knows it."""
    made = (
        dashboard.Dashboard(f"Workmesh: {board.title}")
        .uid(board.uid)
        .description(board.says)
        .tags([TAG])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(_domains())
        .link(dashboard.DashboardLink("Workmesh").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
    )
    number_ = itertools.count(1)
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title).id(next(number_)))
        for panel in row.panels:
            made = made.with_panel(_panel(panel).id(next(number_)))
    return made.build()


def quantile(share: float, histogram: str, by: str, where: str = "", window: str = "$__rate_interval") -> str:
    """The query for a quantile of a histogram, apart by these labels."""
    selector = f"{{{where}}}" if where else ""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({histogram}_bucket{selector}[{window}])))"


def probed(gauge: str) -> str:
    """The least of a gauge among those that have probed memory: every process has the series, at 0."""
    return f"min({gauge} and on (instance) sum by (instance) (workmesh_memory_probes_total) > 0)"


def lines(title: str, unit: str, *queries: Query | str, says: str = "", width: int = 8) -> Panel:
    """A panel with lines over time; a query alone is named by Grafana."""
    return Panel(title, unit, _queries(queries), says, "lines", width)


def number(title: str, unit: str, *queries: Query | str, says: str = "", width: int = 6) -> Panel:
    """A panel with one large number a series."""
    return Panel(title, unit, _queries(queries), says, "number", width)


def _queries(given: Sequence[Query | str]) -> tuple[Query, ...]:
    return tuple(each if isinstance(each, Query) else Query(each) for each in given)


def _domains() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("domain")
        .label("Domain")
        .datasource(SOURCE)
        .query("label_values(workmesh_outcomes_total, domain)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel) -> AnyPanel:
    made = _kind(panel).title(panel.title).description(panel.says).unit(panel.unit).datasource(SOURCE)
    made = made.span(panel.width).height(5 if panel.kind == "number" else 8)
    if panel.kind != "number" or panel.unit != "s":
        made = made.min(0)
    if panel.top is not None:
        made = made.max(panel.top)
    for ref, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).ref_id(ref).range()
        made = made.with_target(target.legend_format(query.legend) if query.legend else target)
    return made


def _kind(panel: Panel) -> AnyPanel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    if panel.kind == "number":
        shown = BigValueTextMode.AUTO
        large = stat.Panel().reduce_options(last).graph_mode(BigValueGraphMode.AREA).text_mode(shown)
        return large.color_mode(BigValueColorMode.NONE)
    if panel.kind == "bars":
        return bargauge.Panel().reduce_options(last).orientation(VizOrientation.HORIZONTAL)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    return timeseries.Panel().legend(legend.show_legend(True)).fill_opacity(8).line_width(1)
