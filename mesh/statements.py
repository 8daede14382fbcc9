"""Opening people's signed words: who says so, in which role, and that it is what stands on record."""

import msgspec

from mesh.errors import SignatureError
from mesh.records import AnyRecord, Approval, Statement
from mesh.signing import STATEMENT_TYPE, open_envelope
from mesh.trust import TrustDirectory, TrustEntry


def open_statement(signed: msgspec.Raw, trust: TrustDirectory) -> tuple[Statement, TrustEntry]:
    """What was said, and the entry of the person in force who said it; raises ``SignatureError``."""
    said, keyid = open_envelope(signed, STATEMENT_TYPE, Statement, lambda key: None)
    entry = trust.require(keyid, said.role)
    if entry.kind != "person":
        raise SignatureError(f"{entry.name} is a {entry.kind}: only a person may approve")
    if entry.name != said.person:
        raise SignatureError(f"the statement of {said.person} is signed by {entry.name}")
    return said, entry


def open_word(approval: AnyRecord, trust: TrustDirectory) -> Statement:
    """What was said in a record of the journal, verified again: what stands there proves nothing by itself."""
    if not isinstance(approval, Approval):
        raise SignatureError(f"a {approval.kind} holds no word of a person")
    said, _ = open_statement(approval.signed, trust)
    if said != approval.statement:
        raise SignatureError(f"the word of {approval.statement.person} on record is not what was signed")
    return said
