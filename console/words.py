"""Signing a person's word on exactly what was shown, and giving it to the policy service."""

import secrets
from datetime import timedelta

from mesh import service
from mesh.approvals import Shown, WordAnswer, WordRequest
from mesh.bus import Bus
from mesh.clock import now
from mesh.identity import Identity
from mesh.records import Change, Statement, Word
from mesh.signing import STATEMENT_TYPE, sign

# A word is said at once: a statement that was kept back this long is worth nothing.
_STATEMENT_S = 300.0


async def say(
    bus: Bus,
    person: Identity,
    shown: Shown,
    role: str,
    word: Word,
    *,
    comment: str = "",
    changes: tuple[Change, ...] = (),
) -> WordAnswer:
    """Sign a word on what was shown, and give it to the policy service; raises ``ServiceError`` when refused."""
    at = now()
    statement = Statement(
        task_id=shown.waiting.task_id,
        plan_digest=shown.plan_digest,
        purpose=shown.waiting.purpose,
        word=word,
        role=role,
        person=person.name,
        nonce=secrets.token_hex(16),
        at=at,
        expires_at=at + timedelta(seconds=_STATEMENT_S),
        step=shown.waiting.step,
        comment=comment,
        changes=changes,
    )
    request = WordRequest(signed=sign(statement, STATEMENT_TYPE, person))
    return await service.ask(bus, "policy", "say", request, WordAnswer, timeout_s=10)
