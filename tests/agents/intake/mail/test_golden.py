"""Every message of the corpus is read as a person would read it; the golden files were reviewed one by one."""

import json
from pathlib import Path

import pytest

from tests.agents.intake.mail.golden import GOLDEN, corpus, reading


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.stem)
def test_a_message_of_the_corpus_is_read_as_its_golden_file_says(path: Path) -> None:
    expected = json.loads((GOLDEN / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert reading(path.read_bytes()) == expected


def test_there_is_a_golden_file_for_each_message_and_no_other() -> None:
    assert {path.stem for path in corpus()} == {path.stem for path in GOLDEN.glob("*.json")}
    assert len(corpus()) >= 55
