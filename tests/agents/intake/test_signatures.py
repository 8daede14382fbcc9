"""The signatures of webhooks, held against the vectors of those who define them."""

import base64
import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.intake.signatures import UnsignedError, check

AT = 1_700_000_000.0
# docs.github.com, "Testing the webhook payload validation"
GITHUB = ("It's a Secret to Everybody", b"Hello, World!")
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def held(scheme: str, body: bytes, headers: dict[str, str], *secrets: str, at: float = AT) -> None:
    check(scheme, body, headers, secrets, at=at, window_s=300)


def test_githubs_own_example_counts_and_no_other_body_does() -> None:
    secret, body = GITHUB
    held("github", body, {"x-hub-signature-256": GITHUB_SIGNATURE}, "another", secret)
    with pytest.raises(UnsignedError, match="not of this body"):
        held("github", body + b" ", {"x-hub-signature-256": GITHUB_SIGNATURE}, secret)
    with pytest.raises(UnsignedError, match="no secret is set"):
        held("github", body, {"x-hub-signature-256": GITHUB_SIGNATURE})


def standard(body: bytes, secret: str, at: float = AT) -> dict[str, str]:
    said = f"msg_1.{at:.0f}.".encode() + body
    value = base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), said, sha256)).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": f"{at:.0f}", "webhook-signature": f"v1a,x v1,{value}"}


def test_standard_webhooks_sign_id_time_and_body() -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    headers = standard(b"{}", secret)
    held("standard", b"{}", headers, secret)
    for name, value in (("webhook-id", "msg_2"), ("webhook-timestamp", f"{AT - 1:.0f}"), ("webhook-signature", "v1,")):
        with pytest.raises(UnsignedError):
            held("standard", b"{}", {**headers, name: value}, secret)
    with pytest.raises(UnsignedError, match="no base64"):
        held("standard", b"{}", headers, "whsec_*")


@pytest.mark.parametrize("late", [-301, 301, 10**9])
def test_what_was_signed_long_ago_or_will_be_counts_for_nothing(late: int) -> None:
    secret = base64.b64encode(b"k" * 24).decode()
    with pytest.raises(UnsignedError, match="300 are allowed"):
        held("standard", b"{}", standard(b"{}", secret), secret, at=AT + late)


@given(
    st.sampled_from(["github", "stripe", "standard"]),
    st.dictionaries(
        st.sampled_from(
            ["x-hub-signature-256", "stripe-signature", "webhook-id", "webhook-timestamp", "webhook-signature"]
        ),
        st.one_of(st.text(max_size=40), st.just(f"t={AT:.0f},v1=00"), st.just(f"{AT:.0f}")),
    ),
)
def test_no_headers_pass_by_chance_and_none_is_an_error_of_ours(scheme: str, headers: dict[str, str]) -> None:
    with pytest.raises(UnsignedError):
        held(scheme, b"body", headers, "c2VjcmV0")
