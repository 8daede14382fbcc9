"""Prometheus rules from the objectives: error ratios over windows, and alerts on how fast the error budget burns.

The rule: an alert fires when the budget burns too fast over a long window and still does over a short one (Google,
The Site Reliability Workbook, chapter 5, table 5-8); a burn that no error rate can reach is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from console.slo.alerts import ALERTS, PAGE, TICKET, Alert
from console.slo.objectives import Objective

RECORD = "workmesh:slo_errors:ratio_rate"
LEFT = "workmesh:slo_budget_left:ratio"
RUNBOOKS = "docs/operations/"
_HEAD = "# Made by `workmesh slo rules` from the objectives; change those, and make it anew.\n"


@dataclass(frozen=True, slots=True)
class Burn:
    """So many times as fast as the budget lasts for its window, over a long and a short window."""

    factor: float
    long: str
    short: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", PAGE),
    Burn(6, "6h", "30m", PAGE),
    Burn(3, "1d", "2h", TICKET),
    Burn(1, "3d", "6h", TICKET),
)
_FAST = ("5m", "30m", "1h", "2h", "6h")
_SLOW = ("1d", "3d")


@dataclass(frozen=True, slots=True)
class Links:
    """Where the pages of alerts and the dashboards are."""

    runbooks: str = RUNBOOKS
    grafana: str = ""

    def of(self, alert: str, dashboard: str) -> dict[str, str]:
        """The annotations of an alert that lead somewhere."""
        return {"runbook_url": f"{self.runbooks}{alert}.md", "dashboard_url": f"{self.grafana}/d/{dashboard}"}


def rules(objectives: Sequence[Objective], links: Links = Links(), *, slow: str = "5m") -> dict[str, Any]:
    """All groups of rules. Windows of days are evaluated at the interval ``slow``: they read that much."""
    groups = [{"name": "workmesh-slo", "rules": [_record(each, w) for each in objectives for w in _FAST]}]
    long = [rule for each in objectives for rule in _slow_rules(each)]
    groups.append({"name": "workmesh-slo-days", "interval": slow, "rules": long})
    groups.append({"name": "workmesh-measures", "rules": _measures()})
    burning = [rule for each in objectives for rule in _burn_alerts(each, links)]
    groups.append({"name": "workmesh-slo-alerts", "rules": burning})
    groups.append({"name": "workmesh-alerts", "rules": [_alert(each, links) for each in ALERTS]})
    return {"groups": groups}


def render(found: dict[str, Any]) -> str:
    """The rules as the file that Prometheus reads."""
    return _HEAD + yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=10_000)


def _record(objective: Objective, window: str) -> dict[str, Any]:
    labels = {"slo": objective.name}
    return {"record": f"{RECORD}{window}", "expr": objective.sli.errors(window), "labels": labels}


def _slow_rules(objective: Objective) -> Iterable[dict[str, Any]]:
    windows = dict.fromkeys((*_SLOW, objective.window))
    yield from (_record(objective, window) for window in windows)
    left = f'1 - {RECORD}{objective.window}{{slo="{objective.name}"}} / {objective.budget:g}'
    yield {"record": LEFT, "expr": left, "labels": {"slo": objective.name}}


def _measures() -> list[dict[str, Any]]:
    """Ratios that dashboards show and people ask for, of more than one metric."""
    words = 'workmesh_approval_words_total{word=~"reject|correct"}', "workmesh_approval_words_total"
    over, all_ = (f"sum by (tool, policy) (increase({each}[1d]))" for each in words)
    cost = "sum by (domain) (increase(workmesh_model_cost_micro_usd_total[1d])) / 1e6"
    done = 'sum by (domain) (increase(workmesh_outcomes_total{status="completed"}[1d]))'
    return [
        {"record": "workmesh:overrides:ratio1d", "expr": f"{over} / ({all_} > 0)"},
        {"record": "workmesh:cost_per_success:usd1d", "expr": f"{cost} / ({done} > 0)"},
    ]


def _burn_alerts(objective: Objective, links: Links) -> Iterable[dict[str, Any]]:
    for severity in (PAGE, TICKET):
        burns = [burn for burn in BURNS if burn.severity == severity and burn.factor * objective.budget < 1]
        if not burns:
            continue
        alert = Alert(
            objective.alert,
            " or ".join(_burning(objective, burn) for burn in burns),
            "2m" if severity == PAGE else "15m",
            severity,
            f"{objective.title} ({objective.objective:g} %): the error budget of {objective.window} burns fast, with "
            "{{ $value | humanizePercentage }} errors",
            objective.dashboard,
        )
        yield _alert(alert, links, slo=objective.name)


def _burning(objective: Objective, burn: Burn) -> str:
    # Compared with a product: so a reader sees factor and budget.
    over = f'{{slo="{objective.name}"}} > {burn.factor:g} * {objective.budget:g}'
    return f"({RECORD}{burn.long}{over} and {RECORD}{burn.short}{over})"


def _alert(alert: Alert, links: Links, **labels: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.holds,
        "labels": {"severity": alert.severity, **labels},
        "annotations": {"summary": alert.summary, **links.of(alert.name, alert.dashboard)},
    }
