"""Packs as they are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from mesh import pack as module
from mesh.errors import SettingsError
from mesh.pack import EventType, load_packs


class Unreadable(msgspec.Struct):
    """Data that no decoder can be made for."""

    count: Annotated[Annotated[int, msgspec.Meta(ge=0)], msgspec.Meta(ge=1)]


@dataclass
class Point:
    """An entry point of one pack."""

    name: str
    found: Any

    def load(self) -> Any:
        """The pack."""
        return self.found


def test_an_event_type_that_cannot_be_read_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    (retail,) = load_packs(("retail",)).values()
    assert retail.sources == Path(retail.playbooks).parent / "sources"
    bad = module.Pack(
        **{name: getattr(retail, name) for name in ("version", "options", "tools", "connect", "playbooks", "policies")},
        name="bad",
        events=(EventType("bad.thing.asked", Unreadable),),
        facts=retail.facts,
    )
    monkeypatch.setattr(module, "entry_points", lambda group: [Point("bad", bad)])
    with pytest.raises(SettingsError, match=r"pack bad: event type bad\.thing\.asked: .*ge"):
        load_packs()
