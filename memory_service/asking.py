"""Conversations of the command line with memory: what needs a signature gets one from the person's own key."""

import asyncio
import getpass
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from mesh import service
from mesh.clock import now
from mesh.facts import Judged, ValueType, Word
from mesh.identity import Identity
from mesh.memory import (
    FactsPage,
    FactsRequest,
    Grounds,
    MemoryStatus,
    ReindexRequest,
    SignedRequest,
    StatusRequest,
    WhyRequest,
)
from mesh.operator import operator_bus
from mesh.records import Json
from mesh.signing import MEMORY_TYPE, sign

T = TypeVar("T")

_WORD_S = 60.0
_LOOK_S = 0.5
_AT_REST = ("ready", "lexical")


class Asker:
    """Asks memory, each time on a connection of its own."""

    def __init__(self, config: Path | None, key: Path | None = None) -> None:
        self._config = config
        self._key = Identity.load(key) if key is not None else None

    async def ask(self, verb: str, request: msgspec.Struct, answer: type[T], timeout_s: float = 5.0) -> T:
        """The answer to one request."""
        async with operator_bus(self._config) as (_, bus):
            return await service.ask(bus, "memory", verb, request, answer, timeout_s)

    async def may_sign(self, verb: str, request: Any, answer: type[T]) -> T:
        """Ask, signed when there is a key."""
        if self._key is not None:
            request = msgspec.structs.replace(request, signed=self._word(verb, request, self._key))
        return await self.ask(verb, request, answer)

    async def sign(self, verb: str, request: msgspec.Struct, answer: type[T], timeout_s: float = 5.0) -> T:
        """Ask what is nothing without a signature."""
        assert self._key is not None, "a required option"
        return await self.ask(verb, SignedRequest(signed=self._word(verb, request, self._key)), answer, timeout_s)

    async def pages(self, request: FactsRequest) -> list[Judged]:
        """All facts that are meant, page by page."""
        found: list[Judged] = []
        async with operator_bus(self._config) as (_, bus):
            while True:
                page = await service.ask(bus, "memory", "facts", request, FactsPage)
                found += page.facts
                if page.next is None:
                    return found
                request = msgspec.structs.replace(request, after=page.next)

    async def slot_of(self, fact_id: str) -> list[Judged]:
        """All facts of the slot that a fact is in, by version."""
        fact = (await self.ask("why", WhyRequest(id=fact_id), Grounds)).judged.fact
        found = await self.pages(FactsRequest(scope=fact.scope, subject=fact.subject, status=None))
        return [judged for judged in found if judged.fact.slot == fact.slot]

    async def reindex(self, *, wait: bool) -> MemoryStatus:
        """Have the index built anew; with ``wait`` the state once it is done."""
        async with operator_bus(self._config) as (_, bus):
            found = await service.ask(bus, "memory", "reindex", ReindexRequest(), MemoryStatus)
            while wait:
                await asyncio.sleep(_LOOK_S)
                found = await service.ask(bus, "memory", "status", StatusRequest(), MemoryStatus)
                if sys.stderr.isatty():
                    click.echo(f"\r{found.index}: {found.indexed} of {found.documents}", nl=False, err=True)
                if found.index in _AT_REST:
                    break
        return found

    def _word(self, verb: str, request: msgspec.Struct, key: Identity) -> Json:
        at = now()
        word = Word(
            verb=verb,
            request=msgspec.Raw(msgspec.json.encode(request)),
            person=key.name,
            nonce=secrets.token_hex(16),
            at=at,
            expires_at=at + timedelta(seconds=_WORD_S),
        )
        return sign(word, MEMORY_TYPE, key)


def said_by(key: Path | None) -> str:
    """Who speaks: the name of the key, else the login name of whoever types."""
    if key is not None:
        return Identity.load(key).name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def read_value(text: str, kind: ValueType) -> Json:
    """The value that a person typed: text as it is, other types as JSON; raises ``click.BadParameter``."""
    if kind in (ValueType.TEXT, ValueType.REFERENCE, ValueType.DECIMAL, ValueType.TIME):
        return msgspec.Raw(msgspec.json.encode(text))
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"{text!r} is no JSON for the type {kind}: {error}") from error
    return msgspec.Raw(text.encode())


def utc(at: datetime | None) -> datetime | None:
    """A time that a person typed; without an offset it is UTC."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
