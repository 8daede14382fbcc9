"""Signed notes and checkpoints: the examples of other implementations, and every line that could be bent."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.merkle import EMPTY_ROOT
from mesh.signed_note import LogCheckpoint, VerifierKey, open_note, sign_note, unverified

# The example of golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ORIGIN = "example.com/log"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity.create(tmp_path_factory.mktemp("keys") / "auditor.nk", "auditor")


def test_a_note_of_gos_implementation_opens_with_gos_key() -> None:
    key = VerifierKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    assert open_note(GO_NOTE, [key]) == (GO_TEXT, (key,))
    with pytest.raises(SignatureError, match="does not verify"):
        open_note(GO_NOTE.replace("your problem is", "my problem is"), [key])


def test_a_checkpoint_is_signed_and_opened(signer: Identity) -> None:
    found = LogCheckpoint(ORIGIN, 7, EMPTY_ROOT, ("an extension",))
    key = VerifierKey.of(ORIGIN, signer.public_key)
    note = found.signed(signer)
    assert LogCheckpoint.open(note, [VerifierKey.parse(str(key))]) == unverified(note) == found
    assert note == found.signed(signer)  # the same bytes again


def test_a_checkpoint_of_another_log_or_key_is_refused(signer: Identity, tmp_path: Path) -> None:
    key = VerifierKey.of(ORIGIN, signer.public_key)
    stranger = Identity.create(tmp_path / "stranger.nk", "stranger")
    text = LogCheckpoint(ORIGIN, 7, EMPTY_ROOT).text()
    with pytest.raises(SignatureError, match="none of the known keys"):
        LogCheckpoint.open(sign_note(text, ORIGIN, stranger), [key])
    witness = VerifierKey.of("witness.example", stranger.public_key)
    with pytest.raises(SignatureError, match="is signed as witness"):
        LogCheckpoint.open(sign_note(text, "witness.example", stranger), [key, witness])
    both = sign_note(text, ORIGIN, signer) + sign_note(text, "witness.example", stranger).rpartition("\n\n")[2]
    assert LogCheckpoint.open(both, [key]).size == 7  # a signature of an unknown key is passed over


@given(st.data())
def test_no_character_of_a_note_can_change(signer: Identity, data: st.DataObject) -> None:
    key = VerifierKey.of(ORIGIN, signer.public_key)
    note = LogCheckpoint(ORIGIN, 12, EMPTY_ROOT).signed(signer)
    place = data.draw(st.integers(0, len(note) - 1))
    char = data.draw(st.characters(codec="utf-8").filter(lambda char: char != note[place]))
    with pytest.raises(SignatureError):
        LogCheckpoint.open(note[:place] + char + note[place + 1 :], [key])


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n07\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        f"{ORIGIN}\n-7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        f"{ORIGIN}\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        f"{ORIGIN}\n7\nAAAA\n",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
        f"{ORIGIN}\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(SignatureError, match="not a checkpoint"):
        LogCheckpoint.parse(text)


@pytest.mark.parametrize("origin", ["", "two\nlines", "tab\there"])
def test_an_origin_that_would_read_as_something_else_is_not_written(origin: str) -> None:
    with pytest.raises(ValueError, match="lines of a checkpoint"):
        LogCheckpoint(origin, 1, EMPTY_ROOT).text()


@pytest.mark.parametrize(
    "key", ["", "a+b", "name+00000000+" + GO_KEY.rpartition("+")[2], "PeterNeumann+c74f20a3+ARpc2Q==", GO_KEY[:-1]]
)
def test_a_text_that_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"is no Ed25519 verifier key|has the key id"):
        VerifierKey.parse(key)
