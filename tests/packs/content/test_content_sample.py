"""The pack's own sample is what its programs make, and it holds what it must."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from packs.content.sample import generate, messages
from packs.content.sample.generate import FOLDER


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def test_the_files_are_what_the_programs_make(tmp_path: Path) -> None:
    assert generate.main([str(tmp_path)]) == messages.main([str(tmp_path)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == generate.build() | messages.build()
    assert made == {name: (FOLDER / name).read_bytes() for name in made}


def test_the_sample_holds_every_kind_of_event_and_of_outcome() -> None:
    events, expected = lines("events.jsonl"), lines("expected.jsonl")
    assert len(events) == len(expected) > 150
    assert Counter(line["outcome"] for line in expected).keys() == {
        *("completed", "refused", "rejected", "duplicate", "conflict"),
    }
    kinds = {event["type"] for event, line in zip(events, expected, strict=True) if line["outcome"] == "completed"}
    assert {kind.removeprefix("content.") for kind in kinds} == {
        *("brief.submitted", "draft.requested", "edit.submitted", "localisation.requested", "review.given"),
        *("publish.requested", "correction.requested", "takedown.requested"),
    }


def test_a_published_page_reads_as_it_should() -> None:
    """One page by hand: the generator makes the others with the pack's own templates."""
    (line,) = [line for line in lines("expected.jsonl") if line.get("slug") == "chair"]
    assert line["files"]["content/de/chair.md"] == (
        '---\nslug: "chair"\nlocale: "de"\nrevision: 1\ntitle: "Stuhl: gebaut, um zu halten"\n---\n'
        "# Stuhl: gebaut, um zu halten\n\nWas unsere Werkstatt dazu sagt.\n\n"
        "![Stuhl, fotografiert](/images/hero)\n\n## Was wir wissen\n\n"
        "- [6 Teile, gefertigt in einer Werkstatt](#f1)\n- [eine Garantie von 5 Jahren](#f2)\n"
        "Fragen Sie in unserem Laden danach.\n"
        "\n<!-- sources: made by the studio, not to be edited -->\n"
        '- <a id="f1"></a>https://workshop.example/parts\n'
        '- <a id="f2"></a>https://workshop.example/guarantee\n'
        "- /images/hero: CC-BY-4.0, Ina Bild\n"
    )
    (merged,) = [line for line in lines("expected.jsonl") if line.get("slug") == "shelf"]
    assert "a warm word from the workshop.\nAsk for it in our shop.\n" in merged["files"]["content/en/shelf.md"]
