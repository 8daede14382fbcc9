"""The file of objectives: what is promised, over which window, and what it is measured by (SRE workbook, chapter 2).

The rule: a file that would measure nothing is refused, with the objective's name and what was expected.
"""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from mesh import metrics
from mesh.errors import SettingsError

SHIPPED = Path(__file__).with_name("objectives.yaml")

_NAME = re.compile(r"[a-z][a-z0-9\-]{0,39}")
_ALERT = re.compile(r"[A-Z][A-Za-z0-9]{2,59}")
_SELECTOR = re.compile(r"(?P<metric>[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^{}]*\})?")
_WINDOW = re.compile(r"[1-9][0-9]{0,2}[hdw]")


class Sli(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted: ``good`` or ``bad`` of ``total``, or a histogram's share within ``seconds``."""

    good: str = ""
    bad: str = ""
    total: str = ""
    histogram: str = ""
    seconds: float = 0.0
    matching: str = ""

    def errors(self, window: str) -> str:
        """The share of errors over a window, as PromQL; without a value where nothing was counted."""
        if self.histogram:
            le = f'le="{self.seconds}"'  # a bound as the client writes it: 5.0, 86400.0
            labels = ", ".join(filter(None, (self.matching, le)))
            good = f"{self.histogram}_bucket{{{labels}}}"
            total = f"{self.histogram}_count" + (f"{{{self.matching}}}" if self.matching else "")
        else:
            good, total = self.good, self.total
        all_ = f"(sum(rate({total}[{window}])) > 0)"
        if self.bad:
            return f"(sum(rate({self.bad}[{window}])) or vector(0)) / {all_}"
        return f"1 - (sum(rate({good}[{window}])) or vector(0)) / {all_}"


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One objective. ``objective`` is in per cent; ``dashboard`` is where an alert leads."""

    name: str
    title: str
    alert: str
    objective: Annotated[float, msgspec.Meta(gt=0, lt=100)]
    sli: Sli
    window: str = "30d"
    dashboard: str = "workmesh-overview"

    @property
    def budget(self) -> float:
        """The share of errors that is allowed."""
        return round(1 - self.objective / 100, 9)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    objectives: tuple[Objective, ...]


def read_objectives(path: Path = SHIPPED) -> tuple[Objective, ...]:
    """The objectives of a file; raises ``SettingsError`` naming the one that is wrong and why."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read the objectives {path}: {error.strerror}") from error
    try:
        found = msgspec.convert(yaml.safe_load(text), _File).objectives
    except yaml.YAMLError as error:
        raise SettingsError(f"the objectives {path} are no YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"the objectives {path}: {error}") from error
    for each in found:
        if wrong := fault(each):
            raise SettingsError(f"objective {each.name!r} of {path}: {wrong}")
    for what in ("name", "alert"):
        names = [getattr(each, what) for each in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError(f"the objectives {path}: {what} {twice!r} is there twice")
    return found


def fault(objective: Objective) -> str:
    """What is wrong with an objective, in words; "" when nothing is."""
    sli = objective.sli
    if not _NAME.fullmatch(objective.name):
        return "a name is a-z 0-9 and -, at most 40"
    if not _ALERT.fullmatch(objective.alert):
        return f"alert {objective.alert!r}: expected a name such as TasksSlow"
    if not _WINDOW.fullmatch(objective.window):
        return f"window {objective.window!r}: expected a number of hours, days or weeks such as 30d"
    if bool(sli.histogram) == bool(sli.total) or (sli.total and bool(sli.good) == bool(sli.bad)):
        return "sli: expected good and total, bad and total, or histogram and seconds"
    return _histogram_fault(sli) if sli.histogram else _counters_fault(sli)


def _counters_fault(sli: Sli) -> str:
    for selector in (sli.good or sli.bad, sli.total):
        if not (found := _SELECTOR.fullmatch(selector)):
            return f"sli: {selector!r} is no selector of one metric"
        if wrong := _unknown(found["metric"].removesuffix("_total")):
            return wrong
    return ""


def _histogram_fault(sli: Sli) -> str:
    if wrong := _unknown(sli.histogram):
        return wrong
    metric = declared().get(sli.histogram)
    if metric is None:
        return ""
    if not isinstance(metric, Histogram):
        return f"sli: {sli.histogram} is no histogram"
    bounds = [bound for bound in metric._upper_bounds if bound != float("inf")]
    if sli.seconds not in bounds:
        return (
            f"sli: {sli.seconds:g} s is no bound of {sli.histogram}: it has {', '.join(f'{each:g}' for each in bounds)}"
        )
    return ""


def _unknown(name: str) -> str:
    """Whether a metric by a name of ours is none; those of other systems are not known here."""
    is_ours = name.startswith("workmesh_")
    return f"sli: there is no metric {name}" if is_ours and name not in declared() else ""


def declared() -> dict[str, MetricWrapperBase]:
    """Every metric of ours by its name, without the ``_total`` of counters."""
    return {item._name: item for item in vars(metrics).values() if isinstance(item, MetricWrapperBase)}
