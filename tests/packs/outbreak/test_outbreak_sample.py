"""The sample is what its generator writes, and of a real size."""

from packs.outbreak.sample.generate import build
from tests.packs.outbreak.office import SAMPLE


def test_the_files_are_those_that_the_generator_writes() -> None:
    for name, content in build().items():
        assert (SAMPLE / name).read_bytes() == content, name


def test_there_are_enough_events_of_every_kind() -> None:
    lines = (SAMPLE / "events.jsonl").read_bytes().splitlines()
    assert len(lines) >= 100
    kinds = {line.split(b'"type":"')[1].split(b'"')[0] for line in lines}
    assert len(kinds) == 5
