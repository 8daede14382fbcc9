"""The cells of the environment: what surrounds the processes fails, and they live on.

The rule: each says in numbers that its fault was there, and fails when it was not.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.chaos import clocks, deliveries, disks, network, overload, poison, quorum
from benchmarks.chaos.cell import Cell
from mesh import subjects

ENVIRONMENT = "environment"


def environment() -> list[Cell]:
    """All of them."""
    return [*_network(), *_deliveries(), *_clocks(), *_disks(), *_quorum(), *_load()]


def _network() -> Iterator[Cell]:
    for how in network.Cut:
        for role in ("executor", "perception"):
            yield Cell(ENVIRONMENT, how, role, "", partial(network.cut, role=role, how=how))


def _deliveries() -> Iterator[Cell]:
    yield Cell(ENVIRONMENT, "acks lost for 5 s", "all stages", "", deliveries.acks_lost)
    yield Cell(ENVIRONMENT, "events thrice, in another order", "all stages", "", deliveries.thrice)


def _clocks() -> Iterator[Cell]:
    for row, seconds in (("clock an hour back", -3600), ("clock an hour ahead", 3600)):
        for role in ("executor", "policy", "perception"):
            yield Cell(ENVIRONMENT, row, role, "", partial(clocks.jump, role=role, seconds=seconds))


def _disks() -> Iterator[Cell]:
    for row, run in (("slow disk", disks.slow), ("full disk", disks.full), ("full journal", disks.stream_full)):
        yield Cell(ENVIRONMENT, row, "the bus", "", run)


def _quorum() -> Iterator[Cell]:
    for stream in (subjects.JOURNAL, subjects.EVENTS):
        run = partial(quorum.leader_killed, stream=stream)
        yield Cell(ENVIRONMENT, f"cluster: leader of {stream} killed", "the bus", "", run, limit_s=180)
    yield Cell(ENVIRONMENT, "cluster: majority away for 5 s", "the bus", "", quorum.majority_lost, limit_s=180)


def _load() -> Iterator[Cell]:
    yield Cell(ENVIRONMENT, "ten times the load", "all stages", "", overload.overload, limit_s=3600)
    yield Cell(ENVIRONMENT, "poison", "all stages", "", poison.poison)
