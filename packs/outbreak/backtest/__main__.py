"""``python -m packs.outbreak.backtest``: run the back-test, print its tables, and maybe renew them in the README."""

from pathlib import Path

import click
import msgspec

from mesh.cli import print_json
from packs.outbreak.backtest.measure import backtest
from packs.outbreak.backtest.report import markdown, picture
from packs.outbreak.verdict import Rules

BEGIN, END = "<!-- backtest -->\n", "<!-- /backtest -->"
README = Path(__file__).parents[1] / "README.md"
PICTURE = Path(__file__).parents[1] / "backtest.svg"


def renewed(readme: str, tables: str) -> str:
    """The README with other tables between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables}{END}{after}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--rules", "rules_json", default="{}", metavar="JSON", help="Other rules of consensus, to try them.")
@click.option("--write", "to_write", is_flag=True, help="Renew tables and picture of the pack's README.")
def main(as_json: bool, rules_json: str, to_write: bool) -> None:
    """Run detectors and consensus over 20 years of dengue in Taiwan, week by week."""
    try:
        rules = msgspec.json.decode(rules_json, type=Rules)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--rules: {error}") from error
    results = backtest(rules)
    if to_write:
        README.write_text(renewed(README.read_text(encoding="utf-8"), markdown(results)), encoding="utf-8")
        PICTURE.write_text(picture(results), encoding="utf-8")
    if as_json:
        print_json(msgspec.to_builtins(results))
    else:
        click.echo(markdown(results), nl=False)


if __name__ == "__main__":
    main()
