"""``workmesh models``: which models are asked at what price, what they have cost, and one to try things with."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.table import Table

from console.scripted import scripted
from console.spending import KEYS, LedgerView, read_ledger, windows_of
from mesh import subjects
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.inference import Mode, Tier
from mesh.operator import operator_bus
from mesh.pace import Pace, pace_key
from mesh.permissions import kv_stream
from mesh.prices import Rates, load_prices
from mesh.settings import Settings
from mesh.spending import dollars, micro_usd


class ModelLine(msgspec.Struct, frozen=True, kw_only=True):
    """A tier: its model, what a million tokens of each kind cost in micro-dollars, and whether it can be asked now."""

    tier: Tier
    model: str
    prices: str
    rates: dict[Mode, Rates]
    booked_s: float
    blocked_s: float
    trouble: str


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of a domain today, in micro-dollars. ``open`` is what calls under way may cost."""

    domain: str
    day: str
    budget: int
    spent: int
    open: int
    at_limit: str


class ModelsView(msgspec.Struct, frozen=True, kw_only=True):
    """The models of a site, and today's budgets."""

    use: str
    models: list[ModelLine]
    budgets: list[BudgetLine]


@click.group()
def models() -> None:
    """Show which models are asked, and what they have cost."""


models.add_command(scripted)


@models.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """Show the tiers with their models and prices, and today's budgets."""
    view = run_async(_list(config))
    if as_json:
        print_json(view)
        return
    table = Table("tier", "model", "$/M in", "$/M out", "$/M cached", "prices of", "now")
    for line in view.models:
        rates = line.rates[Mode.INTERACTIVE]
        costs = (dollars(rate) for rate in (rates.tokens_in, rates.tokens_out, rates.tokens_cached))
        table.add_row(line.tier, line.model, *costs, line.prices, _state(line))
    stdout().print(table)
    budgets = Table("domain", "day", "budget", "spent", "under way", "at the limit")
    for each in view.budgets:
        amounts = (dollars(each.budget), dollars(each.spent), dollars(each.open))
        budgets.add_row(each.domain, each.day, *amounts, each.at_limit)
    stdout().print(budgets if view.budgets else "nothing spent today")


@models.command()
@click.option("--by", type=click.Choice(KEYS), default="domain", show_default=True, help="What the lines are sums of.")
@click.option("--since", type=click.DateTime(), help="Only what was answered since then (UTC).")
@click.option("--check", is_flag=True, help="Hold the windows of spending against the completions; 1 if they differ.")
@json_option
@config_option
def ledger(by: str, since: datetime | None, check: bool, as_json: bool, config: Path | None) -> None:
    """Add up what models have cost, from the completions in the journal."""
    view = run_async(_ledger(by, since.replace(tzinfo=UTC) if since else None, config))
    if as_json:
        print_json(view)
    else:
        _show(view, check=check)
    if check and not view.agrees:
        wrong = ", ".join(f"{each.domain} {each.day}" for each in view.windows if not each.agrees)
        raise WorkmeshError(f"what windows say was spent is not what completions cost: {wrong}")


def _show(view: LedgerView, *, check: bool) -> None:
    table = Table(view.by, "answers", "reused", "calls", "in", "cached", "written", "out", "cost", "of it uncertain")
    for line in (*view.lines, view.total):
        counts = (line.completions, line.reused, line.calls)
        tokens = (line.tokens_in, line.tokens_cached, line.tokens_written, line.tokens_out)
        amounts = (dollars(line.cost_micro_usd), dollars(line.uncertain_micro_usd))
        table.add_row(line.key, *map(str, (*counts, *tokens)), *amounts)
    out = stdout()
    out.print(table)
    if view.completed:
        out.print(f"{view.completed} of these tasks completed: {dollars(view.per_completed_micro_usd)} each")
    if owed := sum(window.open for window in view.windows):
        out.print(f"calls under way may cost {dollars(owed)} more")
    for window in view.windows if check else ():
        said = "agrees" if window.agrees else f"DIFFERS from its completions, {dollars(window.completions)}"
        out.print(f"{window.domain} {window.day}: spent {dollars(window.spent)}, {said}")


async def _ledger(by: str, since: datetime | None, config: Path | None) -> LedgerView:
    async with operator_bus(config) as (_, bus):
        return await read_ledger(bus, by, since)


async def _list(config: Path | None) -> ModelsView:
    async with operator_bus(config) as (settings, bus):
        day = f"{now():%Y-%m-%d}"
        windows = await windows_of(bus, day)
        budgets = []
        for domain in sorted(windows.keys() | settings.models.domains.keys()):
            budget, window = settings.models.budget_of(domain), windows.get(domain)
            budgets.append(
                BudgetLine(
                    domain=domain,
                    day=day,
                    budget=micro_usd(budget.usd_per_day),
                    spent=window.spent if window else 0,
                    open=window.taken - window.spent if window else 0,
                    at_limit=budget.at_limit,
                )
            )
        return ModelsView(use=settings.models.use, models=await _models(settings, bus), budgets=budgets)


async def _models(settings: Settings, bus: Bus) -> list[ModelLine]:
    prices = load_prices(settings.models.prices)
    lines = []
    for tier in Tier:
        model = str(getattr(settings.models, tier))
        price, pace, at = prices.of(model), await _pace(bus, model), now().timestamp()
        lines.append(
            ModelLine(
                tier=tier,
                model=model,
                prices=price.date,
                rates=price.rates,
                booked_s=round(max(0.0, max(pace.requests_until, pace.tokens_until) - at), 1),
                blocked_s=round(max(0.0, pace.blocked_until - at), 1),
                trouble=pace.trouble,
            )
        )
    return lines


async def _pace(bus: Bus, model: str) -> Pace:
    name = f"$KV.{subjects.MODELS_BUCKET}.pace.{pace_key(model)}"
    found = await bus.last(kv_stream(subjects.MODELS_BUCKET), name)
    return msgspec.json.decode(found.data, type=Pace) if found is not None and found.data else Pace()


def _state(line: ModelLine) -> str:
    if line.blocked_s:
        return f"left alone for {line.blocked_s:g} s: {line.trouble}"
    return line.trouble or f"ready; booked {line.booked_s:g} s of 60"
