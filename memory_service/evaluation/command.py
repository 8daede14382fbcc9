"""``workmesh memory eval``: how well retrieval finds what it should, on labelled questions."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from memory_service.evaluation.labelled import EvaluationError, LabelledSet, read_labelled
from memory_service.evaluation.locomo import read_locomo
from memory_service.evaluation.measures import Measures, as_fields
from memory_service.evaluation.running import Asked, Say, Way, ask_all, by_category, choose, measure, measure_rrf
from memory_service.retrieval.documents import EQUAL, Weights
from memory_service.retrieval.embedder import EmbedderError
from mesh.cli import json_option, print_json, stdout

NEIGHBOURS = 0.3
WAYS: Mapping[str, Way] = {
    "words alone": Way(Weights(1, 0)),
    "vectors alone": Way(Weights(0, 1)),
    "both": Way(EQUAL),
    "both, neighbours": Way(EQUAL, NEIGHBOURS),
}


@click.command(name="eval")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--locomo", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Measure on this file of LoCoMo too."
)
@click.option(
    "--embedder",
    type=click.Choice(("minilm", "none")),
    default="minilm",
    show_default=True,
    help="The model; none is words alone.",
)
@click.option("--plain", is_flag=True, help="LoCoMo: the text of a turn alone, without speaker, date and caption.")
@json_option
def evaluate(file: Path | None, locomo: Path | None, embedder: str, plain: bool, as_json: bool) -> None:
    """Measure retrieval on the labelled questions in FILE, with the retriever that the service uses.

    FILE has one JSON object a line: {"kind": "document", "id", "text"} or {"kind": "question", "text", "expected"},
    with "expected" a list of document ids. Both can have "scope", "subject" and "predicate", questions a "category".

    Each question is asked within its scope. Shown are recall@5, @10 and @20, hit@10 and nDCG@10, for each way of
    ranking, and by category; and the weights that are best on every other scope, measured on the rest.
    """
    if file is None and locomo is None:
        raise click.UsageError("name a FILE, or a file of LoCoMo with --locomo, or both")
    try:
        sets = {}
        if file is not None:
            sets[str(file)] = read_labelled(file)
        if locomo is not None:
            sets[str(locomo)] = read_locomo(locomo, plain=plain)
        results = {name: asyncio.run(_measured(labelled, embedder)) for name, labelled in sets.items()}
    except (EvaluationError, EmbedderError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(results)
        return
    for name, result in results.items():
        _show(name, result)


async def _measured(labelled: LabelledSet, embedder: str) -> dict[str, Any]:
    asked = await ask_all(labelled, embedder, _progress())
    beside = labelled.neighbours
    names = ["words alone"] if embedder == "none" else [name for name in WAYS if beside or not WAYS[name].neighbours]
    best = names[0] if embedder == "none" else "both"
    ways = {name: as_fields(measure(asked, WAYS[name], beside)) for name in names}
    if embedder != "none":
        ways["both, by ranks alone (RRF)"] = as_fields(measure_rrf(asked))
    return {
        "documents": len(labelled.documents),
        "left_out": labelled.left_out,
        "ways": ways,
        "categories_of": best,
        "categories": {name: as_fields(found) for name, found in by_category(asked, WAYS[best], beside).items()},
        "chosen": None if embedder == "none" else _chosen(asked, beside),
    }


def _chosen(asked: list[Asked], beside: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
    found = choose(asked, WAYS["both"], beside)
    if found is None:
        return None
    return {
        "lexical_weight": found.weights.lexical,
        "vector_weight": found.weights.vector,
        "chosen_on": found.chosen_on,
        "reported_on": found.reported_on,
        "measures": as_fields(found.measures),
        "equal_weights": as_fields(found.equal),
    }


def _show(name: str, result: Mapping[str, Any]) -> None:
    heads = tuple(as_fields(Measures(0, 0, 0, 0, 0, 0)))
    _table(f"{name}: {result['documents']} documents", heads, result["ways"])
    _table(f"by category, {result['categories_of']}", heads, result["categories"])
    if result["left_out"]:
        stdout().print(f"{result['left_out']} questions have no evidence among the turns and are left out")
    if chosen := result["chosen"]:
        rows = {f"{chosen['lexical_weight']} and {chosen['vector_weight']}": chosen["measures"]}
        rows |= {"0.5 and 0.5": chosen["equal_weights"]}
        title = f"weights of words and vectors chosen on {', '.join(chosen['chosen_on'])}; measured on "
        _table(title + ", ".join(chosen["reported_on"]), heads, rows)


def _table(title: str, heads: tuple[str, ...], rows: Mapping[str, Mapping[str, float]]) -> None:
    table = Table("", *heads, title=title)
    for name, fields in rows.items():
        values = (str(value) if head == "questions" else f"{value:.3f}" for head, value in fields.items())
        table.add_row(name, *values)
    stdout().print(table)


def _progress() -> Say:
    """Says on stderr how far it is, where that is a terminal."""
    console = Console(stderr=True)

    def say(what: str, done: int, total: int) -> None:
        if console.is_terminal:
            console.print(f"{what}: {done} of {total}", end="\r")

    return say
