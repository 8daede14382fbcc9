"""What people and the policy service say to each other, in words; and signing a word on exactly what was shown."""

import secrets
from datetime import timedelta

from mesh import service
from mesh.approvals import Shown, WordAnswer, WordRequest
from mesh.bus import Bus
from mesh.clock import now
from mesh.identity import Identity
from mesh.money import money
from mesh.records import Change, LimitUse, Statement, Word
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


def limit_line(use: LimitUse) -> str:
    """What a plan takes of a limit over time, as people read it."""
    used, adds, cap = (f"{value} tasks" if use.unit == "tasks" else money(value, use.unit) for value in _values(use))
    return f"{'OVER ' if use.over else ''}{use.limit} of {use.key}: {used} + {adds} of {cap}"


def _values(use: LimitUse) -> tuple[int, int, int]:
    return use.used, use.adds, use.cap
