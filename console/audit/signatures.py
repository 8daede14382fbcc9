"""The signatures inside of records: permits by policy, words by people, against the keys that the root enrolled."""

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mesh.errors import SignatureError
from mesh.records import AnyRecord, Approval, Decision, Json, Permit, Statement
from mesh.signing import PERMIT_TYPE, STATEMENT_TYPE, open_envelope
from mesh.trust import TrustDirectory, TrustEntry

T = TypeVar("T", bound=msgspec.Struct)

_UNKNOWN = "the key is not enrolled"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: whose, and why it does not hold (nothing when it does)."""

    signer: TrustEntry | None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is the right person's or process's over what the record says."""
        return not self.problem

    @property
    def is_unknown(self) -> bool:
        """Whether nobody who is enrolled now has the key: it may be a former one."""
        return self.problem == _UNKNOWN


def signature_of(record: AnyRecord, directory: TrustDirectory) -> Signature | None:
    """The check of a record's own signature, or ``None`` when its kind has none."""
    match record:
        case Approval(statement=statement, signed=signed):
            return _check(signed, STATEMENT_TYPE, statement, directory, "person", statement.role, statement.person)
        case Decision(signed=signed) if bytes(signed) not in (b"", b"null"):
            found = _opened(signed, PERMIT_TYPE, Permit, directory)
            if isinstance(found, str):
                return Signature(None, found)
            permit, signer = found
            if (permit.task_id, permit.plan_digest, permit.verdict, permit.bundle) != (
                record.header.task_id,
                record.plan_digest,
                record.verdict,
                record.bundle,
            ):
                return Signature(signer, "what was signed is not what the record says")
            return _entitled(signer, "agent", "policy", "")
    return None


def _check(
    signed: Json, kind: str, said: Statement, directory: TrustDirectory, of: str, role: str, name: str
) -> Signature:
    found = _opened(signed, kind, Statement, directory)
    if isinstance(found, str):
        return Signature(None, found)
    statement, signer = found
    if statement != said:
        return Signature(signer, "what was signed is not what the record says")
    return _entitled(signer, of, role, name)


def _entitled(signer: TrustEntry | None, kind: str, role: str, name: str) -> Signature:
    if signer is None:
        return Signature(None, _UNKNOWN)
    if signer.kind != kind or role not in signer.roles or (name and signer.name != name):
        return Signature(
            signer, f"the key is that of {signer.name}, with the roles {', '.join(signer.roles) or 'none'}"
        )
    return Signature(signer)


def _opened(signed: Json, kind: str, model: type[T], directory: TrustDirectory) -> tuple[T, TrustEntry | None] | str:
    try:
        payload, keyid = open_envelope(signed, kind, model, lambda _key: None)
    except SignatureError as error:
        return str(error)
    signer = next((entry for entry in directory.entries() if entry.public_key == keyid), None)
    return payload, signer
