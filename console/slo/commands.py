"""``workmesh slo``: the objectives, the Prometheus rules made from them, and what is left of their budgets."""

from pathlib import Path

import click
from rich.table import Table

from console.slo.budget import budgets
from console.slo.objectives import SHIPPED, Sli, read_objectives
from console.slo.rules import RUNBOOKS, Links, render, rules
from console.targets import replace_file
from mesh.cli import json_option, print_json, run_async, stdout

file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SHIPPED,
    help="The file of objectives. Default: the one that ships.",
)


@click.group()
def slo() -> None:
    """Objectives of service, their Prometheus rules and error budgets."""


@slo.command("rules")
@file_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not to stdout.")
@click.option("--runbooks", default=RUNBOOKS, show_default=True, help="What the names of alerts' pages are put behind.")
@click.option("--grafana", default="", metavar="URL", help="Where Grafana is, for the links of alerts to dashboards.")
@click.option("--slow", default="5m", show_default=True, help="How often windows of days are evaluated.")
def rules_(path: Path, out: Path | None, runbooks: str, grafana: str, slow: str) -> None:
    """Write Prometheus rules: error ratios, alerts on burn rates, and all other alerts."""
    made = rules(read_objectives(path), Links(runbooks, grafana.rstrip("/")), slow=slow)
    text = render(made)
    if out is None:
        click.echo(text, nl=False)
        return
    replace_file(out, text.encode())
    click.echo(f"{out}: {sum(len(group['rules']) for group in made['groups'])} rules", err=True)


@slo.command()
@file_option
@json_option
def show(path: Path, as_json: bool) -> None:
    """Print the objectives."""
    found = read_objectives(path)
    if as_json:
        print_json(found)
        return
    table = Table("objective", "what", "at least", "over", "measured by", "alert")
    for each in found:
        table.add_row(each.name, each.title, f"{each.objective:g} %", each.window, _measure(each.sli), each.alert)
    stdout().print(table)


@slo.command()
@file_option
@click.option(
    "--prometheus", required=True, metavar="URL", help="The Prometheus to ask, such as http://localhost:9090."
)
@json_option
def status(path: Path, prometheus: str, as_json: bool) -> None:
    """Print what was measured, and what is left of each error budget."""
    found = run_async(budgets(prometheus, read_objectives(path)))
    if as_json:
        print_json(found)
        return
    table = Table("objective", "what", "at least", "measured", "budget left", "over")
    for each in found:
        measured = "nothing yet" if each.measured is None else f"{each.measured:g} %"
        left = "" if each.left is None else f"{each.left:g} %"
        table.add_row(each.name, each.title, f"{each.objective:g} %", measured, left, each.window)
    stdout().print(table)


def _measure(sli: Sli) -> str:
    if not sli.histogram:
        return f"{sli.good or 'all but ' + sli.bad} of {sli.total}"
    where = f"{{{sli.matching}}}" if sli.matching else ""
    return f"{sli.histogram}{where} within {sli.seconds:g} s"
