"""Who may say what to memory: a function of the signature on a request, and of what it is about. Pure.

The rule: without a signature a fact has an authority of 1 at most; what is canonical changes by its own source's key or
by a steward's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.errors import TerminalError
from mesh.facts import CANONICAL, SOURCE_ROLE, STEWARD_ROLE, Claim, Fact
from mesh.trust import TrustEntry

UNSIGNED_MAX = 1


@dataclass(frozen=True, slots=True)
class Voice:
    """Whoever speaks: a name that a signature proves, with its roles; or an unproven one without any."""

    name: str
    is_signed: bool = False
    is_person: bool = False
    roles: frozenset[str] = frozenset()

    @property
    def is_steward(self) -> bool:
        """Whether this is a person who may resolve, revoke and forget."""
        return self.is_person and STEWARD_ROLE in self.roles

    def speaks_for(self, uri: str) -> bool:
        """Whether this is the key of the canonical system that this source belongs to."""
        return SOURCE_ROLE in self.roles and uri.startswith(f"{self.name}:")


def voice_of(entry: TrustEntry) -> Voice:
    """The voice that a trusted key has."""
    return Voice(entry.name, True, entry.kind == "person", frozenset(entry.roles))


def check_claims(voice: Voice, claims: Iterable[Claim]) -> None:
    """Raises ``TerminalError`` for a claim of more authority than this voice has."""
    for claim in claims:
        authority, uri = claim.source.authority, claim.source.uri
        if authority <= UNSIGNED_MAX:
            continue
        if not voice.is_signed:
            raise TerminalError(
                f"a fact of authority {authority} ({claim.predicate!r} of {claim.subject!r}) needs a signature: "
                f"say it with a key (--key), or with authority {UNSIGNED_MAX} at most"
            )
        if authority >= CANONICAL and not (voice.is_steward or voice.speaks_for(uri)):
            raise TerminalError(
                f"{voice.name} may not say what is canonical from {uri!r}: that needs the role {STEWARD_ROLE}, "
                f"or the role {SOURCE_ROLE} and a source that begins with '{voice.name}:'"
            )


def check_retraction(voice: Voice, facts: Iterable[Fact]) -> None:
    """Raises ``TerminalError`` for a fact that this voice may not retract."""
    for fact in facts:
        authority, uri = fact.source.authority, fact.source.uri
        if authority <= UNSIGNED_MAX or voice.is_steward:
            continue
        if not voice.is_signed:
            raise TerminalError(f"fact {fact.id} has authority {authority}: retract it with a key (--key)")
        if authority >= CANONICAL and not voice.speaks_for(uri):
            raise TerminalError(
                f"fact {fact.id} is canonical: only its source {uri!r} or a person with the role {STEWARD_ROLE} "
                "may retract it"
            )


def check_steward(voice: Voice, what: str) -> None:
    """Raises ``TerminalError`` unless a steward signed."""
    if not voice.is_steward:
        raise TerminalError(f"{voice.name} may not {what}: that needs a person's key with the role {STEWARD_ROLE}")
