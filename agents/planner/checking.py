"""What the planner needs of a pack: playbooks and prompts that compile, and that name what there is."""

import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agents.planner.cases import FOLDER, load_cases
from agents.planner.playbook import PlaybookSource, compile_playbook, load_playbooks
from agents.planner.prompts import compile_prompt, load_prompts
from mesh.checks import Finding, fields_of, shown, tools_of, wrong_file
from mesh.errors import SettingsError
from mesh.pack import Pack
from mesh.tools import Tool

_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_FIELD = re.compile(r"(?<![\w.])(data|reads)\.([A-Za-z_]\w*)")
_EFFECT = re.compile(r"effect_keys\[\s*[\"']([^\"']+)[\"']\s*\]")


def check(pack: Pack) -> Iterator[Finding]:
    """What is wrong with the playbooks and the prompts."""
    tools = tools_of(pack)
    planned: set[str] = set()
    whole = True
    for path in sorted(pack.playbooks.glob("*.yaml")):
        data = path.read_bytes()
        try:
            compile_playbook(data, path.name, tools)
        except SettingsError as error:
            whole = False
            yield wrong_file(path, pack, error)
        source = _source(data)
        if source is not None:
            planned.update(source.events)
            yield from _names(pack, path, source)
    if whole:
        try:
            load_playbooks(pack.playbooks, tools)
        except SettingsError as error:
            yield wrong_file(pack.playbooks, pack, error)
    read = yield from _prompts(pack, tools)
    for kind in pack.events:
        if kind.name not in planned | read:
            problem = "no playbook is for it and no prompt reads it: every task of it would be refused; add a playbook"
            yield Finding(file=shown(pack.playbooks, pack), place=f"event type {kind.name}", problem=problem)


def _source(data: bytes) -> PlaybookSource | None:
    try:
        return msgspec.convert(yaml.safe_load(data), PlaybookSource)
    except (msgspec.ValidationError, yaml.YAMLError):
        return None


def _names(pack: Pack, path: Path, source: PlaybookSource) -> Iterator[Finding]:
    """Event types, fields of their data, reads and steps that a playbook names and that are not there."""
    file = shown(path, pack)
    types = {kind.name: kind for kind in pack.events}
    for name in source.events:
        if name not in types:
            problem = f"the pack has no event type {name}: it has {', '.join(types)}"
            yield Finding(file=file, place="events", problem=problem)
    known = {field for name in source.events if name in types for field in fields_of(types[name].data)}
    reads, steps = {read.name for read in source.reads}, {step.id for step in source.steps}
    for place, text in _expressions(msgspec.to_builtins(source), ""):
        for name in _EFFECT.findall(text):
            if name not in steps:
                yield Finding(file=file, place=place, problem=f"effect_keys[{name!r}]: there is no step {name}")
        for root, name in _FIELD.findall(_QUOTED.sub('""', text)):
            if root == "data" and known and name not in known:
                problem = f"data.{name}: no field {name} of its event types: they have {', '.join(sorted(known))}"
                yield Finding(file=file, place=place, problem=problem)
            if root == "reads" and name not in reads:
                problem = f"reads.{name}: the playbook has no read {name}: it has {', '.join(sorted(reads)) or 'none'}"
                yield Finding(file=file, place=place, problem=problem)


def _expressions(part: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text of a playbook with its place, such as ``steps book args.room``; names among them name no field."""
    if isinstance(part, str):
        yield place, part
    elif isinstance(part, dict):
        for name, inner in part.items():
            yield from _expressions(inner, f"{place}.{name}" if place and name != "args" else f"{place} {name}".strip())
    elif isinstance(part, list | tuple):
        for number, inner in enumerate(part, 1):
            name = inner.get("id") or inner.get("name") or number if isinstance(inner, dict) else number
            yield from _expressions(inner, f"{place} {name}")


def _prompts(pack: Pack, tools: Mapping[str, Tool]) -> Generator[Finding, None, frozenset[str]]:
    """The prompts and their cases; returns the event types that they read."""
    if pack.prompts is None:
        return frozenset[str]()
    wrong = False
    types = {kind.name: kind for kind in pack.events}
    for path in sorted(pack.prompts.glob("*.yaml")):
        try:
            compile_prompt(path.read_bytes(), path.name, tools, types)
        except SettingsError as error:
            wrong = True
            yield wrong_file(path, pack, error)
    if wrong:
        return frozenset[str]()
    try:
        prompts = load_prompts(pack.prompts, tools, pack.events)
        load_cases(pack.prompts / FOLDER)
    except SettingsError as error:
        yield wrong_file(pack.prompts, pack, error)
        return frozenset[str]()
    if prompts is None:
        return frozenset[str]()
    classify = prompts.classify.source
    return frozenset((*classify.events, *(classify.intents if prompts.plan else ())))
