"""What the hub's memory says, said again to the site's memory: only what is canonical there, in the hub's name.

The rule: a fact of the hub is one source's claim among others (``<hub>:<its source>``), judged by the site's own rules.
Each event of the hub is one signed word whose nonce is made of its place there: however often it comes, it counts once.
"""

import base64
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

import msgspec
import structlog

from mesh import service
from mesh.bus import Bus
from mesh.canonical import token
from mesh.clock import now
from mesh.downlink import Sent
from mesh.facts import (
    CANONICAL,
    AnyFactEvent,
    Asserted,
    Claim,
    Erased,
    Fact,
    FactStatus,
    Resolved,
    Retracted,
    Revoked,
    Slot,
    Source,
    Word,
)
from mesh.identity import Identity
from mesh.memory import (
    SAID_BEFORE,
    ChangeAnswer,
    FactsPage,
    FactsRequest,
    ForgetRequest,
    HistoryLine,
    HistoryRequest,
    RelayRequest,
    RememberAnswer,
    RememberRequest,
    RetractRequest,
    RevokeRequest,
    SignedRequest,
)
from mesh.record import Causation
from mesh.service import ServiceBusyError, ServiceError
from mesh.signing import MEMORY_TYPE, sign

A = TypeVar("A")

log = structlog.get_logger(__name__)

_WORD_S = 60.0
_EVIDENCE_MAX = 32
_PAGE = 100
_HISTORY = 1000
_PATIENCE_S = 10.0
_UNKNOWN = "nothing is known of"

_decode = msgspec.json.Decoder(AnyFactEvent).decode
_encode = msgspec.json.Encoder().encode


class HubFacts:
    """Takes events of the hub's memory. ``key`` is enrolled here as ``hub``, with the role ``memory_source``."""

    def __init__(self, site: Bus, key: Identity, hub: str) -> None:
        self._site = site
        self._key = key
        self._hub = hub
        self.problem = ""
        self.refused = 0

    async def take(self, sent: Sent) -> None:
        """Have the site's memory say what this event says; raises ``ServiceBusyError`` while it does not answer."""
        try:
            event = _decode(sent.data)
        except msgspec.DecodeError as error:
            return self._refused(sent, f"it is no event of memory: {error}")
        try:
            match event:
                case Asserted():
                    await self._asserted(event, sent)
                case Retracted():
                    await self._take_back(event.slot, event.ids, event.reason, sent)
                case Resolved():
                    await self._take_back(event.slot, event.over, f"{event.by} chose otherwise at the hub", sent)
                case Revoked():
                    said = RevokeRequest(source=f"{self._hub}:{event.source}", reason=event.reason)
                    signed = SignedRequest(signed=self._word("revoke", said, sent))
                    await self._ask("revoke", signed, ChangeAnswer)
                case Erased():
                    await self._erased(event, sent)
        except ServiceBusyError:
            raise
        except ServiceError as error:
            if str(error) != SAID_BEFORE:
                self._refused(sent, str(error))

    async def _asserted(self, event: Asserted, sent: Sent) -> None:
        claims = tuple(self.claim(fact, sent) for fact in event.facts if fact.source.authority >= CANONICAL)
        if claims:
            request = RememberRequest(claims=claims, by=self._hub)
            signed = msgspec.structs.replace(request, signed=self._word("remember", request, sent))
            await self._ask("remember", signed, RememberAnswer)

    def claim(self, fact: Fact, sent: Sent) -> Claim:
        """What a fact of the hub claims here: its first evidence is where it stands there, by its id."""
        first = Causation(stream=sent.stream, subject=fact.id, seq=sent.seq)
        theirs = (first, *fact.evidence[: _EVIDENCE_MAX - 1])
        return Claim(
            subject=fact.subject,
            predicate=fact.predicate,
            value=fact.value,
            source=Source(
                uri=f"{self._hub}:{fact.source.uri}",
                digest=fact.source.digest,
                kind=fact.source.kind,
                authority=fact.source.authority,
            ),
            scope=fact.scope,
            type=fact.type,
            text=fact.text,
            cardinality=fact.cardinality,
            evidence=tuple(msgspec.structs.replace(each, stream=f"{self._hub}/{each.stream}") for each in theirs),
            confidence=fact.confidence,
            valid_from=fact.valid_from,
            valid_to=fact.valid_to,
        )

    async def _take_back(self, slot: Slot, ids: Iterable[str], reason: str, sent: Sent) -> None:
        wanted = {(f"{self._hub}/{sent.stream}", fact_id) for fact_id in ids}
        try:
            lines = await self._ask("history", HistoryRequest(slot=slot, limit=_HISTORY), tuple[HistoryLine, ...])
        except ServiceBusyError:
            raise
        except ServiceError as error:
            if not str(error).startswith(_UNKNOWN):
                raise
            return
        own = [judged for line in lines for judged in line.facts if judged.status is not FactStatus.RETRACTED]
        found = [
            each.fact.id
            for each in own
            if each.fact.evidence and (each.fact.evidence[0].stream, each.fact.evidence[0].subject) in wanted
        ]
        await self._retract(found, reason, sent)

    async def _retract(self, ids: list[str], reason: str, sent: Sent) -> None:
        for start in range(0, len(ids), _PAGE):
            part = tuple(ids[start : start + _PAGE])
            request = RetractRequest(ids=part, by=self._hub, reason=f"at the hub: {reason}".rstrip(": "))
            word = self._word("retract", request, sent, part[0])
            try:
                await self._ask("retract", msgspec.structs.replace(request, signed=word), ChangeAnswer)
            except ServiceError as error:
                if str(error) != SAID_BEFORE:
                    raise

    async def _erased(self, event: Erased, sent: Sent) -> None:
        """Forgotten here too, if a steward of this site signed it there; else what the hub said of it is taken back."""
        request = RelayRequest(signed=event.signed)
        vouched = msgspec.structs.replace(request, vouched=self._word("relay", request, sent))
        try:
            await self._ask("relay", vouched, ChangeAnswer, _PATIENCE_S * 3)
        except ServiceBusyError:
            raise
        except ServiceError as error:
            if str(error) == SAID_BEFORE or str(error).startswith(_UNKNOWN):
                return
            wish = _wish(event)
            await self._retract(await self._said_of(wish), "its subject was forgotten", sent)
            self._refused(sent, f"a subject was forgotten at the hub, and only taken back here: {error}")

    async def _said_of(self, wish: ForgetRequest) -> list[str]:
        """The ids of the facts of a subject that came from the hub and were not taken back."""
        found: list[str] = []
        request = FactsRequest(scope=wish.scope, subject=wish.subject, status=None, limit=_PAGE)
        while True:
            page = await self._ask("facts", request, FactsPage)
            of_hub = (each for each in page.facts if each.fact.source.uri.startswith(f"{self._hub}:"))
            found += [each.fact.id for each in of_hub if each.status is not FactStatus.RETRACTED]
            if page.next is None:
                return found
            request = msgspec.structs.replace(request, after=page.next)

    def _word(self, verb: str, request: msgspec.Struct, sent: Sent, part: str = "") -> msgspec.Raw:
        at = now()
        word = Word(
            verb=verb,
            request=msgspec.Raw(_encode(request)),
            person=self._hub,
            nonce=token("down", self._hub, sent.stream, str(sent.seq), str(sent.stored_ns), verb, part, bits=160),
            at=at,
            expires_at=at + timedelta(seconds=_WORD_S),
        )
        return sign(word, MEMORY_TYPE, self._key)

    async def _ask(self, verb: str, request: msgspec.Struct, answer: type[A], limit_s: float = _PATIENCE_S) -> A:
        return await service.ask(self._site, "memory", verb, request, answer, timeout_s=limit_s)

    def _refused(self, sent: Sent, why: str) -> None:
        self.problem = why
        self.refused += 1
        log.error("hub_fact_refused", stream=sent.stream, seq=sent.seq, reason=why)


class _Sealed(msgspec.Struct):
    payload: str


def _wish(event: Erased) -> ForgetRequest:
    """What was signed at the hub: nobody here believes it, and it says only which facts of the hub are meant."""
    payload = msgspec.json.decode(event.signed, type=_Sealed).payload
    return msgspec.json.decode(msgspec.json.decode(base64.b64decode(payload), type=Word).request, type=ForgetRequest)
