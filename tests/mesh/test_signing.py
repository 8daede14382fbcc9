"""Envelopes: what was signed is what is read, by a key that may sign it, and nothing else is accepted."""

import base64
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer._key import Key, SSlibKey

from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.records import Permit, Purpose, Statement, Verdict, Word
from mesh.signing import PERMIT_TYPE, STATEMENT_TYPE, open_envelope, pae, sign

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _identity(name: str) -> Identity:
    return Identity.create(Path(tempfile.mkdtemp()) / "key.nk", name)


ALICE, BOB = _identity("alice"), _identity("bob")

PERMIT = Permit(
    id="p1",
    task_id="t1",
    domain="retail",
    plan_digest="sha256:aa",
    verdict=Verdict.ALLOW,
    steps=("refund",),
    bundle="sha256:bb",
    approved_by=(),
    issued_at=NOW,
    expires_at=NOW,
)
STATEMENT = Statement(
    task_id="t1",
    plan_digest="sha256:aa",
    purpose=Purpose.PLAN,
    word=Word.APPROVE,
    role="manager",
    person="alice",
    nonce="n",
    at=NOW,
    expires_at=NOW,
)


def anyone(_keyid: str) -> None:
    """Accept every key."""


def opened(envelope: dict[str, Any]) -> Permit:
    """The permit in an envelope given as plain values."""
    return open_envelope(msgspec.Raw(json.dumps(envelope).encode()), PERMIT_TYPE, Permit, anyone)[0]


def plain() -> dict[str, Any]:
    """A right envelope as plain values."""
    found: dict[str, Any] = json.loads(bytes(sign(PERMIT, PERMIT_TYPE, ALICE)))
    return found


def signed_over(payload: bytes, payload_type: str = PERMIT_TYPE) -> dict[str, Any]:
    """An envelope rightly signed over any bytes."""
    signature = base64.b64encode(ALICE.sign(pae(payload_type, payload))).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": ALICE.public_key, "sig": signature}],
    }


def test_what_was_signed_is_what_is_read() -> None:
    assert open_envelope(sign(PERMIT, PERMIT_TYPE, ALICE), PERMIT_TYPE, Permit, anyone) == (PERMIT, ALICE.public_key)
    envelope = sign(STATEMENT, STATEMENT_TYPE, BOB)
    assert open_envelope(envelope, STATEMENT_TYPE, Statement, anyone) == (STATEMENT, BOB.public_key)


def test_the_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_securesystemslib_verifies_our_envelopes() -> None:
    raw = base64.b32decode(ALICE.public_key)[1:-2]
    key: Key = SSlibKey(ALICE.public_key, "ed25519", "ed25519", {"public": raw.hex()})
    envelope = Envelope.from_dict(plain())
    assert envelope.verify([key], 1) == {ALICE.public_key: key}


@pytest.mark.parametrize("part", ["payload", "signature"])
@given(data=st.data())
def test_any_changed_character_of_payload_or_signature_is_refused(part: str, data: st.DataObject) -> None:
    envelope = plain()
    text: str = envelope["payload"] if part == "payload" else envelope["signatures"][0]["sig"]
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda letter: letter != text[at]))
    changed = text[:at] + other + text[at + 1 :]
    if part == "payload":
        envelope["payload"] = changed
    else:
        envelope["signatures"][0]["sig"] = changed
    with pytest.raises(SignatureError):
        opened(envelope)


@given(st.integers(0, len(bytes(sign(PERMIT, PERMIT_TYPE, ALICE))) - 1))
def test_a_truncated_envelope_is_refused(length: int) -> None:
    envelope = bytes(sign(PERMIT, PERMIT_TYPE, ALICE))[:length]
    with pytest.raises(SignatureError):
        open_envelope(envelope, PERMIT_TYPE, Permit, anyone)


def test_a_signature_of_another_payload_is_refused() -> None:
    envelope = plain()
    other = json.loads(bytes(sign(msgspec.structs.replace(PERMIT, id="p2"), PERMIT_TYPE, ALICE)))
    envelope["signatures"] = other["signatures"]
    with pytest.raises(SignatureError, match="does not verify"):
        opened(envelope)


def test_a_signature_under_another_key_is_refused() -> None:
    envelope = plain()
    envelope["signatures"][0]["keyid"] = BOB.public_key
    with pytest.raises(SignatureError, match="does not verify"):
        opened(envelope)


def test_a_signed_statement_is_no_permit() -> None:
    envelope = sign(STATEMENT, STATEMENT_TYPE, ALICE)
    with pytest.raises(SignatureError, match=r"statement\+json stands where"):
        open_envelope(envelope, PERMIT_TYPE, Permit, anyone)


@pytest.mark.parametrize("count", [0, 2])
def test_none_or_several_signatures_are_refused(count: int) -> None:
    envelope = plain()
    envelope["signatures"] = envelope["signatures"] * count
    with pytest.raises(SignatureError, match=f"{count} signatures"):
        opened(envelope)


def test_a_key_that_may_not_sign_this_is_refused() -> None:
    def only_bob(keyid: str) -> None:
        if keyid != BOB.public_key:
            raise SignatureError("only bob")

    with pytest.raises(SignatureError, match="only bob"):
        open_envelope(sign(PERMIT, PERMIT_TYPE, ALICE), PERMIT_TYPE, Permit, only_bob)


def test_unknown_fields_of_the_envelope_are_refused() -> None:
    with pytest.raises(SignatureError):
        opened(plain() | {"note": "hello"})


def test_unknown_fields_of_a_signed_payload_are_refused_at_any_depth() -> None:
    payload = msgspec.to_builtins(PERMIT)
    payload["obligations"] = [{"name": "notify", "value": "", "unless": "night"}]
    with pytest.raises(SignatureError, match=r"obligations\[0\]\.unless"):
        opened(signed_over(json.dumps(payload).encode()))


def test_a_payload_without_a_field_that_has_a_default_is_read() -> None:
    payload = msgspec.to_builtins(PERMIT)
    del payload["obligations"]
    assert opened(signed_over(json.dumps(payload).encode())) == PERMIT


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{}", b'{"id":1}', b"\xff"])
def test_a_signed_payload_of_another_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(SignatureError):
        opened(signed_over(payload))
