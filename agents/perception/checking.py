"""What perception needs of a pack: event types of its domain, pointers that lead somewhere, a sample that holds."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mesh import subjects
from mesh.admission import Rejected, read
from mesh.checks import Finding, fields_of, reaches, root_of, shown
from mesh.demo import load_demo
from mesh.errors import SettingsError
from mesh.pack import EventType, Pack

_CODE = "pack.py"


def check(pack: Pack) -> Iterator[Finding]:
    """What is wrong with the event types and the sample events."""
    if not pack.events:
        yield Finding(file=_CODE, place="events", problem="the pack declares no event type, so nothing can come in")
    seen: set[str] = set()
    for kind in pack.events:
        yield from _type(pack, kind)
        if kind.name in seen:
            yield _at(kind, "is declared twice: leave one")
        seen.add(kind.name)
    yield from _sample(pack)


def _type(pack: Pack, kind: EventType) -> Iterator[Finding]:
    if subjects.event(kind.name) == subjects.UNREADABLE_EVENT:
        yield _at(kind, "cannot be a subject: use <domain>.<name>, tokens of letters, digits, - and _, with dots")
    elif subjects.domain_of(kind.name) != pack.name:
        yield _at(kind, f"is not in the pack's domain: begin it with `{pack.name}.`, or no event of it is accepted")
    if not fields_of(kind.data):
        yield _at(kind, f"{kind.data.__name__} has no fields: declare what the data of an event holds")
    for pointer in kind.taint:
        if not reaches(kind.data, pointer):
            known = ", ".join(f"/{name}" for name in fields_of(kind.data))
            yield _at(kind, f"taint {pointer!r} leads to nothing in {kind.data.__name__}, which has {known}")
    for word in sorted(set(kind.words) - set(fields_of(kind.data))):
        yield _at(kind, f"words: {kind.data.__name__} has no field {word!r}")


def _at(kind: EventType, problem: str) -> Finding:
    return Finding(file=_CODE, place=f"event type {kind.name}", problem=problem)


def _sample(pack: Pack) -> Iterator[Finding]:
    """The sample of the demonstration, where there is one: what is expected to be rejected is, and nothing else."""
    try:
        folder = load_demo(pack.name).sample
    except SettingsError:
        folder = root_of(pack) / "sample"
    events, expected = folder / "events.jsonl", folder / "expected.jsonl"
    if not events.is_file():
        return
    outcomes: dict[str, str] = {}
    if expected.is_file():
        for number, line in _lines(expected):
            try:
                said: Any = msgspec.json.decode(line)
                outcomes[said["id"]] = said["outcome"]
            except (msgspec.DecodeError, TypeError, KeyError) as error:
                problem = f"is no expectation ({error}): give `id` and `outcome`"
                yield Finding(file=shown(expected, pack), place=f"line {number}", problem=problem)
    ids: set[str] = set()
    for number, line in _lines(events):
        with suppress(msgspec.DecodeError, TypeError, KeyError):
            ids.add(msgspec.json.decode(line)["id"])
        found = read(line, {}, {pack.name: pack})
        identity = found.event_id if isinstance(found, Rejected) else found.event.id
        meant = outcomes.get(identity)
        place = f"line {number}{found.pointer}" if isinstance(found, Rejected) else f"line {number}"
        if isinstance(found, Rejected) and meant != "rejected":
            problem = f"{found.detail}: mend it, or expect the outcome `rejected` of it"
            yield Finding(file=shown(events, pack), place=place, problem=problem)
        elif not isinstance(found, Rejected) and meant == "rejected":
            problem = f"event {identity} is valid, but `rejected` is expected of it in {expected.name}"
            yield Finding(file=shown(events, pack), place=place, problem=problem)
    for identity in sorted(outcomes.keys() - ids):
        yield Finding(
            file=shown(expected, pack), place=f"id {identity}", problem=f"no event of {events.name} has this id"
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip())
