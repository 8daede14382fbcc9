"""What intake needs of a pack: mapping files that compile, each with samples that make the events expected of them.

Beside ``sources/<name>.yaml`` the folder ``sources/<name>.samples`` holds what came in (``<sample>.<kind>``), the
events expected of it (``<sample>.expected.jsonl``; an empty file: none), and where they matter the headers of the
request (``<sample>.headers.json``) and what look-ups answered (``<sample>.found.json``).
"""

import mimetypes
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agents.intake.arrival import Arrival
from agents.intake.door import Source, each_of
from agents.intake.errors import UnreadableError
from agents.intake.kinds import READERS
from agents.intake.mapping import load_mapping
from agents.intake.readers import Item
from mesh.admission import Rejected, read
from mesh.checks import Finding, shown, tools_of, wrong_file
from mesh.errors import SettingsError
from mesh.expressions import Variables
from mesh.pack import Pack
from mesh.sources import Maildir

EXPECTED, HEADERS, FOUND = ".expected.jsonl", ".headers.json", ".found.json"
RECEIVED = datetime(2027, 1, 1, 12, tzinfo=UTC)
"""When samples are said to have come, so that what is made of them is the same every day."""

BELIEVED = "mx.example"
"""The mail server that samples of mail may have vouch for their sender."""

_TYPES = {".eml": "message/rfc822", ".form": "application/x-www-form-urlencoded", ".jsonl": "application/jsonl"}


def check(pack: Pack) -> Iterator[Finding]:
    """What is wrong with the mapping files and their samples."""
    if pack.sources is None:
        return
    paths = sorted(pack.sources.glob("*.yaml"))
    if not paths:
        problem = "no mapping (*.yaml) in it: add one, or leave `sources` out"
        yield Finding(file=shown(pack.sources, pack), place="", problem=problem)
    tools, types = tools_of(pack), [kind.name for kind in pack.events]
    for path in paths:
        try:
            mapping = load_mapping(path, tools, types)
        except SettingsError as error:
            yield wrong_file(path, pack, error)
            continue
        setting = Maildir(mapping=path.name, folder=".", authserv_ids=(BELIEVED,))
        yield from _samples(pack, path, Source(path.stem, mapping, READERS[mapping.reads](setting)))
    for folder in sorted(pack.sources.glob("*.samples")):
        if not folder.with_suffix(".yaml").is_file():
            problem = f"samples of no mapping: there is no {folder.stem}.yaml beside it"
            yield Finding(file=shown(folder, pack), place="", problem=problem)


def _samples(pack: Pack, path: Path, source: Source) -> Iterator[Finding]:
    folder = path.with_suffix(".samples")
    samples = [each for each in sorted(folder.glob("*")) if not each.name.endswith((EXPECTED, HEADERS, FOUND))]
    if not samples:
        problem = f"no sample shows what it makes: add {folder.name}/<sample>.json and <sample>{EXPECTED}"
        yield Finding(file=shown(path, pack), place="", problem=problem)
    unshown = {rule.name for rule in source.mapping.rules} if samples else set()
    for sample in samples:
        try:
            used, events = _made(pack, source, sample)
            unshown -= used
        except (UnreadableError, SettingsError) as error:
            yield Finding(file=shown(sample, pack), place="", problem=str(error))
            continue
        yield from _compared(pack, sample, events)
    for name in sorted(unshown):
        yield Finding(
            file=shown(path, pack), place=f"rule {name}", problem="no sample shows it: add one to " + folder.name
        )


def _made(pack: Pack, source: Source, sample: Path) -> tuple[set[str], list[dict[str, Any]]]:
    """The rules that were meant for a sample, and the events they make, each held against its type."""
    arrival = Arrival(
        source=source.name,
        key=sample.name,
        data=sample.read_bytes(),
        content_type=_TYPES.get(sample.suffix) or mimetypes.guess_type(sample.name)[0] or "application/octet-stream",
        received_at=RECEIVED,
        headers=_beside(sample, HEADERS, {}),
    )
    used: set[str] = set()
    events: list[dict[str, Any]] = []
    for item in source.reader(arrival):
        if item.error is not None:
            raise item.error
        for variables in _seen(source, arrival, item, sample):
            rule = source.mapping.rule(variables)
            if rule is None:
                raise UnreadableError("no rule of the mapping is meant for it: add one, or one that ignores it")
            used.add(rule.name)
            if not rule.ignore:
                events.append(
                    _valid(pack, rule.event(variables) | {"channel": source.name, "original": arrival.digest})
                )
    return used, events


def _seen(source: Source, arrival: Arrival, item: Item, sample: Path) -> Iterator[Variables]:
    found = _beside(sample, FOUND, {})
    for variables in each_of(source, arrival, arrival.digest, item):
        variables.put("found", found)
        yield variables


def _valid(pack: Pack, event: dict[str, Any]) -> dict[str, Any]:
    try:
        data = msgspec.json.encode(event)
    except (TypeError, UnicodeEncodeError) as error:
        raise UnreadableError(f"no JSON comes of it: {error}") from error
    found = read(data, {}, {pack.name: pack})
    if isinstance(found, Rejected):
        raise UnreadableError(f"what comes of it is no valid event: {found.detail}")
    plain: dict[str, Any] = msgspec.json.decode(data)
    return plain


def _compared(pack: Pack, sample: Path, events: list[dict[str, Any]]) -> Iterator[Finding]:
    """The events against the lines expected: of each only the attributes count that its line has."""
    path = sample.with_name(sample.stem + EXPECTED)
    if not path.is_file():
        made = "\n".join(msgspec.json.encode(_told(event)).decode() for event in events)
        problem = f"no expectation: write {path.name} beside it; what comes of it now is: {made or 'nothing'}"
        yield Finding(file=shown(sample, pack), place="", problem=problem)
        return
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    if len(lines) != len(events):
        problem = f"{len(lines)} events are expected, and {len(events)} come of {sample.name}"
        yield Finding(file=shown(path, pack), place="", problem=problem)
    for number, (line, event) in enumerate(zip(lines, events, strict=False), 1):
        try:
            wanted = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            yield Finding(file=shown(path, pack), place=f"line {number}", problem=f"is no JSON object: {error}")
            continue
        for name, value in wanted.items():
            if event.get(name) != value:
                got, meant = (msgspec.json.encode(each).decode() for each in (event.get(name), value))
                problem = f"{sample.name} makes {got}, expected {meant}"
                yield Finding(file=shown(path, pack), place=f"line {number} {name}", problem=problem)


def _told(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("type", "id", "subject", "data") if event.get(name)}


def _beside(sample: Path, ending: str, default: Any) -> Any:
    path = sample.with_name(sample.stem + ending)
    try:
        return msgspec.json.decode(path.read_bytes()) if path.is_file() else default
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path.name}: is not JSON: {error}") from error
