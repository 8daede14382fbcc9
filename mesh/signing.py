"""DSSE envelopes (github.com/secure-systems-lab/dsse, v1.0.2): one payload, one type, one Ed25519 signature.

The rule: nothing of a payload is looked at before its signature has been verified. Written out here, because
``securesystemslib`` costs 60 ms and 9 MB a process and accepts more than one form of an envelope; tests hold the
two against each other.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from mesh.canonical import canonical_json
from mesh.errors import SignatureError
from mesh.identity import Identity, verify_signature

PERMIT_TYPE: Final = "application/vnd.workmesh.permit+json"
STATEMENT_TYPE: Final = "application/vnd.workmesh.statement+json"
BUNDLE_TYPE: Final = "application/vnd.workmesh.bundle+json"
ACTIVATION_TYPE: Final = "application/vnd.workmesh.activation+json"
STAGE_TYPE: Final = "application/vnd.workmesh.stage+json"
LEARNED_TYPE: Final = "application/vnd.workmesh.learned+json"
TRUST_TYPE: Final = "application/vnd.workmesh.trust+json"
MEMORY_TYPE: Final = "application/vnd.workmesh.memory+json"
CONTROL_TYPE: Final = "application/vnd.workmesh.control+json"
LINK_TYPE: Final = "application/vnd.workmesh.link+json"
BACKUP_TYPE: Final = "application/vnd.workmesh.backup+json"

T = TypeVar("T", bound=msgspec.Struct)


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


_decoder = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="sorted")


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: msgspec.Struct, payload_type: str, identity: Identity) -> msgspec.Raw:
    """The envelope, as JSON, over the canonical JSON of ``payload``; its ``keyid`` is the public key."""
    data = canonical_json(payload)
    signature = _Signature(keyid=identity.public_key, sig=_text(identity.sign(pae(payload_type, data))))
    return msgspec.Raw(_encoder.encode(_Envelope(_text(data), payload_type, (signature,))))


def open_envelope(
    envelope: msgspec.Raw | bytes, payload_type: str, model: type[T], accept: Callable[[str], object]
) -> tuple[T, str]:
    """The payload and the key that signed it.

    ``accept(keyid)`` raises ``SignatureError`` when that key may not sign this. Raises ``SignatureError`` for anything
    but one right signature over one payload of this type that ``model`` knows every field of.
    """
    try:
        parsed = _decoder.decode(envelope)
    except msgspec.DecodeError as error:
        raise SignatureError(f"not an envelope of {payload_type}: {error}") from error
    if parsed.payload_type != payload_type:
        raise SignatureError(f"an envelope of {parsed.payload_type} stands where {payload_type} is expected")
    if len(parsed.signatures) != 1:
        raise SignatureError(f"an envelope of {payload_type} has {len(parsed.signatures)} signatures: expected one")
    keyid = parsed.signatures[0].keyid
    data = _bytes(parsed.payload, "payload")
    signature = _bytes(parsed.signatures[0].sig, "signature")
    accept(keyid)
    if not verify_signature(keyid, signature, pae(payload_type, data)):
        raise SignatureError(f"the signature of {keyid} over {payload_type} does not verify: ask for a new one")
    return _payload(data, payload_type, model), keyid


def _payload(data: bytes, payload_type: str, model: type[T]) -> T:
    try:
        value = msgspec.json.decode(data, type=model)
        if _sorted_encoder.encode(value) == data:
            return value  # it says all that was sent, as ``sign`` writes it
        unknown = _unknown(msgspec.json.decode(data), msgspec.json.decode(_encoder.encode(value)))
    except msgspec.DecodeError as error:
        raise SignatureError(f"the signed payload is no {payload_type}: {error}") from error
    if unknown:
        raise SignatureError(f"the signed {payload_type} has the field {unknown}, unknown here: upgrade this process")
    return value


def _unknown(sent: Any, understood: Any, path: str = "") -> str:
    """The first field of ``sent`` that is lost in ``understood``, or nothing."""
    if isinstance(sent, dict) and isinstance(understood, dict):
        if lost := next((key for key in sent if key not in understood), None):
            return f"{path}.{lost}".lstrip(".")
        pairs = [(value, understood[key], f"{path}.{key}") for key, value in sent.items()]
    elif isinstance(sent, list) and isinstance(understood, list):
        pairs = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(sent, understood, strict=False))]
    else:
        return ""
    return next((found for found in (_unknown(*pair) for pair in pairs) if found), "")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str, what: str) -> bytes:
    """Strict base64: one text for one value, so that no character of an envelope can change unseen."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if _text(data) != text:
        raise SignatureError(f"the {what} of an envelope is not base64")
    return data
