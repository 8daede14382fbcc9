"""Whose word a request is: the signature on it, held against trust.

The rule: a signed word is for one verb and one request, and counts once; what is signed is what is done.
"""

from typing import TypeVar

import msgspec

from memory_service import rights
from memory_service.folding import nonce_of
from memory_service.rights import Voice
from memory_service.view import FactView
from mesh.canonical import canonical_json
from mesh.clock import now
from mesh.errors import SignatureError, TerminalError
from mesh.facts import SOURCE_ROLE, Word, check_word
from mesh.memory import SAID_BEFORE, ForgetRequest, RelayRequest, RevokeRequest
from mesh.records import NULL, Json
from mesh.signing import MEMORY_TYPE, open_envelope
from mesh.trust import TrustDirectory, TrustEntry

R = TypeVar("R", bound=msgspec.Struct)


class Voices:
    """Opens the words of signed requests."""

    def __init__(self, trust: TrustDirectory, view: FactView) -> None:
        self._trust = trust
        self._view = view

    def of(self, signed: Json, verb: str, request: msgspec.Struct, *, by: str) -> Voice:
        """The voice of a request that may be signed; unsigned it is ``by``, unproven.

        Raises ``TerminalError`` for a signature that does not stand for this very request.
        """
        if bytes(signed) == bytes(NULL):
            return Voice(by)
        word, entry = self._open(signed, verb)
        unsigned = msgspec.structs.replace(request, signed=NULL)
        if canonical_json(word.request) != canonical_json(unsigned):
            raise TerminalError(f"{word.person} signed another {verb} than this one: sign what is asked")
        return rights.voice_of(entry)

    def steward(self, signed: Json, verb: str, model: type[R]) -> tuple[Voice, R]:
        """The voice and the request of a word that only a steward may say."""
        word, entry = self._open(signed, verb)
        voice = rights.voice_of(entry)
        rights.check_steward(voice, verb)
        self.check_unused(signed)
        return voice, _request_of(word, verb, model)

    def revoker(self, signed: Json) -> tuple[Voice, RevokeRequest]:
        """The voice and the request of a word that a source is not to be believed: a steward's, or its own key's."""
        word, entry = self._open(signed, "revoke")
        voice, said = rights.voice_of(entry), _request_of(word, "revoke", RevokeRequest)
        if not voice.speaks_for(said.source):
            rights.check_steward(voice, "revoke")
        self.check_unused(signed)
        return voice, said

    def relayed(self, request: RelayRequest) -> tuple[Voice, ForgetRequest]:
        """The steward's voice and wish in a word that was said at the hub, and that a source's key vouches for here."""
        vouch, source = self._open(request.vouched, "relay")
        if SOURCE_ROLE not in source.roles:
            raise TerminalError(f"{source.name} may not relay a word: that needs a key with the role {SOURCE_ROLE}")
        if canonical_json(vouch.request) != canonical_json(msgspec.structs.replace(request, vouched=NULL)):
            raise TerminalError(f"{source.name} vouches for another word than this one")
        word, entry = self._open(request.signed, "forget", in_time=False)
        voice = rights.voice_of(entry)
        rights.check_steward(voice, "forget")
        self.check_unused(request.signed)
        return voice, _request_of(word, "forget", ForgetRequest)

    def check_unused(self, signed: Json) -> None:
        """Raises ``TerminalError`` for a word that an event rests on already."""
        if self._view.is_used(nonce_of(signed)):
            raise TerminalError(SAID_BEFORE)

    def _open(self, signed: Json, verb: str, *, in_time: bool = True) -> tuple[Word, TrustEntry]:
        try:
            word, keyid = open_envelope(signed, MEMORY_TYPE, Word, lambda key: None)
            entry = self._entry(keyid, word.person)
            check_word(word, verb, now() if in_time else word.at)
        except SignatureError as error:
            raise TerminalError(str(error)) from error
        return word, entry

    def _entry(self, keyid: str, person: str) -> TrustEntry:
        entries = [entry for entry in self._trust.entries() if entry.public_key == keyid]
        if not entries:
            raise SignatureError(f"key {keyid} is not enrolled: `workmesh keys enroll` it")
        if revoked := next((entry for entry in entries if entry.revoked_at is not None), None):
            raise SignatureError(f"key {keyid} of {revoked.name} was revoked: sign with a key in force")
        entry = next((entry for entry in entries if entry.name == person), None)
        if entry is None:
            raise SignatureError(f"key {keyid} is {entries[0].name}'s, not {person}'s")
        return entry


def _request_of(word: Word, verb: str, model: type[R]) -> R:
    try:
        return msgspec.json.decode(word.request, type=model)
    except msgspec.DecodeError as error:
        raise TerminalError(f"the signed request to {verb} is not well formed: {error}") from error
