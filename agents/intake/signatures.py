"""The signatures of webhooks: GitHub's, Stripe's, and those of Standard Webhooks; HMAC-SHA256 all of them.

Sources: docs.github.com, "Validating webhook deliveries"; docs.stripe.com, "Verify webhook signatures manually";
standardwebhooks.com, specification 1.0.0. The rule: every secret is tried, and each comparison takes the same time.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from mesh.errors import WorkmeshError

STANDARD_PREFIX = "whsec_"
_ID = re.compile(r"[A-Za-z0-9_\-.:~]{1,256}")


class UnsignedError(WorkmeshError):
    """No signature that counts; the message says what is wrong with it, and nothing of the secret."""


def check(
    scheme: str, body: bytes, headers: Mapping[str, str], secrets: Sequence[str], *, at: float, window_s: float
) -> None:
    """Hold a request against these secrets at the Unix time ``at``; header names are lower-case.

    Raises ``UnsignedError``. GitHub signs no time: there the same body is the same event, however often it comes.
    """
    if not secrets:
        raise UnsignedError("no secret is set for this source")
    _SCHEMES[scheme](body, headers, secrets, at, window_s)


def _github(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], at: float, window_s: float) -> None:
    given = _header(headers, "x-hub-signature-256").removeprefix("sha256=")
    _require(_hexes(body, secrets), [given], "x-hub-signature-256")


def _stripe(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], at: float, window_s: float) -> None:
    parts = [part.strip().partition("=") for part in _header(headers, "stripe-signature").split(",")]
    made = next((value for name, _, value in parts if name == "t"), "")
    _require_recent(made, at, window_s, "stripe-signature")
    given = [value for name, _, value in parts if name == "v1"]
    _require(_hexes(f"{made}.".encode() + body, secrets), given, "stripe-signature")


def _standard(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], at: float, window_s: float) -> None:
    made = _header(headers, "webhook-timestamp")
    _require_recent(made, at, window_s, "webhook-timestamp")
    name = _header(headers, "webhook-id")
    # What is signed is id.time.body: an id that could hold the beginning of a body would let another body be signed.
    if not _ID.fullmatch(name):
        raise UnsignedError("webhook-id: letters, digits, and _ - . : ~ are taken, at most 256")
    said = f"{name}.{made}.".encode() + body
    given = [value for part in _header(headers, "webhook-signature").split() if (value := part.removeprefix("v1,"))]
    keys = (_standard_key(secret) for secret in secrets)
    expected = (base64.b64encode(hmac.digest(key, said, sha256)).decode() for key in keys)
    _require(expected, given, "webhook-signature")


_SCHEMES: Mapping[str, Callable[[bytes, Mapping[str, str], Sequence[str], float, float], None]] = {
    "github": _github,
    "stripe": _stripe,
    "standard": _standard,
}


def _hexes(said: bytes, secrets: Iterable[str]) -> list[str]:
    return [hmac.digest(secret.encode(), said, sha256).hex() for secret in secrets]


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except binascii.Error as error:
        raise UnsignedError("a secret of this source is no base64, as Standard Webhooks has it") from error


def _header(headers: Mapping[str, str], name: str) -> str:
    if name not in headers:
        raise UnsignedError(f"the header {name} is missing")
    return headers[name]


def _require_recent(made: str, at: float, window_s: float, name: str) -> None:
    if not (made.isascii() and made.isdigit() and len(made) <= 12):
        raise UnsignedError(f"{name}: no Unix time is told")
    if abs(at - int(made)) > window_s:
        raise UnsignedError(f"{name}: signed {at - int(made):.0f} s ago; {window_s:.0f} are allowed")


def _require(expected: Iterable[str], given: Sequence[str], name: str) -> None:
    told = [value.encode("utf-8", "replace") for value in given]
    # No short cut: how long it takes says nothing of which secret or signature was near.
    matches = [hmac.compare_digest(wanted.encode(), value) for wanted in expected for value in told]
    if not any(matches):
        raise UnsignedError(f"{name}: the signature is not of this body by a secret of this source")
