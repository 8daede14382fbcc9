"""The reconciler counts what the target's own log says, once, whatever is restarted in between."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.executor.reconciling import Reconciler, Source, Totals, effect_subject
from mesh import subjects
from mesh.applied import Applied, AppliedPage
from mesh.bus import Bus
from mesh.canonical import effect_key
from mesh.errors import BusUnavailableError, NotSentError
from tests.mesh.live_mesh import LiveMesh

PAGE = 3
TASK = "nrfilwcfk7boc5kjxr4eicnesx"


class Ledger:
    """A target with a log, in pages of three; it can be away."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = list(keys)
        self.is_away = False

    def source(self) -> Source:
        return Source("ledger", "books", self, read)


async def read(system: Ledger, cursor: str) -> AppliedPage:
    if system.is_away:
        raise NotSentError("the books are closed")
    start = int(cursor or "0")
    keys = system.keys[start : start + PAGE]
    return AppliedPage([Applied(key, "entry") for key in keys], str(start + len(keys)))


async def on_record(bus: Bus, *steps: str) -> list[str]:
    """Effects of these steps in the journal; their keys."""
    for step in steps:
        await bus.store(subjects.record("effect", "ledger", TASK, step), b"{}")
    return [effect_key(TASK, step) for step in steps]


async def test_each_key_counts_once_and_again_and_what_is_not_ours_apart(live: LiveMesh, tmp_path: Path) -> None:
    async with live.bus("executor") as bus:
        keys = await on_record(bus, "pay", "pack", "pay~undo")
        target = Ledger([*keys, keys[0], effect_key(TASK, "never"), "somebody-else", keys[0]])
        reconciler = Reconciler(bus, [target.source()], tmp_path / "applied.db")
        await reconciler.reconcile(target.source())
        assert reconciler.totals(target.source()) == Totals("7", applied=5, repeated=2, unknown=2)
        reconciler.close()


async def test_a_restart_goes_on_where_it_was_and_knows_what_it_saw(live: LiveMesh, tmp_path: Path) -> None:
    async with live.bus("executor") as bus:
        keys = await on_record(bus, "pay", "pack")
        target = Ledger(keys)
        first = Reconciler(bus, [target.source()], tmp_path / "applied.db")
        await first.reconcile(target.source())
        first.close()
        target.keys.append(keys[1])
        second = Reconciler(bus, [target.source()], tmp_path / "applied.db")
        assert second.totals(target.source()) == Totals("2", applied=2)
        await second.reconcile(target.source())
        assert second.totals(target.source()) == Totals("3", applied=2, repeated=1)
        second.close()


async def test_what_cannot_be_read_or_asked_about_is_counted_later(live: LiveMesh, tmp_path: Path) -> None:
    async with live.bus("executor") as bus:
        target = Ledger(await on_record(bus, "pay"))
        reconciler = Reconciler(bus, [target.source()], tmp_path / "applied.db")
        target.is_away = True
        with pytest.raises(NotSentError):
            await reconciler.reconcile(target.source())
        target.is_away = False
    with pytest.raises(BusUnavailableError):  # the bus is away: nothing may be taken for unknown
        await reconciler.reconcile(target.source())
    assert reconciler.totals(target.source()) == Totals()
    reconciler.close()


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (f"wm-{TASK}-pay", f"task.effect.ledger.{TASK}.pay"),
        (f"wm-{TASK}-pay-slowly~undo", f"task.effect.ledger.{TASK}.pay-slowly~undo"),
        ("wm-", ""),
        ("somebody-else", ""),
        (f"wm-{TASK}-a.>", ""),
        ("wm-*-*", ""),
    ],
)
def test_a_key_names_its_effect_and_no_other_subject(key: str, subject: str) -> None:
    assert effect_subject("ledger", key) == subject
