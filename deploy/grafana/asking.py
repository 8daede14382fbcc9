"""Asks a Prometheus what the dashboards ask: ``python -m deploy.grafana.asking --prometheus URL [--draw FOLDER]``.

So a site without Grafana is seen too, and one with it is known to have something to show.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import httpx2
from rich.table import Table

from deploy.grafana.boards import BOARDS
from deploy.grafana.picture import draw
from mesh.cli import stdout

DASHBOARDS = Path(__file__).parent / "dashboards"
_LIMIT_S = 20.0
_STEPS = 60


def queries(board: Path) -> Iterator[tuple[str, str]]:
    """Title and expression of every query of a dashboard's file."""
    for panel in json.loads(board.read_text("utf-8"))["panels"]:
        for each in panel.get("targets", ()):
            yield panel["title"], each["expr"]


def filled(query: str, over_s: float, rate_s: float = 60.0) -> str:
    """The query with its variables as Grafana would send it, for all domains; ``rate_s`` is four times the scraping."""
    query = query.replace("$__rate_interval", f"{rate_s:.0f}s").replace("$__range", f"{over_s:.0f}s")
    query = query.replace("$domain", ".*")
    assert "$" not in query, query
    return query


class Asked:
    """A Prometheus, asked about the time from ``start`` to ``end`` (Unix seconds). A context manager."""

    def __init__(self, url: str, start: float, end: float, rate_s: float = 60.0) -> None:
        self._url = url
        self._client = httpx2.Client(base_url=url, timeout=_LIMIT_S, trust_env=False)
        self._start, self._end = start, end
        self._rate_s = rate_s
        self._answers: dict[str, Sequence[Mapping[str, Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def series(self, query: str) -> Sequence[Mapping[str, Any]]:
        """The series of a query, asked once; raises ``click.ClickException`` when it cannot be asked or understood."""
        if query not in self._answers:
            self._answers[query] = self._ask(query)
        return self._answers[query]

    def _ask(self, query: str) -> Sequence[Mapping[str, Any]]:
        over = self._end - self._start
        wanted = {
            "query": filled(query, over, self._rate_s),
            "start": self._start,
            "end": self._end,
            "step": max(over / _STEPS, 1.0),
        }
        try:
            said = self._client.post("/api/v1/query_range", data=wanted).json()
        except (httpx2.HTTPError, json.JSONDecodeError) as error:
            raise click.ClickException(f"no Prometheus answers at {self._url}: {error}") from error
        if said.get("status") != "success":
            raise click.ClickException(f"{self._url} does not understand {wanted['query']}: {said.get('error')}")
        found: list[dict[str, Any]] = said["data"]["result"]
        return found

    def has_data(self, query: str) -> bool:
        """Whether there is a number in what comes."""
        values = (float(value) for each in self.series(query) for _, value in each["values"])
        return any(math.isfinite(value) for value in values)


@click.command()
@click.option("--prometheus", "url", default="http://127.0.0.1:9090", show_default=True, help="Its address.")
@click.option("--minutes", default=15.0, show_default=True, help="How far back to look.")
@click.option("--rate", "rate_s", default=60.0, show_default=True, help="Seconds of rates: four times the scraping.")
@click.option("--draw", "folder", type=click.Path(path_type=Path, file_okay=False), help="Draw each dashboard here.")
def main(url: str, minutes: float, rate_s: float, folder: Path | None) -> None:
    """Ask every query of every panel, and say which answer with data; exit 1 when none of a dashboard's does."""
    end = time.time()
    with Asked(url.rstrip("/"), end - 60 * minutes, end, rate_s) as asked:
        silent = _tell(asked, folder)
    if silent:
        raise click.ClickException(f"{silent} dashboards have nothing to show: does {url} scrape this site?")


def _tell(asked: Asked, folder: Path | None) -> int:
    """Print what answers, and draw it; how many dashboards have nothing to show."""
    table = Table("dashboard", "queries", "with data", "nothing yet")
    silent = 0
    for path in sorted(DASHBOARDS.glob("*.json")):
        all_ = list(queries(path))
        empty = [title for title, query in all_ if not asked.has_data(query)]
        silent += len(empty) == len(all_)
        table.add_row(path.stem, str(len(all_)), str(len(all_) - len(empty)), ", ".join(dict.fromkeys(empty)))
    stdout().print(table)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for board in BOARDS:
            (folder / f"{board.uid}.svg").write_text(draw(board, asked.series), encoding="utf-8")
            click.echo(f"{folder / board.uid}.svg")
    return silent


if __name__ == "__main__":
    main()
